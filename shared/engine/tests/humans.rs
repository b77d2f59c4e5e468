//! Runs that wait for humans.

use towpath_engine::*;

use crate::support::*;

#[test]
fn a_question_parks_the_run_and_the_answer_runs_the_step_again() {
    let mut run = asked();
    assert_eq!(
        (run.head.status, run.step.state()),
        (Status::Blocked, StepState::WaitingDecision)
    );
    assert_eq!(run.step.paused_at, Some(minute(5)));
    assert_eq!(run.changes.outputs, [], "a question is no result");
    let asked = subject(&run);
    let outcome = ada(&mut run, &Reply::Choice("red".to_owned()), minute(90));
    assert_eq!(outcome, Ok(Outcome::Continue));
    assert_eq!(run.step.decisions[0].chosen.as_deref(), Some("red"));
    let audit = run.changes.audit.clone().unwrap();
    assert_eq!(
        (audit.actor.as_str(), audit.action, audit.at),
        ("ada", Say::Decide, minute(90))
    );
    assert_eq!(
        (audit.subject, audit.reason.as_deref()),
        (asked.clone(), Some("red"))
    );

    advance(&mut run, minute(91)).unwrap();
    assert_eq!(live_job(&run).origin().1, 2, "under a new attempt");
    assert_eq!(
        (run.step.started_at, run.step.paused_at),
        (Some(minute(0)), None)
    );
    poll_job(
        &mut run,
        JobAnswer::Done(asks(&["light", "dark"])),
        minute(95),
    )
    .unwrap();
    assert_ne!(subject(&run), asked, "another question is another decision");
    assert_eq!(run.step.decisions.len(), 2, "and the first is remembered");
}

#[test]
fn only_what_is_offered_can_be_chosen() {
    let mut run = asked();
    let before = run.clone();
    let refused = ada(&mut run, &Reply::Choice("green".to_owned()), minute(6)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        r#""green" is none of the options: red, blue"#
    );
    assert_eq!(run, before);
}

#[test]
fn free_text_is_an_answer_where_the_agent_allows_it_or_offers_nothing() {
    let mut question = asks(&["red"]);
    question.decision.as_mut().unwrap().free_text = true;
    for answer in [question, asks(&[])] {
        let mut run = begun(vec![job("painter")]);
        poll_job(&mut run, JobAnswer::Done(answer), minute(1)).unwrap();
        let outcome = ada(
            &mut run,
            &Reply::Choice("like the sea".to_owned()),
            minute(2),
        );
        assert_eq!(outcome, Ok(Outcome::Continue));
    }
}

#[test]
fn an_approval_lets_the_run_go_on_and_the_humans_time_is_not_the_steps() {
    let mut run = proposed();
    assert_eq!(
        (run.head.status, run.step.state()),
        (Status::Blocked, StepState::WaitingDecision)
    );
    assert_eq!(
        run.step.approval.as_ref().unwrap().status,
        ApprovalStatus::Pending
    );
    commit(&mut run);
    assert_eq!(
        ada(&mut run, &approve(), minute(600)),
        Ok(Outcome::Continue)
    );
    assert_eq!(
        (run.head.status, run.head.current),
        (Status::Running, StepIndex(1))
    );
    let left = &run.changes.left[0];
    assert_eq!(left.finished_at, Some(minute(5)));
    assert_eq!(
        left.approval.as_ref().unwrap().status,
        ApprovalStatus::Approved
    );
    assert_eq!(
        left.output,
        Some(OutputRef {
            attempt: 1,
            bytes: 5
        })
    );
    assert_eq!(run.changes.outputs, [], "nothing was rewritten");
}

#[test]
fn a_human_may_put_it_in_their_own_words() {
    let mut run = proposed();
    commit(&mut run);
    let edited = Reply::Approve {
        proposal: Some("better draft".to_owned()),
    };
    ada(&mut run, &edited, minute(6)).unwrap();
    let left = &run.changes.left[0];
    assert_eq!(
        left.output,
        Some(OutputRef {
            attempt: 2,
            bytes: 12
        }),
        "beside the agent's, not over it"
    );
    let [output] = &run.changes.outputs[..] else {
        panic!()
    };
    assert_eq!(
        (output.step, output.attempt, output.text.as_str()),
        (StepIndex(0), 2, "better draft")
    );
}

#[test]
fn requested_changes_run_the_step_again_with_what_was_said_and_ask_again() {
    let mut run = proposed();
    let (first, epoch) = (subject(&run), run.head.epoch);
    let comment = Comment {
        quoted_source: Some("dra".to_owned()),
        src_start: Some(0),
        src_end: Some(3),
        anchor_id: None,
        body: "spell it out".to_owned(),
    };
    let reply = Reply::RequestChanges {
        feedback: Some("longer".to_owned()),
        comments: vec![comment.clone()],
    };
    assert_eq!(ada(&mut run, &reply, minute(60)), Ok(Outcome::Continue));
    assert_eq!(
        (run.head.status, run.head.epoch),
        (Status::Running, epoch + 1)
    );
    assert_eq!(
        run.changes.audit.as_ref().unwrap().reason.as_deref(),
        Some("longer\nspell it out")
    );
    let step = &run.step;
    assert_eq!((step.state(), step.epoch), (StepState::Pending, epoch + 1));
    assert_eq!(
        (
            &step.output,
            &step.approval,
            step.started_at,
            step.paused_at
        ),
        (&None, &None, None, None)
    );
    let revision = step.revision.clone().unwrap();
    assert_eq!(
        revision.previous,
        OutputRef {
            attempt: 1,
            bytes: 5
        }
    );
    assert_eq!(
        (revision.feedback.as_deref(), revision.comments),
        (Some("longer"), vec![comment])
    );

    advance(&mut run, minute(61)).unwrap();
    assert_eq!(live_job(&run).origin().1, 2, "no attempt is used twice");
    assert_eq!(
        run.step.started_at,
        Some(minute(61)),
        "the clock is that of this attempt"
    );
    poll_job(&mut run, JobAnswer::Done(said("longer draft")), minute(70)).unwrap();
    assert_ne!(
        subject(&run),
        first,
        "an old approval cannot approve the new result"
    );
    assert_eq!(run.step.revision, None, "it was heeded");
    let late = answer(&mut run, &first, &approve(), "bob", minute(71));
    assert_eq!(late, Err(Refused::NotAsked(first)));
}

