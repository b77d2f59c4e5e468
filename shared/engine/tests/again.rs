//! Runs that take the place of others: retries and restarts.

use serde_json::json;
use towpath_engine::{
    Answer, Evictions, FailureKind, LossCause, OutputRef, Run, Status, StepIndex, StopMark,
    advance, answer, fail, kinds, kinds::BUILT_IN, poll, restart, retry, start, stop,
};

use crate::support::{
    answered, approved, asked, asks, at, calling, changes, done, exit, gate, job, lost, new_run,
    plan_of, proposed, run, run_id, subject,
};

/// A run that failed at its second step, after a crash.
fn failed() -> Run {
    let mut run = run(json!([job("coder"), job("tester"), job("writer")]));
    advance(&mut run, at(0)).unwrap();
    poll(&mut run, done("x"), at(1)).unwrap();
    advance(&mut run, at(2)).unwrap();
    poll(&mut run, lost(LossCause::Crashed), at(3)).unwrap();
    poll(&mut run, exit(1, "red"), at(4)).unwrap();
    run
}

#[test]
fn a_retry_goes_on_at_the_first_step_that_is_not_done_with_fresh_counters() {
    let old = failed();
    let new = retry(&old, run_id(2), Some("ben"), at(9)).unwrap();
    assert_eq!(
        (&new.head.id, new.head.retried_from.as_ref()),
        (&run_id(2), Some(&old.head.id))
    );
    assert_eq!(
        (new.head.current, new.head.status),
        (StepIndex(1), Status::Running)
    );
    assert_eq!(
        (new.head.rev, new.head.generation, new.head.created_at),
        (0, 1, at(9))
    );
    assert_eq!(new.head.initiated_by.as_deref(), Some("ben"));
    assert_eq!(
        (&new.head.block, &new.head.pipeline),
        (&old.head.block, &old.head.pipeline)
    );
    assert_eq!(
        (new.head.failure.as_ref(), new.head.finished_at),
        (None, None)
    );
    assert_eq!(
        (new.step.attempt, new.step.evictions),
        (0, Evictions::default())
    );
    assert_eq!(new.step.agent_kind.as_str(), "tester");
    assert_eq!(new.head.calls, old.head.calls);
}

#[test]
fn only_a_failed_run_is_retried() {
    let mut over = run(json!([job("coder")]));
    advance(&mut over, at(0)).unwrap();
    let calling = over.clone();
    poll(&mut over, done("x"), at(1)).unwrap();
    for (run, status) in [
        (calling, "running"),
        (proposed(), "blocked"),
        (over, "done"),
    ] {
        let error = retry(&run, run_id(2), None, at(9)).unwrap_err().to_string();
        let told = format!("cannot be retried: it is {status} at step 0; only a failed run can");
        assert!(error.ends_with(&told), "{error}");
    }
}

#[test]
fn any_run_is_restarted_from_a_step_it_has_come_to() {
    let old = failed();
    for from in [0, 1] {
        let new = restart(&old, StepIndex(from), run_id(2), None, at(9)).unwrap();
        assert_eq!(
            (new.head.current, new.step.index),
            (StepIndex(from), StepIndex(from))
        );
        assert_eq!(
            new.head.initiated_by.as_deref(),
            Some("somebody"),
            "nobody else asked"
        );
    }
    let error = restart(&old, StepIndex(2), run_id(2), None, at(9)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("has not come to the step asked for"),
        "{error}"
    );
}

