//! Runs to try transitions on.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use towpath_engine::{
    AgentAnswer, CallFailure, CallResult, CallStatus, CheckedAnswer, FailureKind, JobId, Kind,
    Loss, LossCause, NewRun, Pin, Plan, Role, Run, RunId, StepSpec, Timestamp, kinds::BUILT_IN,
    start,
};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn at(minutes: u32) -> Timestamp {
    Timestamp(1_000_000_000).plus(MINUTE * minutes)
}

pub(crate) fn run_id(n: u8) -> RunId {
    RunId::from_ulid(&format!("{n:026}")).unwrap()
}

pub(crate) fn plan_of(steps: Value, kinds: &[&'static dyn Kind]) -> Arc<Plan> {
    let steps: Vec<StepSpec> = serde_json::from_value(steps).unwrap();
    Arc::new(Plan::of(steps, kinds).unwrap())
}

pub(crate) fn new_run(steps: u16) -> NewRun {
    NewRun {
        id: run_id(1),
        workspace: "w".parse().unwrap(),
        block: "b".parse().unwrap(),
        pipeline: Pin {
            id: "p".parse().unwrap(),
            version: 1,
            name: "P".to_owned(),
            steps,
        },
        initiated_by: Some("somebody".to_owned()),
        approval: None,
        replaces: Vec::new(),
    }
}

/// A run of these steps, at its beginning.
pub(crate) fn run(steps: Value) -> Run {
    let plan = plan_of(steps, BUILT_IN);
    start(new_run(plan.len()), plan, at(0)).unwrap()
}

/// A step whose agent is a job.
pub(crate) fn job(kind: &str) -> Value {
    json!({"agentKind": kind, "runtime": {"kind": "process", "command": ["work"]}})
}

/// A gate with a helper.
pub(crate) fn gate(more: Value) -> Value {
    let mut gate = json!({
        "probe": {"kind": "command", "command": ["look"]},
        "helper": {"agentKind": "ci-fixer", "runtime": {"kind": "process", "command": ["fix"]}},
    });
    gate.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"agentKind": "ci", "gate": gate})
}

pub(crate) fn done(output: &str) -> CallStatus {
    CallStatus::Ended(CallResult::Done(CheckedAnswer::of_output(output)))
}

pub(crate) fn answered(answer: AgentAnswer) -> CallStatus {
    CallStatus::Ended(CallResult::Done(answer.checked().unwrap()))
}

pub(crate) fn exit(code: i32, printed: &str) -> CallStatus {
    CallStatus::Ended(CallResult::Failed(CallFailure {
        kind: FailureKind::JobFailed,
        message: format!("the command ended with exit code {code}"),
        detail: None,
        exit_code: Some(code),
        printed: Some(printed.to_owned()),
    }))
}

pub(crate) fn lost(cause: LossCause) -> CallStatus {
    CallStatus::Ended(CallResult::Lost(Loss {
        cause,
        message: "it is gone".to_owned(),
    }))
}

/// The id and role of the call that the run waits for.
pub(crate) fn calling(run: &Run) -> (JobId, Role) {
    let call = run.step.call().unwrap();
    (call.id.clone(), call.role)
}

pub(crate) fn failure(run: &Run) -> (FailureKind, String) {
    let failure = run.head.failure.clone().unwrap();
    (failure.kind, failure.message)
}
