//! What a transition says to its driver, and what it wants written and done besides the run's own records.

use serde::{Deserialize, Serialize};

use crate::{ApprovalStatus, FailureKind, JobId, StepIndex, Timestamp};

/// The outcome of one action: exactly one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is more to do at once.
    Continue,
    /// The run waits for a human.
    AwaitingDecision {
        /// The decision or approval it waits for.
        decision: String,
    },
    /// The run waits for a job.
    AwaitingJob {
        /// Which.
        job: JobId,
        /// For which step.
        step: StepIndex,
    },
    /// The run waits for a gate.
    AwaitingGate {
        /// Which step the gate is.
        step: StepIndex,
    },
    /// The step failed. Nothing has changed yet: the driver takes this to [`crate::fail`].
    JobFailed {
        /// The class of failure.
        kind: FailureKind,
        /// What happened.
        error: String,
        /// More of it.
        detail: Option<String>,
    },
    /// The step's job was taken away once too often. Nothing has changed yet, as for `JobFailed`.
    JobEvicted {
        /// What happened.
        error: String,
        /// More of it.
        detail: Option<String>,
    },
    /// The run ended well.
    Done,
    /// The run waits for money.
    Paused,
    /// The run is terminal.
    Noop,
}

/// What a transition wants written in the same transaction as the run's own records, and done after it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Steps the run has moved past in this transition.
    pub left: Vec<crate::Step>,
    /// Outputs to keep.
    pub outputs: Vec<Output>,
    /// What the block takes over.
    pub block: BlockChange,
    /// Jobs that must be gone.
    pub reap: Vec<JobId>,
    /// A human's answer, for the audit.
    pub audit: Option<Audit>,
}

/// The text a step made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Which step.
    pub step: StepIndex,
    /// Under which attempt it is kept.
    pub attempt: u32,
    /// The whole of it.
    pub text: String,
}

/// What a block takes over from a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockChange {
    /// The run ended; the block's status follows from how.
    pub ended: Option<Ended>,
    /// The pull request an agent opened.
    pub pull_request: Option<PullRequest>,
    /// How sure the agent was, from 0 to 1.
    pub confidence: Option<f64>,
}

impl BlockChange {
    /// Whether there is nothing to take over.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How a run ended, as its block sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Well.
    Done,
    /// In a failure that somebody must look at.
    Failed,
    /// Cancelled: the block is planned again.
    Planned,
}

/// A pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PullRequest {
    /// Where a person can see it.
    pub url: String,
    /// Its number at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// The branch it wants merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

/// One line of the append-only audit: who said what about what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// When.
    pub at: Timestamp,
    /// Who: the name of the API key that gave it.
    pub actor: String,
    /// What was said.
    pub action: Say,
    /// About what: a decision's, an approval's or the run's id.
    pub subject: String,
    /// In which words; long ones are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A hash of the whole of it, by which a repeated answer is told from another. Set by the shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// What a human can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Say {
    /// An answer to an agent's question.
    Decide,
    /// The result is good.
    Approve,
    /// The result must change.
    RequestChanges,
    /// The result must not be.
    Reject,
    /// The run must end.
    Stop,
}

impl Say {
    /// What an approval becomes by it.
    pub fn approval(self) -> Option<ApprovalStatus> {
        match self {
            Say::Approve => Some(ApprovalStatus::Approved),
            Say::RequestChanges => Some(ApprovalStatus::ChangesRequested),
            Say::Reject => Some(ApprovalStatus::Rejected),
            Say::Decide | Say::Stop => None,
        }
    }
}
