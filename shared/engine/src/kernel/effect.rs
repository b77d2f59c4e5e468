//! Outcomes and effects: what a transition tells its driver, and what is to be written together with the run.

use serde::{Deserialize, Serialize};

use crate::{ApprovalStatus, Artifact, FailureKind, JobId, JobRef, Step, StepIndex, Timestamp};

/// The outcome of one action: exactly one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is more to do at once.
    Continue,
    /// The run waits for a human.
    AwaitingDecision {
        /// The decision or approval that the run waits for.
        decision: String,
    },
    /// The run waits for a job.
    AwaitingJob {
        /// The job's id.
        job: JobId,
        /// The step that the job works for.
        step: StepIndex,
    },
    /// The run waits for a time: to look at its gate again, or for room to run its job.
    AwaitingGate {
        /// The step that rests.
        step: StepIndex,
    },
    /// The step failed, and with it the run.
    JobFailed {
        /// The class of failure.
        kind: FailureKind,
        /// The failure in one sentence.
        error: String,
    },
    /// The run goes back to, or on to, a step that has a record of an earlier round. Nothing has changed yet: the driver
    /// adds that record with [`Run::with_record`](crate::Run::with_record) and repeats the action.
    NeedsRecord {
        /// The step whose record is needed.
        step: StepIndex,
    },
    /// The run ended well.
    Done,
    /// The run waits for its workspace's budget.
    Paused,
    /// The run is terminal, or nothing changed.
    Noop,
}

/// A write that a transition wants in the same transaction as the run's own records, or an act that must follow it.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Stores an output.
    Output(Output),
    /// Sees to it that a job ends.
    Reap(JobRef),
    /// Keeps a human's answer or stop in the audit.
    Audit(Audit),
    /// Changes the run's block.
    Block(BlockChange),
    /// Keeps the record of a step that the run leaves.
    StepLeft(Box<Step>),
}

/// The text that a step made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The step that made the text.
    pub step: StepIndex,
    /// The number of the output within its run.
    pub number: u32,
    /// The whole text.
    pub text: String,
    /// The files that the agent left besides the text.
    pub artifacts: Vec<Artifact>,
}

/// A change of a run's block.
#[derive(Clone, Debug, PartialEq)]
pub enum BlockChange {
    /// The run ended; the block's status follows from how.
    Ended(Ended),
    /// An agent opened a pull request.
    PullRequest(PullRequest),
    /// A step ended, and its agent said how sure it is, from 0 to 1.
    Confidence(f64),
}

/// The end of a run as its block sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The run ended well.
    Done,
    /// The run failed, and a human must look.
    Failed,
}

/// A pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PullRequest {
    /// The address of its page.
    pub url: String,
    /// The pull request's number at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// The branch to be merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

/// An entry of the append-only audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// The time of the action.
    pub at: Timestamp,
    /// The name of the API key that acted.
    pub actor: String,
    /// The action.
    pub action: AuditAction,
    /// The id of the decision, the approval or the run that the action is about.
    pub subject: String,
    /// The words that were given; long ones are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A hash of the whole answer, which tells a repeated answer from a different one. Set by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// An action that a human can take on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditAction {
    /// Answers an agent's question.
    Decide,
    /// Accepts a result.
    Approve,
    /// Sends a result back.
    RequestChanges,
    /// Refuses a result.
    Reject,
    /// Stops the run.
    Stop,
}

impl AuditAction {
    /// The verdict that the action gives to an approval.
    pub fn verdict(self) -> Option<ApprovalStatus> {
        match self {
            AuditAction::Approve => Some(ApprovalStatus::Approved),
            AuditAction::RequestChanges => Some(ApprovalStatus::ChangesRequested),
            AuditAction::Reject => Some(ApprovalStatus::Rejected),
            AuditAction::Decide | AuditAction::Stop => None,
        }
    }
}
