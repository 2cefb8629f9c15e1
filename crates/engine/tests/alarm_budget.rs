//! The alarm budget is kept on fleets without failures, and faults are found all the same: a small, fast version of what the example
//! `alarm_budget` measures.

#[allow(dead_code)] // the example uses the rest
mod fleet;

use fleet::sources::Dependence;
use fleet::{Fault, Plan, poisson_interval, simulate};

fn plan(dependence: Dependence, entities: usize, windows: u64) -> Plan {
    Plan {
        dependence,
        entities,
        series: 10,
        windows,
        width_ms: 10_000,
        budgets: vec![1.0, 10.0],
        partitions: 2,
        faults_from: None,
        seed: 1,
    }
}

/// No more false alarms than chance allows at the budget's rate: the lower end of the interval of what was seen is not above it.
#[test]
fn the_budget_is_kept_where_nothing_fails() {
    use Dependence::{Clusters, Ideal, Models, Shared, Wandering};
    for dependence in [Ideal, Wandering, Clusters, Shared, Models] {
        // Half a day from a cold start.
        let plan = plan(dependence, 40, 4_320);
        let outcome = simulate(&plan);
        for (budget, alarms) in plan.budgets.iter().zip(&outcome.false_alarms) {
            let (at_least, _) = poisson_interval(alarms.len());
            assert!(
                at_least <= budget / 2.0,
                "{dependence:?}: {} false alarms in half a day on a budget of {budget} a day: {alarms:?}",
                alarms.len()
            );
        }
    }
}

/// Shifts and ramps of one series of ten, in fleets whose p-values are what they say.
#[test]
fn faults_are_found() {
    for dependence in [Dependence::Ideal, Dependence::Wandering] {
        let mut plan = plan(dependence, 60, 4_320);
        plan.faults_from = Some(1_000);
        let outcome = simulate(&plan);
        let found = |i: &&fleet::Injected| {
            let alarm = i.found[1].as_ref();
            alarm.is_some_and(|a| a.window < i.from + i.fault.windows())
        };
        let strong: Vec<_> = outcome
            .injected
            .iter()
            .filter(|i| i.fault != Fault::Shift(3.0))
            .collect();
        let share = strong.iter().copied().filter(found).count() as f64 / strong.len() as f64;
        assert!(
            strong.len() >= 20 && share >= 0.8,
            "{dependence:?}: {share} of {}",
            strong.len()
        );
    }
}

#[test]
fn a_run_can_be_repeated() {
    let mut plan = plan(Dependence::Models, 5, 1_500);
    plan.faults_from = Some(700);
    let [a, b] = [(); 2].map(|()| format!("{:?}", simulate(&plan)));
    assert_eq!(a, b);
}
