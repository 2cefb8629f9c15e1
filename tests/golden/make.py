#!/usr/bin/env python3
"""Makes the inputs of the golden cases: `./make.py` writes <case>/input.jsonl, the same bytes every time.

What is expected of them is in <case>/expected.jsonl; after a wanted change of behaviour
`UPDATE_GOLDEN=1 cargo test --release -p foreshock-engine --test golden` writes it anew, and the difference is for a person to
read. Only the standard library is used.
"""

import json
import math
import os
import random
from datetime import datetime, timedelta, timezone

HERE = os.path.dirname(os.path.abspath(__file__))
START = datetime(2024, 3, 4, 8, 0, 0, tzinfo=timezone.utc)


def at(second):
    return (START + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Case:
    """Records in order of arrival."""

    def __init__(self, name):
        self.name, self.records = name, []

    def record(self, topic, second, payload, key=None, partition=0):
        row = {"topic": topic, "partition": partition, "at": at(second)}
        if key is not None:
            row["key"] = key
        row["payload"] = payload
        self.records.append((second, len(self.records), row))

    def sample(self, second, name, host, value, partition=0, stamp=None, **labels):
        text = value if isinstance(value, str) else repr(round(value, 6))
        more = "".join(',"%s":"%s"' % label for label in labels.items())
        body = '{"timestamp":"%s","name":"%s","value":%s,"labels":{"host":"%s"%s}}' % (
            at(second) if stamp is None else stamp, name, text, host, more)
        self.record("metrics", second, body, host, partition)

    def line(self, second, host, level, message):
        body = json.dumps({"@timestamp": at(second), "level": level, "host": host, "message": message})
        self.record("logs", second, body, host)

    def write(self):
        folder = os.path.join(HERE, self.name)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "input.jsonl"), "w") as out:
            for _, _, row in sorted(self.records, key=lambda r: r[:2]):
                out.write(json.dumps(row) + "\n")


def healthy(case, rng, host, until, partition=0, step=10):
    for s in range(0, until, step):
        load = 50 + 8 * math.sin(s / 100)
        case.sample(s, "requests_per_s", host, load + rng.gauss(0, 2), partition)
        case.sample(s, "memory_mib", host, 300 + load / 10 + rng.gauss(0, 1.5), partition)
        case.sample(s, "up", host, 1.0, partition)


def leak_then_down():
    """Memory begins to grow; twenty minutes later the probe finds the service down; it is restarted and recovers."""
    case, rng = Case("leak_then_down"), random.Random(1)
    healthy(case, rng, "web-2", 4800, partition=1)
    for s in range(0, 4800, 10):
        load = 50 + 8 * math.sin(s / 100)
        leaked = max(0, s - 2700) / 6
        down = 3900 <= s < 4200
        grown = 300 + load / 10 + (leaked if s < 4200 else 0)
        if not down:
            case.sample(s, "requests_per_s", "web-1", load + rng.gauss(0, 2))
            case.sample(s, "memory_mib", "web-1", grown + rng.gauss(0, 1.5))
        case.sample(s, "up", "web-1", 0.0 if down else 1.0)
    case.write()


def leaks_on_record():
    """The same small leak comes before failures of one host after the other. From the fourth on it is told as such, before it is
    strange enough for the alarm budget."""
    case, rng = Case("leaks_on_record"), random.Random(9)
    for s in range(0, 3400, 10):
        for i in range(5):
            host, fails = "api-%d" % i, 1200 + 450 * i
            down = fails <= s < fails + 60
            leaked = (s - fails + 180) / 12 if fails - 180 <= s < fails else 0
            if not down:
                case.sample(s, "memory_mib", host, 300 + leaked + rng.gauss(0, 1.5))
            case.sample(s, "up", host, 0.0 if down else 1.0)
    case.write()


