//! Gates: look, fix, look again.

use std::time::Duration;

use serde_json::json;
use towpath_engine::{
    CallFailure, CallResult, CallStatus, FailureKind, LossCause, Outcome, Phase, Role, Run, Status,
    Timestamp, advance, due, kinds, policy::gate_pause, poll,
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
fn a_helper_that_is_sent_again_is_told_of_the_same_probe() {
    let mut run = looking(json!({}));
    let probe = run.step.call().unwrap().id.clone();
    poll(&mut run, exit(1, "2 tests failed"), at(1)).unwrap();
    for minute in 2..4 {
        let told = run
            .kind()
            .unwrap()
            .instructions(run.spec().unwrap(), &run.step, Role::Helper);
        assert_eq!(told.findings.unwrap().probe, Some(probe.clone()));
        // Its place is taken away, and another job does its work.
        poll(&mut run, lost(LossCause::Reclaimed), at(minute)).unwrap();
        assert_eq!(calling(&run).1, Role::Helper);
        assert_ne!(run.step.last_job, Some(probe.clone()));
    }
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

#[test]
fn a_gates_looks_are_from_one_to_five_minutes_apart() {
    let apart = (0..8).map(|looks| gate_pause(looks).as_secs() / 60);
    assert_eq!(apart.collect::<Vec<_>>(), [1, 1, 2, 3, 4, 5, 5, 5]);
}

#[test]
fn a_budget_of_one_minute_ends_after_one_minute() {
    // While the probe looks,
    let mut run = looking(json!({"budgetMinutes": 1}));
    assert_eq!(run.step.call().unwrap().deadline, at(1));
    let early = Timestamp(at(1).0 - 1);
    poll(&mut run, CallStatus::Running, early).unwrap();
    assert_eq!(run.head.status, Status::Running);
    let mut late = run.clone();
    poll(&mut late, CallStatus::Running, at(1)).unwrap();
    let told = "the gate ci came to no verdict within its 1 minute".to_owned();
    assert_eq!(failure(&late), (FailureKind::Timeout, told.clone()));
    // while the gate rests,
    let half = Timestamp(at(0).0 + 30_000);
    poll(&mut run, exit(75, ""), half).unwrap();
    assert_eq!(rest_until(&run), at(1));
    due(&mut run, at(1)).unwrap();
    assert_eq!(failure(&run), (FailureKind::Timeout, told));
    // and where the word comes too late.
    let mut run = looking(json!({"budgetMinutes": 1}));
    poll(&mut run, exit(75, ""), at(1)).unwrap();
    assert_eq!(failure(&run).0, FailureKind::Timeout);
    let mut run = looking(json!({"budgetMinutes": 2}));
    poll(&mut run, CallStatus::Running, at(2)).unwrap();
    assert!(failure(&run).1.ends_with("within its 2 minutes"));
}

#[test]
fn a_verdict_counts_however_late_it_is() {
    let mut run = looking(json!({}));
    poll(&mut run, exit(1, "red"), at(500)).unwrap();
    assert_eq!(calling(&run).1, Role::Helper);
    let mut run = looking(json!({}));
    assert_eq!(poll(&mut run, done("green"), at(500)), Ok(Outcome::Done));
}

#[test]
fn the_helpers_time_is_not_the_gates() {
    let mut run = looking(json!({}));
    poll(&mut run, exit(75, ""), at(30)).unwrap();
    due(&mut run, at(31)).unwrap();
    assert_eq!(kinds::gate::state(&run.step).unwrap().polls, 1);
    poll(&mut run, exit(1, "red"), at(31)).unwrap();
    assert_eq!(run.step.call().unwrap().deadline, at(31 + 70));
    let state = kinds::gate::state(&run.step).unwrap();
    assert_eq!(state.polls, 0, "a new round is looked at soon");
    poll(&mut run, done(""), at(95)).unwrap();
    assert_eq!(run.step.call().unwrap().deadline, at(95 + 60));
    poll(&mut run, exit(75, ""), at(154)).unwrap();
    assert_eq!(rest_until(&run), at(155));
    let mut early = run.clone();
    let before = early.clone();
    due(&mut early, Timestamp(at(155).0 - 1)).unwrap();
    assert_eq!(early, before);
    due(&mut run, at(155)).unwrap();
    let failed = run.head.failure.unwrap();
    assert_eq!(
        (failed.kind, failed.detail.as_deref()),
        (FailureKind::Timeout, Some("red"))
    );
}

#[test]
fn a_gate_that_does_not_pass_says_how_often_its_helper_tried() {
    for (attempts, told) in [
        (
            0,
            "the gate ci did not pass, and it has no helper to fix it",
        ),
        (1, "the gate ci did not pass after 1 attempt of its helper"),
        (2, "the gate ci did not pass after 2 attempts of its helper"),
    ] {
        let mut run = looking(json!({"attempts": attempts}));
        for _ in 0..attempts {
            poll(&mut run, exit(1, "red"), at(1)).unwrap();
            poll(&mut run, done(""), at(1)).unwrap();
        }
        poll(&mut run, exit(1, "still red"), at(1)).unwrap();
        assert_eq!(failure(&run), (FailureKind::JobFailed, told.to_owned()));
        assert_eq!(
            run.head.failure.unwrap().detail.as_deref(),
            Some("still red")
        );
    }
}

#[test]
fn without_a_helper_the_first_failure_is_the_last() {
    let mut step = gate(json!({"attempts": 3}));
    step["gate"].as_object_mut().unwrap().remove("helper");
    let mut run = run(json!([step]));
    advance(&mut run, at(0)).unwrap();
    poll(&mut run, exit(1, "red"), at(1)).unwrap();
    assert!(failure(&run).1.ends_with("no helper to fix it"));
}

fn failed(kind: FailureKind, detail: Option<&str>, printed: Option<&str>) -> CallStatus {
    CallStatus::Ended(CallResult::Failed(CallFailure {
        kind,
        message: "no such program".to_owned(),
        detail: detail.map(str::to_owned),
        exit_code: None,
        printed: printed.map(str::to_owned),
        usage: None,
    }))
}

#[test]
fn a_probe_that_cannot_be_run_fails_the_run_and_sends_no_helper() {
    for (detail, told) in [
        (None, "no such program"),
        (Some("look: not found"), "look: not found"),
    ] {
        let mut run = looking(json!({}));
        poll(&mut run, failed(FailureKind::Dispatch, detail, None), at(1)).unwrap();
        let message = "the probe of the gate ci cannot be run".to_owned();
        assert_eq!(failure(&run), (FailureKind::Dispatch, message));
        assert_eq!(run.head.failure.unwrap().detail.as_deref(), Some(told));
    }
}

#[test]
fn the_helper_is_told_what_the_probe_printed_else_what_is_known() {
    for (detail, printed, told) in [
        (Some("more"), Some("2 tests failed"), "2 tests failed"),
        (Some("more"), Some(" \n"), "more"),
        (None, None, "no such program"),
    ] {
        let mut run = looking(json!({}));
        poll(
            &mut run,
            failed(FailureKind::JobFailed, detail, printed),
            at(1),
        )
        .unwrap();
        let state = kinds::gate::state(&run.step).unwrap();
        assert_eq!(state.last_failure.as_deref(), Some(told));
    }
}

#[test]
fn a_helper_that_cannot_be_read_is_followed_by_a_look_like_any_other() {
    let mut run = looking(json!({}));
    poll(&mut run, exit(1, "red"), at(1)).unwrap();
    for minute in 2..=7 {
        let unreadable = CallStatus::Unreadable("no answer".to_owned());
        poll(&mut run, unreadable, at(minute)).unwrap();
    }
    assert_eq!(
        (calling(&run).1, run.head.status),
        (Role::Probe, Status::Running)
    );
    assert_eq!(kinds::gate::state(&run.step).unwrap().attempts, 1);
}

#[test]
fn a_gate_says_what_it_is_at() {
    let describe = |run: &Run| run.kind().unwrap().describe(run.spec().unwrap(), &run.step);
    let mut run = looking(json!({"attempts": 2}));
    assert_eq!(describe(&run), "its probe looks");
    let told = |run: &Run, role| {
        let kind = run.kind().unwrap();
        kind.instructions(run.spec().unwrap(), &run.step, role)
    };
    assert_eq!(told(&run, Role::Probe).agent_kind.as_str(), "ci");
    assert_eq!(told(&run, Role::Probe).findings, None);
    let mut resting = run.clone();
    poll(&mut resting, exit(75, ""), at(1)).unwrap();
    assert_eq!(describe(&resting), "waits to look again");
    let Phase::Resting(rest) = &resting.step.phase else {
        panic!("{resting:?}")
    };
    assert_eq!(rest.why, "it is too early to say; the gate ci looks again");
    assert_eq!(rest.until.since(rest.since), Duration::from_secs(60));
    poll(&mut run, exit(1, "red"), at(1)).unwrap();
    assert_eq!(describe(&run), "ci-fixer fixes it, attempt 1 of 2");
    let mut lost_probe = looking(json!({}));
    poll(&mut lost_probe, lost(LossCause::Killed), at(1)).unwrap();
    let Phase::Resting(rest) = &lost_probe.step.phase else {
        panic!("{lost_probe:?}")
    };
    assert_eq!(
        rest.why,
        "the last probe could not look; the gate ci looks again"
    );
}
