//! What humans say: answers, stops, retries.

use serde_json::json;
use towpath_engine::{
    AgentAnswer, Answer, AnswerError, AuditAction, BlockChange, Effect, Ended, FailureKind,
    Outcome, Phase, Question, Status, StepIndex, StopMark, advance, answer, kinds::BUILT_IN, poll,
    restart, retry, start, stop,
};

use crate::support::{
    answered, approved, asked, at, calling, changes, done, exit, failure, job, new_run, plan_of,
    proposed, run, run_id, subject,
};

fn approved_job() -> serde_json::Value {
    approved(job("coder"))
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
    answer(&mut run, &id, &changes("shorter"), "ann", at(4)).unwrap();
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

/// The records and effects of a run that waits for its start to be allowed.
fn starting() -> towpath_engine::Run {
    let mut new = new_run(1);
    new.approval = Some("May it?".to_owned());
    start(new, plan_of(json!([job("coder")]), BUILT_IN), at(0)).unwrap()
}

fn choice(text: &str) -> Answer {
    Answer::Choice(text.to_owned())
}

fn approve() -> Answer {
    Answer::Approve { proposal: None }
}

fn reject(reason: &str) -> Answer {
    Answer::Reject {
        reason: Some(reason.to_owned()),
    }
}

#[test]
fn an_answer_must_fit_the_question() {
    let edited = Answer::Approve {
        proposal: Some("mine".to_owned()),
    };
    for (mut run, said, told) in [
        (
            asked(),
            approve(),
            "this is a decision: answer it with a choice",
        ),
        (
            asked(),
            changes("x"),
            "this is a decision: answer it with a choice",
        ),
        (
            asked(),
            reject("x"),
            "this is a decision: answer it with a choice",
        ),
        (
            asked(),
            choice("green"),
            "\"green\" is none of the options: red, blue",
        ),
        (
            proposed(),
            choice("red"),
            "this is an approval: approve, request changes or reject",
        ),
        (
            starting(),
            edited,
            "the run has not begun: approve it, without a proposal, or reject it",
        ),
        (
            starting(),
            changes("x"),
            "the run has not begun: approve it, without a proposal, or reject it",
        ),
    ] {
        let (before, id) = (run.clone(), subject(&run));
        let refused = answer(&mut run, &id, &said, "ann", at(6)).unwrap_err();
        assert_eq!(refused.to_string(), told);
        assert_eq!(run, before);
    }
}

#[test]
fn a_settled_question_is_asked_no_more() {
    for (mut run, said) in [
        (asked(), choice("red")),
        (proposed(), approve()),
        (proposed(), changes("x")),
        (proposed(), reject("x")),
        (starting(), approve()),
    ] {
        let id = subject(&run);
        answer(&mut run, &id, &said, "ann", at(6)).unwrap();
        let before = run.clone();
        let again = answer(&mut run, &id, &said, "ann", at(7)).unwrap_err();
        assert_eq!(again.to_string(), format!("the run does not wait for {id}"));
        assert_eq!(run, before);
    }
}

#[test]
fn every_answer_stands_in_the_audit() {
    let mut remarks = changes("shorter");
    if let Answer::RequestChanges { comments, .. } = &mut remarks {
        let comment = json!({"body": "and in colour"});
        comments.push(serde_json::from_value(comment).unwrap());
    }
    let silent = Answer::RequestChanges {
        feedback: None,
        comments: Vec::new(),
    };
    let long = "w".repeat(1025);
    for (mut run, said, action, words) in [
        (asked(), choice("red"), AuditAction::Decide, Some("red")),
        (proposed(), approve(), AuditAction::Approve, None),
        (
            proposed(),
            remarks,
            AuditAction::RequestChanges,
            Some("shorter\nand in colour"),
        ),
        (proposed(), silent, AuditAction::RequestChanges, None),
        (
            proposed(),
            reject("wrong"),
            AuditAction::Reject,
            Some("wrong"),
        ),
        (
            proposed(),
            reject(&long),
            AuditAction::Reject,
            Some(&format!("{}…", "w".repeat(1024))),
        ),
        (starting(), approve(), AuditAction::Approve, None),
    ] {
        let id = subject(&run);
        answer(&mut run, &id, &said, "ann", at(6)).unwrap();
        let audits: Vec<_> = run
            .effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Audit(audit) => Some(audit),
                _ => None,
            })
            .collect();
        let [audit] = audits[..] else {
            panic!("{audits:?}")
        };
        assert_eq!((audit.action, audit.reason.as_deref()), (action, words));
        assert_eq!(
            (audit.actor.as_str(), &audit.subject, audit.at),
            ("ann", &id, at(6))
        );
    }
    use towpath_engine::ApprovalStatus::{Approved, ChangesRequested, Rejected};
    for (action, verdict) in [
        (AuditAction::Approve, Some(Approved)),
        (AuditAction::RequestChanges, Some(ChangesRequested)),
        (AuditAction::Reject, Some(Rejected)),
        (AuditAction::Decide, None),
        (AuditAction::Stop, None),
    ] {
        assert_eq!(action.verdict(), verdict);
    }
}

