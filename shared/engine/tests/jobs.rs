//! Steps whose agents are jobs.

use std::collections::BTreeSet;

use serde_json::json;
use towpath_engine::{
    Answer, CallFailure, CallQuestion, CallResult, CallStatus, CheckedAnswer, Effect, Evictions,
    FailureKind, LossCause, Outcome, Phase, Role, Run, Status, StepState, StopMark, Timestamp,
    Usage, advance, answer, gone, hold, policy::start_pause, poll, started, stop,
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

#[test]
fn one_crash_and_five_reclaims_are_borne() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    poll(&mut run, lost(LossCause::Crashed), at(1)).unwrap();
    for n in 1..=5 {
        assert_eq!(
            run.step.evictions,
            Evictions {
                crashes: 1,
                transient: n - 1
            }
        );
        let outcome = poll(&mut run, lost(LossCause::Reclaimed), at(1 + n)).unwrap();
        assert_eq!(outcome, Outcome::Continue);
    }
    assert_eq!((run.step.attempt, run.step.replaces.len()), (7, 6));
    let before = run.clone();
    poll(&mut run, lost(LossCause::Reclaimed), at(9)).unwrap();
    assert_eq!(
        failure(&run),
        (FailureKind::Evicted, "it is gone".to_owned())
    );
    assert_eq!(run.step.evictions, before.step.evictions);
}

#[test]
fn a_job_that_is_lost_when_its_time_is_up_is_not_begun_again() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    let early = Timestamp(at(70).0 - 1);
    let outcome = poll(&mut run.clone(), lost(LossCause::Crashed), early).unwrap();
    assert_eq!(outcome, Outcome::Continue);
    poll(&mut run, lost(LossCause::Crashed), at(70)).unwrap();
    assert_eq!(failure(&run).0, FailureKind::Evicted);
    assert_eq!(run.step.evictions, Evictions::default());
}

#[test]
fn work_that_was_done_counts_however_late_it_is_looked_at() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    assert_eq!(poll(&mut run, done("x"), at(500)), Ok(Outcome::Done));
}

#[test]
fn each_way_to_lose_a_job_fails_its_step_in_words_of_its_own() {
    let spent = "the job did not end within its 70 minutes and was stopped";
    for (cause, kind, told, detail) in [
        (
            LossCause::TimedOut,
            FailureKind::Timeout,
            spent,
            Some("it is gone"),
        ),
        (
            LossCause::Unreadable,
            FailureKind::Timeout,
            "it is gone",
            None,
        ),
        (
            LossCause::Killed,
            FailureKind::JobFailed,
            "it is gone",
            None,
        ),
        (
            LossCause::Checkout,
            FailureKind::JobFailed,
            "it is gone",
            None,
        ),
    ] {
        let mut run = run(json!([job("coder")]));
        advance(&mut run, at(0)).unwrap();
        let reaped = Effect::Reap(run.step.call().unwrap().job_ref());
        poll(&mut run, lost(cause), at(1)).unwrap();
        assert_eq!(failure(&run), (kind, told.to_owned()));
        assert_eq!(run.head.failure.unwrap().detail.as_deref(), detail);
        let reaps = run.effects.iter().filter(|effect| **effect == reaped);
        assert_eq!(reaps.count(), 1, "the job is ended, once");
    }
}

#[test]
fn a_job_that_runs_out_of_time_is_named() {
    let mut step = job("coder");
    step["budgets"] = json!({"jobMinutes": 1});
    let mut run = run(json!([step]));
    advance(&mut run, at(0)).unwrap();
    let id = calling(&run).0;
    poll(&mut run, CallStatus::Unreadable("?".to_owned()), at(1)).unwrap();
    assert_eq!(
        failure(&run).1,
        "the job did not end within its 1 minute and was stopped"
    );
    let told = format!("the job {id} did not end within its time budget");
    assert_eq!(run.head.failure.unwrap().detail.unwrap(), told);
}

#[test]
fn a_job_whose_status_cannot_be_read_says_why() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    for minute in 1..=6 {
        // A moment less than a minute later is the same look.
        for now in [at(minute), Timestamp(at(minute + 1).0 - 1)] {
            if run.head.status == Status::Running {
                let refused = CallStatus::Unreadable("connection refused".to_owned());
                poll(&mut run, refused, now).unwrap();
                assert_eq!(run.step.unreadable.looks, minute);
                assert_eq!(run.step.unreadable.last, at(minute));
            }
        }
    }
    assert_eq!(
        failure(&run).1,
        "the job's status could not be read 6 times in a row: connection refused"
    );
}

