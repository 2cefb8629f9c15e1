"""Drain3 at its defaults over the lines on standard input, a JSON array; prints groups and speed as JSON."""
import json
import sys
import time

from drain3 import TemplateMiner
from drain3.template_miner_config import TemplateMinerConfig

lines = json.load(sys.stdin)
miner = TemplateMiner(config=TemplateMinerConfig())
began = time.perf_counter()
groups = [miner.add_log_message(line)["cluster_id"] for line in lines]
took = time.perf_counter() - began
json.dump({"groups": groups, "lines_per_s": len(lines) / took}, sys.stdout)