#[test]
fn a_human_may_put_it_in_their_own_words() {
    let mut run = proposed();
    let (id, draft) = (subject(&run), run.step.output.clone());
    let edited = Answer::Approve {
        proposal: Some("better draft".to_owned()),
    };
    answer(&mut run, &id, &edited, "ann", at(6)).unwrap();
    assert_ne!(run.step.output, draft);
    assert_eq!(run.step.output.as_ref().unwrap().bytes, 12);
    let kept = run
        .effects
        .iter()
        .any(|effect| matches!(effect, Effect::Output(output) if output.text == "better draft"));
    assert!(kept);
    let approval = run.step.approval.unwrap();
    assert_eq!(approval.status, towpath_engine::ApprovalStatus::Approved);
    assert_eq!(
        Some(approval.proposal),
        draft,
        "what was proposed stays on record"
    );
}

#[test]
fn a_rejection_ends_the_run() {
    for (mut run, told) in [
        (proposed(), "the result of coder was rejected"),
        (starting(), "the start of the run was rejected"),
    ] {
        let id = subject(&run);
        let outcome = answer(&mut run, &id, &reject("wrong"), "ann", at(9)).unwrap();
        assert_eq!(outcome, Outcome::Noop);
        assert_eq!(failure(&run), (FailureKind::Rejected, told.to_owned()));
        assert_eq!(run.head.failure.unwrap().detail.as_deref(), Some("wrong"));
        if let Some(approval) = run.step.approval {
            assert_eq!(approval.status, towpath_engine::ApprovalStatus::Rejected);
            assert_eq!(approval.feedback.as_deref(), Some("wrong"));
        }
    }
}

#[test]
fn a_start_that_is_allowed_begins_and_remembers_it() {
    let mut run = starting();
    let id = subject(&run);
    assert_eq!(run.step.paused_at, Some(at(0)));
    let outcome = answer(&mut run, &id, &approve(), "ann", at(6)).unwrap();
    assert_eq!(outcome, Outcome::Continue);
    assert_eq!(run.step.paused_at, None);
    assert_eq!(run.step.decisions[0].chosen.as_deref(), Some("approve"));
    assert_eq!(run.step.decisions[0].options, ["approve", "reject"]);
}

#[test]
fn a_decision_that_was_lost_from_the_record_is_a_fault_and_not_an_answer() {
    let mut run = asked();
    run.step.decisions.clear();
    let (before, id) = (run.clone(), subject(&run));
    let refused = answer(&mut run, &id, &choice("red"), "ann", at(6)).unwrap_err();
    assert!(
        refused.to_string().contains("is not on record"),
        "{refused}"
    );
    assert_eq!(run, before);
}