#[test]
fn a_replaced_job_is_read_with_fresh_eyes() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    for minute in 0..5 {
        poll(&mut run, CallStatus::Unreadable(String::new()), at(minute)).unwrap();
    }
    poll(&mut run, lost(LossCause::Reclaimed), at(6)).unwrap();
    assert_eq!(run.step.unreadable.looks, 0);
}

#[test]
fn tries_to_start_come_less_and_less_often() {
    let pauses: Vec<_> = (0..8).map(|tries| start_pause(tries).as_secs()).collect();
    assert_eq!(pauses, [15, 15, 30, 60, 120, 240, 300, 300]);
    assert_eq!(start_pause(u32::MAX).as_secs(), 300);
}

#[test]
fn each_try_to_start_is_counted() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    for tries in 1..=3 {
        hold(
            &mut run,
            start_pause(tries),
            &"no room ".repeat(99),
            at(tries),
        )
        .unwrap();
        let held = run.step.call().unwrap().held.clone().unwrap();
        assert_eq!(
            (held.tries, held.until),
            (tries, at(tries).plus(start_pause(tries)))
        );
        assert!((250..=303).contains(&held.why.len()), "{}", held.why.len());
    }
    // Once its time is up it is looked at now.
    hold(&mut run, start_pause(1), "no room", at(80)).unwrap();
    assert_eq!(
        run.step.call().unwrap().held.as_ref().unwrap().until,
        at(80)
    );
    let running = poll(&mut run, CallStatus::Running, at(69)).unwrap();
    assert!(matches!(running, Outcome::AwaitingGate { .. }));
}

#[test]
fn the_time_does_not_run_backwards() {
    assert_eq!(at(1).since(at(2)).as_secs(), 0);
    assert_eq!(at(2).since(at(1)).as_secs(), 60);
    assert_eq!(
        Timestamp(u64::MAX).plus(std::time::Duration::MAX),
        Timestamp(u64::MAX)
    );
}

#[test]
fn a_step_has_the_state_that_clients_know() {
    let mut run = run(json!([job("coder")]));
    assert_eq!(run.step.state(), StepState::Pending);
    advance(&mut run, at(0)).unwrap();
    assert_eq!(run.step.state(), StepState::Working);
    let kind = run.kind().unwrap();
    assert_eq!(
        kind.describe(run.spec().unwrap(), &run.step),
        "a job works on it"
    );
    let told = kind.instructions(run.spec().unwrap(), &run.step, Role::Main);
    assert_eq!((told.agent_kind.as_str(), told.findings), ("coder", None));
    let asked = crate::support::asked();
    assert_eq!(asked.step.state(), StepState::WaitingDecision);
    poll(&mut run, done("x"), at(1)).unwrap();
    assert_eq!(
        (run.step.state(), &run.step.phase),
        (StepState::Done, &Phase::Done)
    );
    let inline = json!({"agentKind": "a", "runtime": {"kind": "simulated"}});
    let inline = crate::support::run(json!([inline]));
    let kind = inline.kind().unwrap();
    assert_eq!(
        kind.describe(inline.spec().unwrap(), &inline.step),
        "working"
    );
}

fn asks(id: &str) -> CallStatus {
    CallStatus::Asks(CallQuestion {
        id: id.to_owned(),
        question: format!("{id}?"),
    })
}