#[test]
fn a_loop_keeps_decisions_and_evictions() {
    let mut run = begun(vec![approved(job("writer")), inline("printer")]);
    poll_job(&mut run, evicted(false), minute(1)).unwrap();
    poll_job(&mut run, JobAnswer::Done(asks(&["a", "b"])), minute(2)).unwrap();
    ada(&mut run, &Reply::Choice("b".to_owned()), minute(3)).unwrap();
    advance(&mut run, minute(4)).unwrap();
    poll_job(&mut run, JobAnswer::Done(said("draft")), minute(5)).unwrap();
    ada(&mut run, &changes("more"), minute(6)).unwrap();
    assert_eq!(run.step.decisions[0].chosen.as_deref(), Some("b"));
    assert_eq!(run.step.evictions.crashes, 1);
    advance(&mut run, minute(7)).unwrap();
    let outcome = poll_job(&mut run, evicted(false), minute(8)).unwrap();
    assert!(
        matches!(outcome, Outcome::JobEvicted { .. }),
        "a loop buys no second crash"
    );
}

#[test]
fn a_rejection_ends_the_run() {
    let mut run = proposed();
    commit(&mut run);
    assert_eq!(ada(&mut run, &reject(), minute(9)), Ok(Outcome::Noop));
    let failure = run.head.failure.clone().unwrap();
    assert_eq!(
        (failure.kind, failure.detail.as_deref()),
        (FailureKind::Rejected, Some("wrong"))
    );
    assert_eq!(
        run.step.approval.as_ref().unwrap().status,
        ApprovalStatus::Rejected
    );
    assert_eq!(run.changes.block.ended, Some(Ended::Failed));
    assert_eq!(run.changes.audit.as_ref().unwrap().action, Say::Reject);
}

#[test]
fn the_last_steps_result_is_nobodys_to_approve() {
    let mut run = begun(vec![approved(inline("writer"))]);
    assert_eq!(record(&mut run, said("x"), minute(1)), Ok(Outcome::Done));
    let mut run = begun(vec![approved(gate("ci"))]);
    assert_eq!(
        poll_gate(&mut run, GateAnswer::Passed(String::new()), minute(1)),
        Ok(Outcome::Done)
    );
}

#[test]
fn a_question_is_asked_even_by_the_last_step() {
    let mut run = begun(vec![approved(inline("writer"))]);
    let outcome = record(&mut run, asks(&["a"]), minute(1)).unwrap();
    assert!(matches!(outcome, Outcome::AwaitingDecision { .. }));
}

#[test]
fn an_answer_must_fit_the_question() {
    for (mut run, reply) in [
        (asked(), approve()),
        (asked(), changes("x")),
        (asked(), reject()),
        (proposed(), Reply::Choice("red".to_owned())),
    ] {
        let before = run.clone();
        assert!(matches!(
            ada(&mut run, &reply, minute(6)),
            Err(Refused::WrongKind(_))
        ));
        assert_eq!(run, before);
    }
}

#[test]
fn an_answer_to_something_else_is_refused_by_name() {
    for (mut run, reply) in [
        (asked(), Reply::Choice("red".to_owned())),
        (proposed(), approve()),
    ] {
        let before = run.clone();
        let refused = answer(&mut run, "apr-7-7", &reply, "ada", minute(6)).unwrap_err();
        assert_eq!(refused.to_string(), "the run does not wait for apr-7-7");
        assert_eq!(run, before);
    }
}

#[test]
fn a_settled_question_is_asked_no_more() {
    for (mut run, reply) in [
        (asked(), Reply::Choice("red".to_owned())),
        (proposed(), approve()),
        (proposed(), changes("x")),
        (proposed(), reject()),
    ] {
        let settled = subject(&run);
        answer(&mut run, &settled, &reply, "ada", minute(6)).unwrap();
        let before = run.clone();
        let again = answer(&mut run, &settled, &reply, "ada", minute(7));
        assert_eq!(again, Err(Refused::NotAsked(settled)));
        assert_eq!(run, before);
    }
}

#[test]
fn a_decision_that_was_lost_from_the_record_is_a_fault_and_not_an_answer() {
    let mut run = asked();
    run.step.decisions.clear();
    let before = run.clone();
    let refused = ada(&mut run, &Reply::Choice("red".to_owned()), minute(6)).unwrap_err();
    assert!(refused.to_string().contains("not on record"), "{refused}");
    assert_eq!(run, before);
}