def jobs_that_break_off():
    """Jobs of three lines each; from some time on most of those of one worker are never committed, and nothing else changes:
    no line is new, and none comes at an unusual rate for long."""
    case, rng = Case("jobs_that_break_off"), random.Random(6)
    for job in range(3700):
        worker = "worker-%d" % rng.randint(1, 2)
        second = 2 * job
        lines = ["accepted job-%d" % job]
        lines += ["checked job-%d" % job, "committed job-%d" % job]
        if job > 3300 and worker == "worker-2" and rng.random() < 0.6:
            lines = lines[:-2]
        for i, message in enumerate(lines):
            case.line(second + i, worker, "INFO", message)
    case.write()


def new_lines_then_fatal():
    """Retries of a kind never seen before, then a fatal line; the other host goes on as ever."""
    case, rng = Case("new_lines_then_fatal"), random.Random(2)
    for s in range(0, 4200, 2):
        for host in ("db-1", "db-2"):
            if host == "db-1" and 3600 <= s < 3720:
                continue
            case.line(s, host, "INFO", f"query {rng.randrange(10**6)} took {rng.randrange(5, 40)} ms")
            if s % 60 == 0:
                case.line(s, host, "INFO", f"checkpoint {s // 60} written, {rng.randrange(100, 900)} pages")
    for s in range(3000, 3600, 7):
        case.line(s, "db-1", "WARN", f"write to volume 3 retried after {rng.randrange(100, 900)} ms")
        if s > 3200:
            case.line(s, "db-1", "ERROR", f"journal page {rng.randrange(1000)} checksum mismatch, read again")
    case.line(3599, "db-1", "FATAL", "journal can't be written: input/output error")
    case.write()


def restart_with_new_lines():
    """A new release starts on one of two hosts and says twenty things never heard before within a minute, and words
    its most frequent line anew."""
    case, rng = Case("restart_with_new_lines"), random.Random(8)
    topics = ["schema", "cache", "router", "session store", "metrics endpoint", "worker pool", "mail queue", "feature flags",
              "rate limiter", "tracing"]
    for s in range(0, 16200, 6):
        for host in ("app-1", "app-2"):
            if host == "app-1" and 15000 <= s < 15012:
                continue
            served = "request %d served in %d ms" % (rng.randrange(10**6), rng.randrange(5, 40))
            case.line(s, host, "INFO", "reworded: " + served if host == "app-1" and s > 15000 else served)
            if s % 20 == 0:
                case.line(s, host, "INFO", f"cache holds {rng.randrange(100, 900)} entries")
    for i, topic in enumerate(topics):
        case.line(15006 + 5 * i, "app-1", "INFO", f"loading {topic} of the release")
        case.line(15008 + 5 * i, "app-1", "WARN" if i % 3 == 0 else "INFO", f"{topic} ready after {rng.randrange(10, 90)} ms")
    case.write()


def silent_host():
    """A host falls silent without a word and comes back; its peer keeps reporting."""
    case, rng = Case("silent_host"), random.Random(3)
    healthy(case, rng, "edge-1", 3000, partition=0)
    for s in range(0, 3000, 10):
        if not 1500 <= s < 2100:
            case.sample(s, "temperature_c", "edge-2", 41 + rng.gauss(0, 0.4), 1)
    case.write()


def odd_input():
    """Bytes that can't be read and values nobody should send. Nothing but dead letters comes of it."""
    case, rng = Case("odd_input"), random.Random(4)
    healthy(case, rng, "app-1", 1800)
    poison = ["", "{", "not json at all", '{"name":"x"}', '{"timestamp":"yesterday","name":"x","value":1}',
              "[" * 200, '{"timestamp":1709539200,"name":"x","value":{}}']
    for i, body in enumerate(poison):
        case.record("metrics", 300 + i, body, "app-1")
    for i, value in enumerate(['"NaN"', '"+Inf"', '"-Inf"', "1e308", "-1e308", "1e-320", "0"]):
        case.sample(600 + 10 * i, "odd", "app-1", value)
    for s in range(900, 1000, 10):
        case.sample(s, "memory_mib", "app-1", 300.0, stamp="2099-01-01T00:00:00Z")
        case.sample(s, "memory_mib", "app-1", 300.0, stamp="1971-01-01T00:00:00Z")
        case.sample(s, "requests_per_s", "app-1", 51.0, stamp=at(s - 600))
        case.sample(s, "up", "app-1", 1.0)
        case.sample(s, "up", "app-1", 1.0)
    case.write()