#[test]
fn nothing_starts_before_the_jobs_of_the_old_run_are_gone() {
    let mut old = run(json!([job("coder")]));
    advance(&mut old, at(0)).unwrap();
    poll(&mut old, lost(LossCause::Crashed), at(1)).unwrap();
    let live: Vec<_> = old.step.live_jobs().collect();
    assert_eq!(live.len(), 2, "the one that crashed may not be gone");
    let stopped = |mut run: Run| {
        stop(&mut run, &StopMark::new("ann", None, at(2)), at(2));
        retry(&run, run_id(2), None, at(2)).unwrap()
    };
    assert_eq!(stopped(old.clone()).step.replaces, live);
    // A job that was given up, and with it the run, is named once.
    poll(&mut old, lost(LossCause::TimedOut), at(3)).unwrap();
    let new = retry(&old, run_id(2), None, at(4)).unwrap();
    assert_eq!(new.step.replaces.len(), 2);
    let mut taken = new_run(1);
    taken.replaces.clone_from(&live);
    let new = start(taken, plan_of(json!([job("coder")]), BUILT_IN), at(5)).unwrap();
    assert_eq!(new.step.replaces, live);
}

/// A run whose step was answered a question and then sent back, and that failed then.
fn told() -> Run {
    let mut run = run(json!([approved(job("coder")), job("writer")]));
    advance(&mut run, at(0)).unwrap();
    poll(&mut run, answered(asks(&["red"])), at(1)).unwrap();
    let id = subject(&run);
    answer(
        &mut run,
        &id,
        &Answer::Choice("red".to_owned()),
        "ann",
        at(2),
    )
    .unwrap();
    poll(&mut run, done("draft"), at(3)).unwrap();
    let id = subject(&run);
    answer(&mut run, &id, &changes("shorter"), "ann", at(4)).unwrap();
    advance(&mut run, at(4)).unwrap();
    run
}

#[test]
fn a_retry_and_a_restart_keep_what_humans_said() {
    let live = told();
    let mut failed = told();
    fail(&mut failed, FailureKind::Unknown, "x", None, at(5));
    for again in [
        retry(&failed, run_id(2), None, at(6)).unwrap(),
        restart(&live, StepIndex(0), run_id(2), None, at(6)).unwrap(),
    ] {
        assert_eq!(again.step.decisions[0].chosen.as_deref(), Some("red"));
        let revision = again.step.revision.clone().unwrap();
        assert_eq!(revision.feedback.as_deref(), Some("shorter"));
        assert_eq!(
            revision.previous.run,
            Some(run_id(1)),
            "the draft is where it was made"
        );
        // And once more: the draft is still in the first run.
        let third = restart(&again, StepIndex(0), run_id(3), None, at(7)).unwrap();
        assert_eq!(third.step.revision, again.step.revision);
    }
}

#[test]
fn a_restart_from_an_earlier_step_keeps_what_humans_said_there_if_its_record_is_here() {
    // The run has looped, so its next step may have a record; it has none.
    let mut run = told().with_record(StepIndex(1), None);
    poll(&mut run, done("short"), at(5)).unwrap();
    let id = subject(&run);
    answer(
        &mut run,
        &id,
        &Answer::Approve { proposal: None },
        "ann",
        at(6),
    )
    .unwrap();
    let left = run.effects.iter().find_map(|effect| match effect {
        towpath_engine::Effect::StepLeft(step) => Some(*step.clone()),
        _ => None,
    });
    assert_eq!(run.head.current, StepIndex(1));
    let without = restart(&run, StepIndex(0), run_id(2), None, at(7)).unwrap();
    assert!(without.step.decisions.is_empty());
    let with = run.with_record(StepIndex(0), left);
    let again = restart(&with, StepIndex(0), run_id(2), None, at(7)).unwrap();
    assert_eq!(again.step.decisions.len(), 1);
    assert_eq!((again.step.approval, again.step.revision), (None, None));
}

#[test]
fn a_question_without_an_answer_is_asked_anew() {
    let mut old = asked();
    stop(&mut old, &StopMark::new("ann", None, at(2)), at(2));
    let mut again = retry(&old, run_id(2), None, at(3)).unwrap();
    assert!(again.step.decisions.is_empty());
    advance(&mut again, at(3)).unwrap();
    poll(&mut again, answered(asks(&["red"])), at(4)).unwrap();
    assert_ne!(subject(&again), "dec-2", "its id is another");
}

