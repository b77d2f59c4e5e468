//! Runs to try transitions on.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use towpath_engine::{
    AgentAnswer, Answer, CallFailure, CallResult, CallStatus, CheckedAnswer, FailureKind, JobId,
    Kind, Loss, LossCause, NewRun, Outcome, Pin, Plan, Question, Role, Run, RunId, StepSpec,
    Timestamp, advance, kinds::BUILT_IN, poll, start,
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
        usage: None,
    }))
}

pub(crate) fn lost(cause: LossCause) -> CallStatus {
    CallStatus::Ended(CallResult::Lost(Loss {
        cause,
        message: "it is gone".to_owned(),
        usage: None,
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

/// Makes a step one whose result a human must approve.
pub(crate) fn approved(mut step: Value) -> Value {
    step["requiresApproval"] = json!(true);
    step
}

/// The answer of an agent that asks a human.
pub(crate) fn asks(options: &[&str]) -> AgentAnswer {
    AgentAnswer {
        decision: Some(Question {
            question: "Which?".to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            free_text: false,
        }),
        ..AgentAnswer::default()
    }
}

/// A run whose agent asks a human since minute 1, before its last step.
pub(crate) fn asked() -> Run {
    let mut run = run(json!([job("coder"), job("writer")]));
    advance(&mut run, at(0)).unwrap();
    poll(&mut run, answered(asks(&["red", "blue"])), at(1)).unwrap();
    run
}

/// A run that waits for the approval of its only step's result since minute 1.
pub(crate) fn proposed() -> Run {
    let mut run = run(json!([approved(job("coder"))]));
    advance(&mut run, at(0)).unwrap();
    poll(&mut run, done("draft"), at(1)).unwrap();
    run
}

/// The id that an answer to the run's question names.
pub(crate) fn subject(run: &Run) -> String {
    match run.outcome() {
        Outcome::AwaitingDecision { decision } => decision,
        other => panic!("{other:?} asks nobody"),
    }
}

pub(crate) fn changes(feedback: &str) -> Answer {
    Answer::RequestChanges {
        feedback: Some(feedback.to_owned()),
        comments: Vec::new(),
    }
}

/// Numbers that are the same for the same seed: SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number less than `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}
