//! The records: their form as JSON, and their size.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use towpath_engine::{
    About, Answer, Approval, ApprovalStatus, Audit, AuditAction, Block, Comment, Deaths, Effect,
    FailureKind, Fence, JobRef, Next, OutputRef, PAYLOAD_FORM, Reason, Revision, Role, Segment,
    Step, StepIndex, StopMark, Wait, advance, answer, driver_died, fail, hold, poll,
};

use crate::support::{MINUTE, asked, at, exit, gate as a_gate, job, proposed, run, run_id};

fn read<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}

/// Checks that a record is written as this JSON and read from it.
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(record: &T, json: Value) {
    assert_eq!(serde_json::to_value(record).unwrap(), json);
    assert_eq!(&read::<T>(json), record);
}

fn reads_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(record: &T) {
    let text = serde_json::to_string(record).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), record, "{text}");
}

#[test]
fn a_head_has_this_form() {
    let run = run(json!([job("coder")]));
    golden(
        &run.head,
        json!({
            "id": "run_00000000000000000000000001", "workspace": "w", "block": "b",
            "pipeline": {"id": "p", "version": 1, "name": "P", "steps": 1},
            "status": "running", "current": 0, "epoch": 0, "calls": 0, "generation": 1,
            "initiatedBy": "somebody", "createdAt": 1_000_000_000, "rev": 0,
        }),
    );
}

#[test]
fn a_head_with_all_it_can_have_has_this_form() {
    let mut run = run(json!([job("coder")]));
    driver_died(&mut run, "Towpath.Throttled", MINUTE, at(0));
    driver_died(&mut run, "States.Runtime", MINUTE, at(0));
    let (driver, generation) = (run.head.driver, run.head.generation);
    fail(&mut run, FailureKind::Agent, "no", Some("more"), at(1));
    run.head.driver = driver;
    run.head.retried_from = Some(run_id(7));
    run.head.stop = Some(StopMark::new("ann", Some("enough"), at(2)));
    assert_eq!(generation, 3);
    golden(
        &run.head,
        json!({
            "id": "run_00000000000000000000000001", "workspace": "w", "block": "b",
            "pipeline": {"id": "p", "version": 1, "name": "P", "steps": 1},
            "status": "failed", "current": 0, "epoch": 0, "calls": 0, "generation": 3,
            "driver": {"counted": 1, "excused": 1},
            "stop": {"actor": "ann", "at": 1_000_120_000, "reason": "enough"},
            "failure": {
                "kind": "agent", "message": "no", "detail": "more", "occurredAt": 1_000_060_000,
                "hint": "Look at the step's log; correct the agent or its input, then retry the run.",
            },
            "initiatedBy": "somebody", "retriedFrom": "run_00000000000000000000000007",
            "createdAt": 1_000_000_000, "finishedAt": 1_000_060_000, "rev": 0,
        }),
    );
}

/// The record of a step with this phase and nothing else to tell.
fn step_with(phase: Value, more: Value) -> Value {
    let mut step =
        json!({"index": 0, "agentKind": "coder", "epoch": 0, "attempt": 0, "phase": phase});
    step.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    step
}

#[test]
fn a_step_in_each_phase_has_this_form() {
    let mut run = run(json!([job("coder")]));
    golden(&run.step, step_with(json!({"is": "pending"}), json!({})));
    advance(&mut run, at(0)).unwrap();
    let mut call = json!({
        "is": "calling", "id": "job_00000000000000000000000001-1", "role": "main", "runtime": "command",
        "deadline": 1_004_200_000,
    });
    let begun = json!({"attempt": 1, "startedAt": 1_000_000_000});
    golden(&run.step, step_with(call.clone(), begun.clone()));
    hold(&mut run, MINUTE, "no room", at(0)).unwrap();
    call["held"] = json!({"until": 1_000_060_000, "tries": 1, "why": "no room"});
    golden(&run.step, step_with(call, begun));

    let mut asked = asked();
    asked.step.attempt = 0;
    golden(
        &asked.step,
        step_with(
            json!({"is": "asking", "subject": "dec-2", "about": "decision", "since": 1_000_060_000}),
            json!({
                "startedAt": 1_000_000_000, "pausedAt": 1_000_060_000,
                "lastJob": "job_00000000000000000000000001-1",
                "decisions": [{"id": "dec-2", "question": "Which?", "options": ["red", "blue"], "freeText": false}],
            }),
        ),
    );
}

