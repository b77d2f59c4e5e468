//! Gates: look, fix, look again.

use serde_json::json;
use towpath_engine::{
    FailureKind, LossCause, Outcome, Phase, Role, Run, Status, advance, due, kinds, poll,
};

use crate::support::{at, calling, done, exit, failure, gate, lost, run};

fn looking(more: serde_json::Value) -> Run {
    let mut run = run(json!([gate(more)]));
    advance(&mut run, at(0)).unwrap();
    assert_eq!(calling(&run).1, Role::Probe);
    run
}

fn rest_until(run: &Run) -> towpath_engine::Timestamp {
    match &run.step.phase {
        Phase::Resting(rest) => rest.until,
        other => panic!("{other:?} is no rest"),
    }
}

#[test]
fn the_helper_fixes_what_the_probe_finds() {
    let mut run = looking(json!({}));
    poll(&mut run, exit(1, "2 tests failed"), at(1)).unwrap();
    assert_eq!(calling(&run).1, Role::Helper);
    let told = run
        .kind()
        .unwrap()
        .instructions(run.spec().unwrap(), &run.step, Role::Helper);
    assert_eq!(told.agent_kind.as_str(), "ci-fixer");
    assert_eq!(
        told.findings.unwrap().summary.as_deref(),
        Some("2 tests failed")
    );
    // The helper's own result is ignored.
    poll(&mut run, exit(9, ""), at(2)).unwrap();
    assert_eq!(calling(&run).1, Role::Probe);
    assert_eq!(
        poll(&mut run, done("all pass"), at(3)).unwrap(),
        Outcome::Done
    );
    assert_eq!(kinds::gate::state(&run.step).unwrap().attempts, 1);
}

#[test]
fn a_gate_that_is_early_looks_again_after_one_minute_and_fails_when_its_budget_is_spent() {
    let mut run = looking(json!({"budgetMinutes": 4}));
    poll(&mut run, exit(75, ""), at(0)).unwrap();
    assert_eq!(rest_until(&run), at(1));
    assert!(matches!(
        due(&mut run, at(0)).unwrap(),
        Outcome::AwaitingGate { .. }
    ));
    due(&mut run, at(1)).unwrap();
    poll(&mut run, exit(75, ""), at(1)).unwrap();
    assert_eq!(rest_until(&run), at(3));
    due(&mut run, at(3)).unwrap();
    poll(&mut run, exit(75, ""), at(3)).unwrap();
    assert_eq!(rest_until(&run), at(4), "a rest ends with the budget");
    due(&mut run, at(4)).unwrap();
    assert_eq!(failure(&run).0, FailureKind::Timeout);
}

#[test]
fn a_gate_keeps_to_the_interval_of_its_pipeline() {
    let mut run = looking(json!({"intervalMinutes": 7}));
    poll(&mut run, exit(75, ""), at(0)).unwrap();
    assert_eq!(rest_until(&run), at(7));
}

#[test]
fn a_probe_that_is_killed_spends_no_attempt_of_the_helper() {
    for cause in [
        LossCause::Killed,
        LossCause::TimedOut,
        LossCause::Checkout,
        LossCause::Unreadable,
    ] {
        let mut run = looking(json!({}));
        poll(&mut run, lost(cause), at(1)).unwrap();
        assert_eq!(rest_until(&run), at(2));
        assert_eq!(kinds::gate::state(&run.step).unwrap().attempts, 0);
    }
}

#[test]
fn a_helper_that_is_lost_has_the_same_consequence_however_it_was_noticed() {
    for cause in [
        LossCause::Killed,
        LossCause::TimedOut,
        LossCause::Unreadable,
    ] {
        let mut run = looking(json!({}));
        poll(&mut run, exit(1, "red"), at(1)).unwrap();
        poll(&mut run, lost(cause), at(2)).unwrap();
        assert_eq!(
            (calling(&run).1, run.head.status),
            (Role::Probe, Status::Running)
        );
    }
    let mut run = looking(json!({}));
    poll(&mut run, exit(1, "red"), at(1)).unwrap();
    poll(&mut run, towpath_engine::CallStatus::Running, at(71)).unwrap();
    assert_eq!(calling(&run).1, Role::Probe);
}

#[test]
fn each_kind_of_gate_has_its_own_number_of_attempts() {
    for (kind, attempts) in [
        ("ci", 10),
        ("conflicts", 3),
        ("post-release-health", 1),
        ("lint", 3),
    ] {
        let mut step = gate(json!({}));
        step["agentKind"] = json!(kind);
        let mut run = run(json!([step]));
        advance(&mut run, at(0)).unwrap();
        let mut helped = 0;
        while run.head.status == Status::Running {
            poll(&mut run, exit(1, "red"), at(1)).unwrap();
            if run.head.status == Status::Running {
                helped += 1;
                assert!(helped <= attempts, "{kind}");
                poll(&mut run, done(""), at(1)).unwrap();
            }
        }
        assert_eq!(
            (helped, failure(&run).0),
            (attempts, FailureKind::JobFailed),
            "{kind}"
        );
    }
}