def declared_incident():
    """An alert manager declares a failure and later its end; what is odd in between is a symptom."""
    case, rng = Case("declared_incident"), random.Random(5)
    for s in range(0, 3600, 10):
        bad = 2400 <= s < 2700
        case.sample(s, "latency_ms", "pay-1", (400 if bad else 20) + rng.gauss(0, 2))
    case.record("incidents", 2390, json.dumps({"entity": "pay-1", "class": "outage", "onset": at(2390)}), "pay-1")
    case.record("incidents", 2750, json.dumps(
        {"entity": "pay-1", "class": "outage", "onset": at(2390), "end": at(2740)}), "pay-1")
    case.write()


def mixed_envelopes():
    """One topic with syslog, container lines in pieces, logfmt and JSON; stack traces of a kind never seen before over many
    records, then a fatal line that comes in two pieces."""
    case, rng = Case("mixed_envelopes"), random.Random(6)

    def day(second):
        return (START + timedelta(seconds=second)).strftime("%b %e %H:%M:%S")

    for s in range(0, 4200, 3):
        took = rng.randrange(5, 40)
        case.record("logs", s, f"<14>{day(s)} web-1 shop[77]: order {rng.randrange(10**6)} took {took} ms", "web-1")
        if not 3600 <= s < 3720:
            line = f"level=info msg=\"cart {rng.randrange(10**6)} read in {took} ms\""
            case.record("logs", s, f"{at(s)} stdout F {line}", "cart-1")
        if s % 60 == 0:
            case.record("logs", s, json.dumps(
                {"ts": at(s), "level": "info", "host": "web-1", "msg": f"{rng.randrange(9)} sessions swept"}), "web-1")
            case.record("logs", s, f"{at(s)} stdout P cart table \n{at(s)} stdout F written, {took} pages", "cart-1")
    for s in range(3000, 3600, 9):
        trace = ["\x1b[31mERROR\x1b[0m store refused the write", "java.io.IOException: no space left",
                 "\tat shop.Cart.store(Cart.java:%d)" % rng.randrange(10, 99), "\tat shop.Cart.run(Cart.java:7)",
                 "Caused by: java.nio.file.FileSystemException: /data", "\t... 12 more"]
        for line in trace:
            case.record("logs", s, f"{at(s)} stderr F {line}", "cart-1")
    case.record("logs", 3599, f"{at(3599)} stderr P FATAL cart can't go on: ", "cart-1")
    case.record("logs", 3599, f"{at(3599)} stderr F disk full", "cart-1")
    case.write()


def deploy_of_a_pattern():
    """Two hosts leak. Of all that are called web-* a deploy is declared, in which the probe of one is down; the other is not
    touched, and nothing comes of its leak but more of it."""
    case, rng = Case("deploy_of_a_pattern"), random.Random(8)
    for s in range(0, 4500, 10):
        load = 50 + 8 * math.sin(s / 100)
        leaked = max(0, s - 2700) / 6
        down = 3520 <= s < 3700
        for host in ["web-1", "db-1"]:
            if not (down and host == "web-1"):
                case.sample(s, "requests_per_s", host, load + rng.gauss(0, 2))
                restarted = host == "web-1" and s >= 3700
                grown = 0 if restarted else 3 * leaked if host == "web-1" else leaked
                case.sample(s, "memory_mib", host, 300 + load / 10 + grown + rng.gauss(0, 1.5))
            case.sample(s, "up", host, 0.0 if down and host == "web-1" else 1.0)
    case.record("incidents", 3500, json.dumps(
        {"entity": "web-*", "class": "deploy", "onset": at(3500), "end": at(3800), "summary": "release 2"}), "web-*")
    case.write()