#[test]
fn a_resting_step_has_this_form() {
    let mut run = run(json!([a_gate(json!({}))]));
    advance(&mut run, at(0)).unwrap();
    poll(&mut run, exit(75, ""), at(1)).unwrap();
    golden(
        &run.step,
        json!({
            "index": 0, "agentKind": "ci", "epoch": 0, "attempt": 1,
            "phase": {
                "is": "resting", "since": 1_000_060_000, "until": 1_000_120_000,
                "why": "it is too early to say; the gate ci looks again",
            },
            "startedAt": 1_000_000_000,
            "state": {"attempts": 0, "maxAttempts": 10, "polls": 1, "since": 1_000_000_000},
            "lastJob": "job_00000000000000000000000001-1",
        }),
    );
}

#[test]
fn a_finished_step_with_all_it_can_have_has_this_form() {
    let mut run = proposed();
    answer(
        &mut run,
        "apr-3",
        &Answer::Approve { proposal: None },
        "ann",
        at(9),
    )
    .unwrap();
    let mut step = run.step;
    step.skipped = true;
    step.model = Some("m".to_owned());
    step.confidence = Some(0.5);
    step.evictions.crashes = 1;
    (step.unreadable.looks, step.unreadable.last) = (2, at(1));
    let replaced = "job_00000000000000000000000001-1".parse().unwrap();
    step.replaces = vec![JobRef {
        job: replaced,
        runtime: "process".to_owned(),
    }];
    step.revision = Some(Revision {
        previous: OutputRef {
            number: 1,
            bytes: 2,
            run: Some(run_id(7)),
            artifacts: Vec::new(),
        },
        feedback: Some("shorter".to_owned()),
        comments: Vec::new(),
    });
    golden(
        &step,
        json!({
            "index": 0, "agentKind": "coder", "epoch": 0, "attempt": 1, "phase": {"is": "done"}, "skipped": true,
            "startedAt": 1_000_000_000, "finishedAt": 1_000_060_000,
            "output": {"number": 2, "bytes": 5}, "confidence": 0.5, "model": "m",
            "approval": {"id": "apr-3", "status": "approved", "proposal": {"number": 2, "bytes": 5}},
            "revision": {
                "previous": {"number": 1, "bytes": 2, "run": "run_00000000000000000000000007"}, "feedback": "shorter",
            },
            "evictions": {"crashes": 1, "transient": 0}, "unreadable": {"looks": 2, "last": 1_000_060_000},
            "replaces": [{"job": "job_00000000000000000000000001-1", "runtime": "process"}],
            "lastJob": "job_00000000000000000000000001-1",
        }),
    );
}

#[test]
fn a_mailbox_has_this_form() {
    golden(
        &Wait::fresh(None, at(0)),
        json!({
            "seq": 0, "generation": 1, "form": 2, "reason": {"for": "driver"}, "since": 1_000_000_000,
            "due": 1_000_030_000, "driveAt": 1_000_000_000,
        }),
    );
    let fence = Fence {
        generation: 1,
        entered: at(1),
        retry: 2,
    };
    let human = Reason::Human {
        subject: "apr-3".to_owned(),
    };
    let parked = Wait::fresh(None, at(0)).begin(fence, "token", PAYLOAD_FORM, human, at(1));
    let mut woken = parked.unwrap().looked(at(2)).wake(Next::PollJob, at(3));
    (woken.entered, woken.retrying) = (Some(at(4)), true);
    golden(
        &woken,
        json!({
            "seq": 3, "generation": 1, "fence": {"generation": 1, "entered": 1_000_060_000, "retry": 2},
            "token": "token", "form": 2, "reason": {"for": "human", "subject": "apr-3"}, "since": 1_000_060_000,
            "due": 1_000_210_000, "wake": "poll-job", "polls": 1, "entries": 1, "entered": 1_000_240_000,
            "retrying": true,
        }),
    );
}

