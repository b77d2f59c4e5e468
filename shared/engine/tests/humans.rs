//! What humans say: answers, stops, retries.

use serde_json::json;
use towpath_engine::{
    AgentAnswer, Answer, AnswerError, AuditAction, BlockChange, Effect, Ended, FailureKind,
    Outcome, Phase, Question, Status, StepIndex, StopMark, advance, answer, kinds::BUILT_IN, poll,
    restart, retry, start, stop,
};

use crate::support::{
    answered, at, calling, done, exit, failure, job, new_run, plan_of, run, run_id,
};

fn approved_job() -> serde_json::Value {
    let mut step = job("coder");
    step["requiresApproval"] = json!(true);
    step
}

fn subject(run: &towpath_engine::Run) -> String {
    match run.outcome() {
        Outcome::AwaitingDecision { decision } => decision,
        other => panic!("{other:?} asks nobody"),
    }
}

#[test]
fn the_last_step_waits_for_its_approval_like_any_other() {
    let mut run = run(json!([approved_job()]));
    advance(&mut run, at(0)).unwrap();
    let sure = AgentAnswer {
        output: "made".to_owned(),
        confidence: Some(0.5),
        ..AgentAnswer::default()
    };
    poll(&mut run, answered(sure), at(1)).unwrap();
    assert_eq!(run.head.status, Status::Blocked);
    let confident = |run: &towpath_engine::Run| {
        run.effects
            .contains(&Effect::Block(BlockChange::Confidence(0.5)))
    };
    assert!(
        !confident(&run),
        "the block hears of a result only once it is approved"
    );
    let id = subject(&run);
    answer(
        &mut run,
        &id,
        &Answer::Approve { proposal: None },
        "ann",
        at(60),
    )
    .unwrap();
    assert_eq!(run.head.status, Status::Done);
    assert!(confident(&run));
    assert_eq!(
        run.step.finished_at,
        Some(at(1)),
        "a human's time is not the step's"
    );
}

#[test]
fn changes_requested_are_kept_by_the_retry_of_a_job_that_failed() {
    let mut run = run(json!([approved_job()]));
    advance(&mut run, at(0)).unwrap();
    let asks = AgentAnswer {
        decision: Some(Question {
            question: "Which?".to_owned(),
            options: vec!["a".to_owned()],
            free_text: false,
        }),
        ..AgentAnswer::default()
    };
    poll(&mut run, answered(asks), at(1)).unwrap();
    let id = subject(&run);
    let other = answer(
        &mut run.clone(),
        &id,
        &Answer::Choice("b".to_owned()),
        "ann",
        at(2),
    );
    assert!(matches!(other, Err(AnswerError::NotAnOption { .. })));
    answer(&mut run, &id, &Answer::Choice("a".to_owned()), "ann", at(2)).unwrap();
    poll(&mut run, done("draft"), at(3)).unwrap();
    let id = subject(&run);
    let changes = Answer::RequestChanges {
        feedback: Some("shorter".to_owned()),
        comments: Vec::new(),
    };
    answer(&mut run, &id, &changes, "ann", at(4)).unwrap();
    advance(&mut run, at(4)).unwrap();
    poll(&mut run, exit(1, "boom"), at(5)).unwrap();
    assert_eq!(failure(&run).0, FailureKind::JobFailed);

    let again = retry(&run, run_id(2), Some("ben"), at(6)).unwrap();
    let revision = again.step.revision.as_ref().unwrap();
    assert_eq!(revision.feedback.as_deref(), Some("shorter"));
    assert_eq!(
        revision.previous.run,
        Some(run_id(1)),
        "the draft is where it was made"
    );
    assert_eq!(again.step.decisions[0].chosen.as_deref(), Some("a"));
    assert_eq!(
        again.head.calls, run.head.calls,
        "no decision of the new run shares an id with one that is kept"
    );
}