#[test]
fn a_run_that_nobody_allowed_to_begin_asks_again_whoever_retries_it() {
    let plan = plan_of(json!([job("coder")]), BUILT_IN);
    let mut new = new_run(1);
    new.approval = Some("May it?".to_owned());
    let waiting = start(new, plan, at(0)).unwrap();
    let mut rejected = waiting.clone();
    let id = subject(&waiting);
    answer(
        &mut rejected,
        &id,
        &Answer::Reject { reason: None },
        "ann",
        at(1),
    )
    .unwrap();
    for again in [
        retry(&rejected, run_id(2), None, at(2)).unwrap(),
        restart(&waiting, StepIndex(0), run_id(2), None, at(2)).unwrap(),
    ] {
        assert_eq!(again.head.status, Status::Blocked);
        assert_eq!(again.step.decisions[0].question, "May it?");
        assert_ne!(subject(&again), id);
    }
    let mut allowed = waiting;
    answer(
        &mut allowed,
        &id,
        &Answer::Approve { proposal: None },
        "ann",
        at(1),
    )
    .unwrap();
    let again = restart(&allowed, StepIndex(0), run_id(2), None, at(2)).unwrap();
    assert_eq!(again.head.status, Status::Running, "it was allowed once");
}

#[test]
fn a_loop_keeps_decisions_evictions_and_attempts_and_clears_the_rest() {
    let mut run = run(json!([approved(job("coder"))]));
    advance(&mut run, at(0)).unwrap();
    poll(&mut run, lost(LossCause::Crashed), at(1)).unwrap();
    poll(&mut run, answered(asks(&["red"])), at(2)).unwrap();
    let id = subject(&run);
    answer(
        &mut run,
        &id,
        &Answer::Choice("red".to_owned()),
        "ann",
        at(3),
    )
    .unwrap();
    poll(&mut run, done("draft"), at(4)).unwrap();
    let id = subject(&run);
    answer(&mut run, &id, &changes("more"), "ann", at(60)).unwrap();
    assert_eq!(
        (run.head.epoch, run.step.epoch, run.step.attempt),
        (1, 1, 3)
    );
    assert_eq!(
        (run.step.decisions.len(), run.step.evictions.crashes),
        (1, 1)
    );
    assert_eq!(
        (run.step.started_at, &run.step.output, &run.step.approval),
        (None, &None, &None)
    );
    let previous = OutputRef {
        number: 5,
        bytes: 5,
        run: None,
        artifacts: Vec::new(),
    };
    assert_eq!(run.step.revision.as_ref().unwrap().previous, previous);
    assert_eq!(
        run.step.replaces.len(),
        1,
        "the crashed job may not be gone"
    );
    advance(&mut run, at(61)).unwrap();
    assert_eq!((run.step.started_at, run.step.epoch), (Some(at(61)), 1));
    assert_eq!(
        run.step.call().unwrap().deadline,
        at(131),
        "a round has its own time"
    );
    poll(&mut run, lost(LossCause::Crashed), at(62)).unwrap();
    assert_eq!(
        run.head.status,
        Status::Failed,
        "a loop buys no second crash"
    );
}

#[test]
fn a_human_who_sends_a_gates_result_back_sends_its_helper() {
    let mut run = run(json!([approved(gate(json!({"attempts": 1})))]));
    advance(&mut run, at(0)).unwrap();
    poll(&mut run, done("green, but slow"), at(1)).unwrap();
    let id = subject(&run);
    answer(&mut run, &id, &changes("make it quick"), "ann", at(2)).unwrap();
    advance(&mut run, at(3)).unwrap();
    assert_eq!(calling(&run).1, towpath_engine::Role::Helper);
    assert_eq!(
        kinds::gate::state(&run.step).unwrap().attempts,
        0,
        "at no cost to its attempts"
    );
    assert_eq!(
        run.step.revision.as_ref().unwrap().feedback.as_deref(),
        Some("make it quick")
    );
    poll(&mut run, done(""), at(4)).unwrap();
    poll(&mut run, done("green"), at(5)).unwrap();
    assert_eq!(run.head.status, Status::Blocked, "and is asked again");
}