/// The decision that the run waits for.
fn asked(run: &Run) -> String {
    assert_eq!(run.head.status, Status::Blocked);
    match run.outcome() {
        Outcome::AwaitingDecision { decision } => decision,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_job_that_asks_goes_on_with_the_answer_and_the_wait_is_none_of_its_budget() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    let (id, _) = calling(&run);
    poll(&mut run, asks("q"), at(10)).unwrap();
    let decision = asked(&run);
    assert_eq!(run.step.live_jobs().count(), 1, "the job lives on");
    // It asks on, and time goes by that would have been its budget.
    for minute in [20, 500, 5_000] {
        let before = run.clone();
        poll(&mut run, asks("q"), at(minute)).unwrap();
        poll(&mut run, CallStatus::Unreadable("gone".into()), at(minute)).unwrap();
        assert_eq!(run, before);
    }
    let choice = Answer::Choice("whatever".to_owned());
    answer(&mut run, &decision, &choice, "ada", at(5_010)).unwrap();
    assert_eq!(calling(&run).0, id, "the same job");
    assert_eq!(run.step.call().unwrap().deadline, at(70 + 5_000));
    assert_eq!(run.step.answer_to(&id, "q"), Some("whatever"));
    // The answer is on its way: the question is not asked again. Another one is.
    poll(&mut run, asks("q"), at(5_011)).unwrap();
    assert_eq!(run.head.status, Status::Running);
    poll(&mut run, asks("r"), at(5_012)).unwrap();
    assert_ne!(asked(&run), decision);
    poll(&mut run, done("made"), at(5_013)).unwrap();
    assert_eq!(run.head.status, Status::Done);
    assert_eq!(
        run.step.decisions.len(),
        1,
        "the open question is withdrawn"
    );
}

#[test]
fn a_question_goes_with_its_job() {
    let mut first = run(json!([job("coder")]));
    advance(&mut first, at(0)).unwrap();
    poll(&mut first, asks("q"), at(10)).unwrap();
    let decision = asked(&first);
    // Answered elsewhere.
    let mut run = first.clone();
    poll(&mut run, CallStatus::Running, at(40)).unwrap();
    assert_eq!(run.step.call().unwrap().deadline, at(100));
    assert!(run.step.decisions.is_empty());
    let choice = Answer::Choice("late".to_owned());
    let late = answer(&mut run, &decision, &choice, "ada", at(41));
    assert!(late.is_err(), "nobody asks any more");
    // Lost with its machine: the next job of the step is another, and asks for itself.
    let mut run = first.clone();
    let lost_job = run.step.live_jobs().next().unwrap();
    poll(&mut run, lost(LossCause::Crashed), at(40)).unwrap();
    assert_eq!(run.step.replaces, std::slice::from_ref(&lost_job));
    assert_eq!(run.head.status, Status::Running);
    poll(&mut run, asks("q"), at(41)).unwrap();
    assert_ne!(asked(&run), decision);
    // Stopped while it asks: its job is ended.
    let mut run = first.clone();
    let mark = StopMark::new("ada", None, at(50));
    stop(&mut run, &mark, at(50));
    assert!(run.effects.contains(&Effect::Reap(lost_job)));
}

#[test]
fn what_each_call_used_counts_once_and_is_kept_through_rounds() {
    let used = |prompt_tokens| Usage {
        prompt_tokens,
        completion_tokens: 1,
        cached_tokens: 0,
        ..Usage::default()
    };
    let mut step = job("coder");
    step["requiresApproval"] = json!(true);
    let mut run = run(json!([step]));
    advance(&mut run, at(0)).unwrap();
    poll(&mut run, CallStatus::Running, at(1)).unwrap();
    assert_eq!(run.step.usage, None);
    let answer = CheckedAnswer::of_output("draft").with_usage(Some(used(10)));
    let ended = CallStatus::Ended(CallResult::Done(answer));
    poll(&mut run, ended.clone(), at(2)).unwrap();
    assert_eq!(run.step.usage, Some(used(10)));
    // The call is left behind: its end cannot be counted again.
    poll(&mut run, ended, at(2)).unwrap_err();

    let changes = Answer::RequestChanges {
        feedback: Some("shorter".to_owned()),
        comments: Vec::new(),
    };
    let subject = run.step.approval.clone().unwrap().id;
    answer_to(&mut run, &subject, &changes);
    advance(&mut run, at(3)).unwrap();
    let failed = CallFailure {
        usage: Some(used(5)),
        ..CallFailure::new(FailureKind::Agent, "too long")
    };
    poll(
        &mut run,
        CallStatus::Ended(CallResult::Failed(failed)),
        at(4),
    )
    .unwrap();
    assert_eq!(run.head.status, Status::Failed);
    let both = used(10).plus(used(5));
    assert_eq!((run.step.usage, both.prompt_tokens), (Some(both), 15));
}

fn answer_to(run: &mut towpath_engine::Run, subject: &str, with: &Answer) {
    towpath_engine::answer(run, subject, with, "somebody", at(3)).unwrap();
}
