//! A run's head: where it stands, in at most 1 KB whatever the pipeline's length.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{BlockId, PipelineId, RunId, StepIndex, Timestamp, WorkspaceId};

/// The form of the records this release writes. It also reads the one before.
pub const SCHEMA: u32 = 1;

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// The record's form; see [`SCHEMA`].
    pub v: u32,
    /// Its identity.
    pub id: RunId,
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// What it works on.
    pub block: BlockId,
    /// What it does.
    pub pipeline: Pin,
    /// Whether it goes on.
    pub status: Status,
    /// The step it is at; of a terminal run, the last one it was at.
    pub current: StepIndex,
    /// Raised when a loop goes back: step records of an older epoch at or after `current` read as pending.
    pub epoch: u32,
    /// Which of its executions drives it, from 1.
    pub generation: u32,
    /// Drivers that died since the last progress.
    pub deaths: u32,
    /// The mark of a stop that was asked for and has not ended the run yet. It raises `rev`, so that no commit of a driver
    /// gets past it, and whoever finds it may end the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopMark>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiated_by: Option<String>,
    /// The run it was retried or restarted from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried_from: Option<RunId>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it became terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Raised by each write, checked by each write.
    pub rev: u64,
}

/// A stop that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopMark {
    /// The name of the API key that asked for the stop.
    pub actor: String,
    /// The time the stop was asked for.
    pub at: Timestamp,
    /// The reason that was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl StopMark {
    /// Makes a mark, with texts that are cut to what a head can carry.
    pub fn new(actor: &str, reason: Option<&str>, at: Timestamp) -> Self {
        Self {
            actor: shorten(actor, NAME_LIMIT),
            at,
            reason: reason
                .filter(|reason| !reason.trim().is_empty())
                .map(|reason| shorten(reason, DETAIL_LIMIT)),
        }
    }
}

/// The pipeline version a run started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// Which pipeline.
    pub id: PipelineId,
    /// Which version of it, from 1.
    pub version: u32,
    /// What it was called.
    pub name: String,
    /// How many steps the run has.
    pub steps: u16,
}

/// The status of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It works, or waits for a job or a gate.
    Running,
    /// It waits for a human.
    Blocked,
    /// It waits for money.
    Paused,
    /// It ended well.
    Done,
    /// It ended otherwise; `failure` says how.
    Failed,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Blocked => "blocked",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Failed => "failed",
        })
    }
}

impl Status {
    /// Whether the run never changes again.
    pub fn is_terminal(self) -> bool {
        matches!(self, Status::Done | Status::Failed)
    }
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The class of failure.
    pub kind: FailureKind,
    /// What happened.
    pub message: String,
    /// More of it: an agent's last words, a probe's report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: String,
    /// When.
    pub occurred_at: Timestamp,
}

/// The classes of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Something it needs was missing before work began.
    Preflight,
    /// A job could not be handed to its runtime.
    Dispatch,
    /// A job's place was taken away more often than is borne.
    Evicted,
    /// Time was up.
    Timeout,
    /// An agent answered with an error, or not in the form it must.
    Agent,
    /// A job ended badly.
    JobFailed,
    /// A human rejected the result.
    Rejected,
    /// A companion's answer could not be used.
    CompanionRejected,
    /// A human stopped it.
    Cancelled,
    /// The engine itself failed.
    Unknown,
}

/// The texts of a head stay short, so that the head does: so many bytes each, and so many together, which leaves from
/// 1 KB what the other attributes and the keys it is stored under take.
const MESSAGE_LIMIT: usize = 240;
const DETAIL_LIMIT: usize = 200;
pub(crate) const NAME_LIMIT: usize = 48;
const TEXTS_LIMIT: usize = 510;

impl Head {
    /// Why the run fails, with the class's hint. Long texts are cut to what the head can carry besides its ids and
    /// names; the whole of them is in the job's log.
    pub(crate) fn failure_of(
        &self,
        kind: FailureKind,
        message: &str,
        detail: Option<&str>,
        at: Timestamp,
    ) -> Failure {
        // The workspace is also part of the key of its listing.
        let names = 2 * self.workspace.as_str().len()
            + self.block.as_str().len()
            + self.pipeline.id.as_str().len()
            + self.pipeline.name.len()
            + self.initiated_by.as_deref().map_or(0, str::len);
        let room = TEXTS_LIMIT.saturating_sub(names);
        let message = shorten(message, MESSAGE_LIMIT.min(room * 2 / 3));
        let room = room.saturating_sub(message.len());
        Failure {
            kind,
            detail: detail
                .filter(|text| !text.trim().is_empty())
                .map(|text| shorten(text, DETAIL_LIMIT.min(room))),
            message,
            hint: kind.hint().to_owned(),
            occurred_at: at,
        }
    }
}

impl FailureKind {
    /// What to do about a failure of this class.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Preflight => "Set up what the message names, then start the run again.",
            Self::Dispatch => {
                "Check that the step's runtime can be reached and its command exists, then retry the run."
            }
            Self::Evicted => "Give the job a steadier place or more memory, then retry the run.",
            Self::Timeout => {
                "Look at the job's log for what took so long; raise the step's budget or retry the run."
            }
            Self::Agent => {
                "Look at the step's log; correct the agent or its input, then retry the run."
            }
            Self::JobFailed => "Look at the job's log, mend the cause, then retry the run.",
            Self::Rejected => {
                "Change what was rejected, then restart from the step that should redo it."
            }
            Self::CompanionRejected => {
                "Look at the companion's answer in the log, then retry the run."
            }
            Self::Cancelled => "Retry the run to go on where it stopped.",
            Self::Unknown => {
                "The engine could not go on. Look at its alarms and logs, then retry the run."
            }
        }
    }
}

/// The text, or its first `limit` bytes (to a character) and an ellipsis.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    let text = text.trim();
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}