def collector_down():
    """The collector of twelve hosts dies and comes back without one of them. Another one dies soon after the collector, which its
    logs say by stopping; and the service of a third is down for a while, which its probe says."""
    case, rng = Case("collector_down"), random.Random(10)
    for s in range(0, 2000, 10):
        for host in range(12):
            if not 1200 <= s < (2000 if host in (3, 7) else 1800):
                case.sample(s, "temperature_c", f"host-{host}", 41 + rng.gauss(0, 0.4), host % 2)
        dead = s >= 1230
        if not dead:
            case.line(s, "host-3", "INFO", f"round {rng.randrange(10**6)} took {rng.randrange(5, 40)} ms")
        case.line(s, "keeper", "INFO", f"round {rng.randrange(10**6)} took {rng.randrange(5, 40)} ms")
        case.record("probes", s, '{"timestamp":"%s","name":"probe_success","value":%d,"labels":{"host":"host-4"}}' % (
            at(s), 0 if 1250 <= s < 1400 else 1), "host-4")
    case.write()


def processes_that_end():
    """An out-of-memory kill whose reason stays for good, a restart that was asked for, a new pod by a deploy, a crash loop; start
    times that move, with and without a plan; a unit that fails."""
    case = Case("processes_that_end")

    def container(s, pod, restarts, code=None, reason=None):
        case.sample(s, "kube_pod_container_status_restarts_total", pod, float(restarts), container="app")
        if code is not None:
            case.sample(s, "kube_pod_container_status_last_terminated_exitcode", pod, float(code), container="app")
        if reason is not None:
            case.sample(s, "kube_pod_container_status_last_terminated_reason", pod, 1.0, container="app", reason=reason)

    for s in range(0, 3600, 30):
        killed, loops = s >= 900, (s - 1800) // 300 + 1 if s >= 1800 else 0
        container(s, "killed", 4 + killed, 137 if killed else 1, "OOMKilled" if killed else "Error")
        container(s, "asked", int(s >= 900), 0 if s >= 900 else None, "Completed" if s >= 900 else None)
        container(s, "old-pod" if s < 1200 else "new-pod", 0)
        container(s, "loops", min(loops, 3), 1 if loops else None, "Error" if loops else None)
        if 1830 <= s < 2700:
            case.sample(s, "kube_pod_container_status_waiting_reason", "loops", 1.0, container="app",
                        reason="CrashLoopBackOff")
        for host in ["restarted", "deployed"]:
            moved = 1500 if s >= 1500 else -86400
            case.sample(s, "process_start_time_seconds", host, START.timestamp() + moved + 0.01 * (s % 7), job="shop")
        case.sample(s, "node_systemd_unit_state", "unit", float(2100 <= s < 2400), unit="shop.service", state="failed")
    case.record("incidents", 1480, json.dumps(
        {"entity": "deployed", "class": "deploy", "onset": at(1480), "end": at(1600)}), "deployed")
    case.write()


def budget_slow_then_fast():
    """Four errors in a thousand for six hours and a half: a budget that will not last. Then an outage, which burns it."""
    case, rng = Case("budget_slow_then_fast"), random.Random(11)
    good = bad = 0
    for s in range(0, 27600, 60):
        errors = 500 if 25200 <= s < 25800 else 4
        bad, good = bad + errors, good + 1000 - errors
        case.sample(s, "requests_ok_total", "shop-1", float(good))
        case.sample(s, "requests_total", "shop-1", float(good + bad))
        case.sample(s, "queue", "shop-1", 5 + rng.gauss(0, 1))
    case.write()


if __name__ == "__main__":
    budget_slow_then_fast()
    processes_that_end()
    collector_down()
    deploy_of_a_pattern()
    mixed_envelopes()
    leak_then_down()
    leaks_on_record()
    jobs_that_break_off()
    new_lines_then_fatal()
    restart_with_new_lines()
    silent_host()
    odd_input()
    declared_incident()