#[test]
fn a_restart_waits_for_the_old_runs_job() {
    let mut old = run(json!([job("coder"), job("writer")]));
    advance(&mut old, at(0)).unwrap();
    let live = old.step.call().unwrap().job_ref();
    stop(&mut old, &StopMark::new("ann", None, at(1)), at(1));
    let new = restart(&old, StepIndex(0), run_id(2), None, at(1)).unwrap();
    assert_eq!(new.step.replaces, [live]);
    assert!(restart(&old, StepIndex(1), run_id(2), None, at(1)).is_err());
}

#[test]
fn a_stop_ends_whatever_the_run_is_at_and_stands_in_the_audit() {
    let mut run = run(json!([job("coder")]));
    advance(&mut run, at(0)).unwrap();
    let live = run.step.call().unwrap().job_ref();
    run.head.stop = Some(StopMark::new("ann", Some("enough"), at(1)));
    let mark = run.head.stop.clone().unwrap();
    stop(&mut run, &mark, at(2));
    assert_eq!(
        (failure(&run), run.head.stop.clone()),
        ((FailureKind::Cancelled, "enough".to_owned()), None)
    );
    assert!(run.effects.contains(&Effect::Reap(live)));
    assert!(
        run.effects
            .contains(&Effect::Block(BlockChange::Ended(Ended::Failed)))
    );
    let audits = |e: &&Effect| matches!(e, Effect::Audit(a) if a.action == AuditAction::Stop && a.actor == "ann");
    assert_eq!(run.effects.iter().filter(audits).count(), 1);
    let over = run.clone();
    stop(&mut run, &mark, at(3));
    assert_eq!(run, over);
}

#[test]
fn a_run_can_wait_for_a_human_before_its_first_step() {
    let plan = plan_of(json!([job("coder")]), BUILT_IN);
    let mut new = new_run(1);
    new.approval = Some("A fork wants to run this. May it?".to_owned());
    let mut run = start(new, plan, at(0)).unwrap();
    assert_eq!(run.head.status, Status::Blocked);
    assert!(matches!(
        advance(&mut run, at(1)).unwrap(),
        Outcome::AwaitingDecision { .. }
    ));
    let id = subject(&run);
    let mut refused = run.clone();
    answer(
        &mut refused,
        &id,
        &Answer::Reject { reason: None },
        "ann",
        at(2),
    )
    .unwrap();
    assert_eq!(failure(&refused).0, FailureKind::Rejected);
    answer(
        &mut run,
        &id,
        &Answer::Approve { proposal: None },
        "ann",
        at(2),
    )
    .unwrap();
    assert_eq!(run.step.phase, Phase::Pending);
    advance(&mut run, at(2)).unwrap();
    calling(&run);
}

#[test]
fn an_answer_to_something_else_changes_nothing() {
    let mut run = run(json!([approved_job()]));
    advance(&mut run, at(0)).unwrap();
    poll(&mut run, done("made"), at(1)).unwrap();
    let before = run.clone();
    let late = answer(
        &mut run,
        "apr-99",
        &Answer::Approve { proposal: None },
        "ann",
        at(2),
    );
    assert_eq!(late, Err(AnswerError::NotAsked("apr-99".to_owned())));
    assert_eq!(run, before);
}

#[test]
fn an_answer_is_checked_before_it_is_taken() {
    let question = |options: usize, bytes: usize| AgentAnswer {
        decision: Some(Question {
            question: "q".repeat(bytes),
            options: (0..options).map(|n| n.to_string()).collect(),
            free_text: false,
        }),
        ..AgentAnswer::default()
    };
    assert!(question(20, 4096).checked().is_ok());
    assert!(question(21, 1).checked().is_err());
    assert!(question(1, 4097).checked().is_err());
    for (given, kept) in [
        (f64::NAN, None),
        (f64::INFINITY, Some(1.0)),
        (-1.0, Some(0.0)),
        (1e-300, Some(0.0)),
        (0.25, Some(0.25)),
        (7.0, Some(1.0)),
    ] {
        let answer = AgentAnswer {
            confidence: Some(given),
            ..AgentAnswer::default()
        };
        assert_eq!(answer.checked().unwrap().confidence, kept, "{given}");
    }
}