#[test]
fn every_reason_to_wait_has_a_form_of_its_own() {
    let id = "job_00000000000000000000000001-1";
    let job = Reason::Job {
        job: id.parse().unwrap(),
        role: Role::Probe,
        deadline: at(0),
    };
    golden(
        &job,
        json!({"for": "job", "job": id, "role": "probe", "deadline": 1_000_000_000}),
    );
    let rest = Reason::Rest {
        step: StepIndex(3),
        until: at(0),
    };
    golden(
        &rest,
        json!({"for": "rest", "step": 3, "until": 1_000_000_000}),
    );
    golden(&Reason::Budget, json!({"for": "budget"}));
    golden(&Reason::Nothing, json!({"for": "nothing"}));
    for (next, name) in [
        (Next::Advance, "advance"),
        (Next::PollJob, "poll-job"),
        (Next::PollGate, "poll-gate"),
        (Next::Handover, "handover"),
        (Next::Over, "over"),
    ] {
        golden(&next, json!(name));
    }
}

#[test]
fn every_other_record_reads_back_as_it_was_written() {
    let mut refused = proposed();
    let reject = Answer::Reject {
        reason: Some("wrong".to_owned()),
    };
    answer(&mut refused, "apr-3", &reject, "ann", at(9)).unwrap();
    let Some(Effect::Audit(audit)) = refused.effects.last() else {
        panic!("a rejection is audited");
    };
    golden::<Audit>(
        audit,
        json!({"at": 1_000_540_000, "actor": "ann", "action": "reject", "subject": "apr-3", "reason": "wrong"}),
    );
    reads_back(&refused.head);
    reads_back(&refused.step);
    reads_back(&Segment {
        upto: StepIndex(3),
        run: run_id(7),
    });
    reads_back(&Approval {
        id: "apr-3".to_owned(),
        status: ApprovalStatus::ChangesRequested,
        proposal: OutputRef {
            number: 1,
            bytes: 2,
            run: None,
            artifacts: Vec::new(),
        },
        feedback: None,
        comments: vec![Comment {
            quoted_source: Some("a".to_owned()),
            src_start: Some(1),
            src_end: Some(2),
            anchor_id: Some("x".to_owned()),
            body: "no".to_owned(),
        }],
    });
    for about in [About::Decision, About::Approval, About::Start] {
        reads_back(&about);
    }
    for action in [
        AuditAction::Decide,
        AuditAction::Approve,
        AuditAction::RequestChanges,
        AuditAction::Reject,
        AuditAction::Stop,
    ] {
        reads_back(&action);
    }
}

#[test]
fn a_field_that_a_record_does_not_know_is_passed_over() {
    fn knows_not<T: Serialize + DeserializeOwned + PartialEq + Debug>(record: &T) {
        let mut json = serde_json::to_value(record).unwrap();
        json["newer"] = json!({"of": "a later release"});
        assert_eq!(&read::<T>(json), record);
    }
    let run = asked();
    knows_not(&run.head);
    knows_not(&run.step);
    knows_not(&run.head.pipeline);
    knows_not(&run.step.decisions[0]);
    knows_not(&Wait::fresh(None, at(0)));
    knows_not(&StopMark::new("ann", None, at(0)));
    knows_not(&Deaths::default());
    let block: Block = read(json!({"id": "b", "workspace": "w", "title": "B", "newer": 1}));
    assert_eq!((block.branch().as_str(), block.rev), ("towpath/b", 0));
    let mut calling = self::run(json!([job("coder")]));
    advance(&mut calling, at(0)).unwrap();
    let mut json = serde_json::to_value(&calling.step).unwrap();
    json["phase"]["newer"] = json!(1);
    assert_eq!(read::<Step>(json), calling.step);
}

#[test]
fn a_record_that_lacks_what_its_phase_or_reason_needs_is_refused() {
    let step = |phase| serde_json::from_value::<Step>(step_with(phase, json!({})));
    for (phase, told) in [
        (
            json!({"is": "calling", "role": "main"}),
            "missing field `id`",
        ),
        (
            json!({"is": "resting", "since": 1, "until": 2}),
            "missing field `why`",
        ),
        (
            json!({"is": "asking", "about": "start", "since": 1}),
            "missing field `subject`",
        ),
        (json!({"is": "dancing"}), "unknown variant `dancing`"),
    ] {
        let error = step(phase).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
    let error = serde_json::from_value::<Reason>(json!({"for": "rest", "step": 1})).unwrap_err();
    assert!(
        error.to_string().contains("missing field `until`"),
        "{error}"
    );
}
