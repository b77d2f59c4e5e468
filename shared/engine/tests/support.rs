//! Runs to test on.

use std::sync::Arc;

use serde_json::json;
use towpath_engine::*;

/// A minute of the test's own time.
pub(crate) fn minute(n: u64) -> Timestamp {
    Timestamp(1_760_000_000_000 + n * 60_000)
}

pub(crate) fn run_id(n: u64) -> RunId {
    RunId::from_ulid(&format!("{n:026}")).unwrap()
}

/// A step whose agent answers at once.
pub(crate) fn inline(kind: &str) -> StepSpec {
    let spec = json!({ "agentKind": kind, "runtime": { "kind": "simulated", "output": "ok" } });
    serde_json::from_value(spec).unwrap()
}

/// A step whose agent is a job.
pub(crate) fn job(kind: &str) -> StepSpec {
    let spec = json!({ "agentKind": kind, "runtime": { "kind": "process", "command": ["make"] } });
    serde_json::from_value(spec).unwrap()
}

/// A gate without a helper.
pub(crate) fn gate(kind: &str) -> StepSpec {
    let probe = json!({ "kind": "command", "command": ["make", "test"] });
    serde_json::from_value(json!({ "agentKind": kind, "gate": { "probe": probe } })).unwrap()
}

/// A gate whose helper may try so often.
pub(crate) fn helped(kind: &str, attempts: u32) -> StepSpec {
    let mut spec = gate(kind);
    let helper =
        json!({ "agentKind": "fixer", "runtime": { "kind": "process", "command": ["fix"] } });
    let gate = spec.gate.as_mut().unwrap();
    gate.helper = Some(serde_json::from_value(helper).unwrap());
    gate.attempts = Some(attempts);
    spec
}

/// The same step, whose result a human must approve.
pub(crate) fn approved(spec: StepSpec) -> StepSpec {
    StepSpec {
        requires_approval: true,
        ..spec
    }
}

pub(crate) fn new_run() -> NewRun {
    NewRun {
        id: run_id(1),
        workspace: "acme".parse().unwrap(),
        block: "login".parse().unwrap(),
        pipeline: Pin {
            id: "build".parse().unwrap(),
            version: 1,
            name: "Build".to_owned(),
            steps: 0,
        },
        initiated_by: Some("ada".to_owned()),
    }
}

/// A run that was started at minute 0.
pub(crate) fn run_of(steps: Vec<StepSpec>) -> Run {
    let plan = Arc::new(Plan::new(steps).unwrap());
    let mut new = new_run();
    new.pipeline.steps = plan.len();
    start(new, plan, minute(0)).unwrap()
}

/// The same, advanced once at minute 0.
pub(crate) fn begun(steps: Vec<StepSpec>) -> Run {
    let mut run = run_of(steps);
    advance(&mut run, minute(0)).unwrap();
    run
}

/// A run of a job that asks for approval and a step after it, at minute 5 with the result `draft` to be approved.
pub(crate) fn proposed() -> Run {
    let mut run = begun(vec![approved(job("writer")), inline("printer")]);
    poll_job(&mut run, JobAnswer::Done(said("draft")), minute(5)).unwrap();
    run
}

/// A run of a job and a step after it, at minute 5 with a question of red or blue to be decided.
pub(crate) fn asked() -> Run {
    let mut run = begun(vec![job("painter"), inline("printer")]);
    poll_job(&mut run, JobAnswer::Done(asks(&["red", "blue"])), minute(5)).unwrap();
    run
}

/// An agent's answer.
pub(crate) fn said(output: &str) -> AgentAnswer {
    AgentAnswer {
        output: output.to_owned(),
        ..AgentAnswer::default()
    }
}

/// An agent's question.
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

pub(crate) fn evicted(transient: bool) -> JobAnswer {
    JobAnswer::Evicted {
        transient,
        error: "gone".to_owned(),
    }
}

pub(crate) fn red() -> GateAnswer {
    GateAnswer::Failed {
        summary: "2 tests failed".to_owned(),
        failing: vec!["unit".to_owned()],
    }
}

/// What the run waits for as a human's subject.
pub(crate) fn subject(run: &Run) -> String {
    match run.outcome() {
        Outcome::AwaitingDecision { decision } => decision,
        other => panic!("it waits for no human: {other:?}"),
    }
}

/// Ada's answer to what the run waits for.
pub(crate) fn ada(run: &mut Run, reply: &Reply, now: Timestamp) -> Result<Outcome, Refused> {
    let subject = subject(run);
    answer(run, &subject, reply, "ada", now)
}

pub(crate) fn approve() -> Reply {
    Reply::Approve { proposal: None }
}

pub(crate) fn changes(feedback: &str) -> Reply {
    Reply::RequestChanges {
        feedback: Some(feedback.to_owned()),
        comments: Vec::new(),
    }
}

pub(crate) fn reject() -> Reply {
    Reply::Reject {
        reason: Some("wrong".to_owned()),
    }
}

pub(crate) fn live_job(run: &Run) -> JobId {
    run.step.live_job().unwrap().clone()
}

/// What a commit would take, taken.
pub(crate) fn commit(run: &mut Run) -> Changes {
    std::mem::take(&mut run.changes)
}

/// The class and text of the failure that the run ends with when the driver takes `outcome` to the funnel.
pub(crate) fn failed_by(run: &mut Run, outcome: Outcome, now: Timestamp) -> Failure {
    assert!(
        matches!(
            outcome,
            Outcome::JobFailed { .. } | Outcome::JobEvicted { .. }
        ),
        "{outcome:?}"
    );
    assert_eq!(fail_outcome(run, outcome, now), Outcome::Noop);
    assert_eq!(run.head.status, Status::Failed);
    run.head.failure.clone().unwrap()
}

/// Numbers that look random and are the same every time: `SplitMix64`.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number less than `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}
