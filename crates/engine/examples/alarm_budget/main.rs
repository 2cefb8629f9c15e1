//! Measures the alarm budget on simulated fleets, through the real second stage:
//! `cargo run --release -p foreshock-engine --example alarm_budget -- [SCENARIO …] [--days N] [--entities N] [--series N]
//! [--partitions N] [--faults] [--seed N] [--trace]`.
//! Scenarios: ideal, wandering, clusters, shared, models; all where none is named. Without `--faults` every alarm is false.

#![allow(clippy::print_stdout, clippy::panic)] // its output is what it is for

#[path = "../../tests/fleet/mod.rs"]
mod fleet;

use fleet::sources::Dependence;
use fleet::{Fault, Outcome, Plan, poisson_interval, simulate};

fn main() {
    let mut args = std::env::args().skip(1);
    let (mut scenarios, mut days, mut trace) = (Vec::new(), 7.0, false);
    let mut faults = false;
    let mut plan = Plan {
        dependence: Dependence::Ideal,
        entities: 1_000,
        series: 10,
        windows: 0,
        width_ms: 10_000,
        budgets: vec![0.1, 1.0, 10.0],
        partitions: 1,
        faults_from: None,
        seed: 1,
    };
    while let Some(arg) = args.next() {
        let mut number = || {
            args.next()
                .and_then(|n| n.parse::<f64>().ok())
                .unwrap_or_else(|| panic!("{arg} N"))
        };
        match arg.as_str() {
            "--days" => days = number(),
            "--entities" => plan.entities = number() as usize,
            "--series" => plan.series = number() as usize,
            "--partitions" => plan.partitions = number() as usize,
            "--seed" => plan.seed = number() as u64,
            "--budget" => plan.budgets = vec![number()],
            "--faults" => faults = true,
            "--trace" => trace = true,
            "ideal" => scenarios.push(Dependence::Ideal),
            "wandering" => scenarios.push(Dependence::Wandering),
            "clusters" => scenarios.push(Dependence::Clusters),
            "shared" => scenarios.push(Dependence::Shared),
            "models" => scenarios.push(Dependence::Models),
            other => panic!("no such scenario or option: {other}"),
        }
    }
    if scenarios.is_empty() {
        use Dependence::{Clusters, Ideal, Models, Shared, Wandering};
        scenarios = vec![Ideal, Wandering, Clusters, Shared, Models];
    }
    let windows_a_day = 86_400_000 / plan.width_ms;
    plan.windows = (days * windows_a_day as f64) as u64;
    plan.faults_from = faults.then_some(plan.windows / 2);
    for dependence in scenarios {
        plan.dependence = dependence;
        let began = std::time::Instant::now();
        let outcome = simulate(&plan);
        println!(
            "{dependence:?}: {} entities x {} series, {days} days, in {:.0} s",
            plan.entities,
            plan.series,
            began.elapsed().as_secs_f64()
        );
        report(&plan, &outcome, days, trace);
    }
}

fn report(plan: &Plan, outcome: &Outcome, days: f64, trace: bool) {
    let hour = 3_600_000 / plan.width_ms;
    for (b, budget) in plan.budgets.iter().enumerate() {
        let alarms = &outcome.false_alarms[b];
        let (low, high) = poisson_interval(alarms.len());
        let before = |hours: u64| alarms.iter().filter(|a| a.window <= hours * hour as u64).count();
        println!(
            "  budget {budget:>4}: {:>5} false alarms, {:.3} a day ({:.3} to {:.3}); first 1/6/24 h: {}/{}/{}; {} events",
            alarms.len(),
            alarms.len() as f64 / days,
            low / days,
            high / days,
            before(1),
            before(6),
            before(24),
            outcome.events[b],
        );
        for a in alarms.iter().filter(|_| trace) {
            println!(
                "    window {}: entity {}, surprise {:.2} at {:.2}, onset {} windows back",
                a.window, a.entity, a.score, a.threshold, a.onset_back
            );
        }
        for kind in Fault::KINDS {
            let of_kind: Vec<_> = outcome.injected.iter().filter(|i| i.fault == kind).collect();
            if of_kind.is_empty() {
                continue;
            }
            let mut delays: Vec<f64> = Vec::new();
            let mut onsets: Vec<f64> = Vec::new();
            for i in &of_kind {
                if let Some(a) = &i.found[b] {
                    let delay = (a.window - i.from) as f64;
                    if a.window >= i.from + i.fault.windows() {
                        continue;
                    }
                    delays.push(delay);
                    onsets.push(delay - a.onset_back as f64);
                }
            }
            println!(
                "    {kind:?}: found {} of {}, delay {} windows (median), stated onset {} windows after the true one (median; earliest {})",
                delays.len(),
                of_kind.len(),
                quantile(&mut delays, 0.5),
                quantile(&mut onsets, 0.5),
                quantile(&mut onsets, 0.0),
            );
        }
    }
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values
        .get((values.len() as f64 * q) as usize)
        .copied()
        .unwrap_or(f64::NAN)
}
