//! Steps whose agents are jobs.

use std::collections::BTreeSet;

use serde_json::json;
use towpath_engine::{
    CallStatus, Effect, FailureKind, LossCause, Outcome, Status, advance, gone, hold, poll, started,
};

use crate::support::{at, calling, done, failure, job, lost, run};

#[test]
fn two_jobs_one_after_the_other_end_the_run() {
    let mut run = run(json!([job("coder"), job("writer")]));
    advance(&mut run, at(0)).unwrap();
    let (first, _) = calling(&run);
    assert_eq!(
        poll(&mut run, CallStatus::Running, at(1)).unwrap(),
        run.outcome()
    );
    assert_eq!(
        poll(&mut run, done("made"), at(2)).unwrap(),
        Outcome::Continue
    );
    assert!(
        run.effects
            .iter()
            .any(|e| matches!(e, Effect::StepLeft(step) if step.index.0 == 0))
    );
    advance(&mut run, at(2)).unwrap();
    let (second, _) = calling(&run);
    assert_ne!(first, second);
    assert_eq!(
        poll(&mut run, done("written"), at(3)).unwrap(),
        Outcome::Done
    );
    assert_eq!(run.head.status, Status::Done);
    // What comes after the end changes nothing.
    let over = run.clone();
    assert_eq!(poll(&mut run, done("late"), at(4)).unwrap(), Outcome::Noop);
    assert_eq!(run, over);
}

#[test]
fn an_eviction_does_not_renew_the_time_budget() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    let mut ids = BTreeSet::from([calling(&run).0]);
    for n in 1..=5 {
        let evicted = poll(&mut run, lost(LossCause::Reclaimed), at(n * 10)).unwrap();
        assert_eq!(evicted, Outcome::Continue);
        assert!(ids.insert(calling(&run).0), "an id was used twice");
    }
    assert_eq!(run.step.call().unwrap().deadline, at(70));
    poll(&mut run, CallStatus::Running, at(69)).unwrap();
    assert_eq!(run.head.status, Status::Running);
    poll(&mut run, CallStatus::Running, at(70)).unwrap();
    assert_eq!(failure(&run).0, FailureKind::Timeout);
}

#[test]
fn a_job_that_crashes_twice_fails_its_step() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    assert_eq!(
        poll(&mut run, lost(LossCause::Crashed), at(1)).unwrap(),
        Outcome::Continue
    );
    poll(&mut run, lost(LossCause::Crashed), at(2)).unwrap();
    assert_eq!(failure(&run).0, FailureKind::Evicted);
    assert_eq!(run.step.evictions.crashes, 1, "a counter passes no budget");
}

#[test]
fn the_job_that_is_replaced_must_be_gone_before_the_next_starts() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    let old = run.step.call().unwrap().job_ref();
    poll(&mut run, lost(LossCause::Crashed), at(1)).unwrap();
    assert_eq!(run.step.replaces, std::slice::from_ref(&old));
    assert!(run.effects.contains(&Effect::Reap(old.clone())));
    gone(&mut run, &old);
    assert!(run.step.replaces.is_empty());
}

#[test]
fn unreadable_looks_in_a_burst_are_one() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    let unreadable = || CallStatus::Unreadable("no answer".to_owned());
    for _ in 0..100 {
        poll(&mut run, unreadable(), at(1)).unwrap();
    }
    assert_eq!(
        (run.head.status, run.step.unreadable.looks),
        (Status::Running, 1)
    );
    for minute in 2..=5 {
        poll(&mut run, unreadable(), at(minute)).unwrap();
    }
    assert_eq!(run.head.status, Status::Running);
    poll(&mut run, unreadable(), at(6)).unwrap();
    assert_eq!(failure(&run).0, FailureKind::Timeout);
}

#[test]
fn one_readable_look_begins_the_count_anew() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    for minute in 1..=5 {
        poll(&mut run, CallStatus::Unreadable(String::new()), at(minute)).unwrap();
    }
    poll(&mut run, CallStatus::Running, at(6)).unwrap();
    poll(&mut run, CallStatus::Unreadable(String::new()), at(7)).unwrap();
    assert_eq!(
        (run.head.status, run.step.unreadable.looks),
        (Status::Running, 1)
    );
}

#[test]
fn a_runtime_without_room_makes_the_run_rest_within_the_budget() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    let (id, _) = calling(&run);
    let resting = hold(
        &mut run,
        std::time::Duration::from_secs(60),
        "no room",
        at(0),
    )
    .unwrap();
    assert!(matches!(resting, Outcome::AwaitingGate { .. }));
    assert_eq!(run.step.call().unwrap().held.as_ref().unwrap().until, at(1));
    // The same call is tried again: it never started.
    started(&mut run);
    assert_eq!(calling(&run).0, id);
    assert!(matches!(run.outcome(), Outcome::AwaitingJob { .. }));
    // A rest never lasts longer than the budget, and then the run fails and says why.
    hold(
        &mut run,
        std::time::Duration::from_secs(3600 * 9),
        "no room",
        at(1),
    )
    .unwrap();
    assert_eq!(
        run.step.call().unwrap().held.as_ref().unwrap().until,
        at(70)
    );
    poll(&mut run, CallStatus::Running, at(70)).unwrap();
    let failed = run.head.failure.unwrap();
    assert_eq!(failed.kind, FailureKind::Timeout);
    assert!(failed.detail.unwrap().contains("no room"));
}
