//! The head of a run: where the run stands, in at most 1 KB whatever the pipeline's length.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{BlockId, PipelineId, RunId, StepIndex, Timestamp, WorkspaceId};

/// The record that says where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// The run's id.
    pub id: RunId,
    /// The workspace that owns the run.
    pub workspace: WorkspaceId,
    /// The block that the run works on.
    pub block: BlockId,
    /// The pipeline version that the run executes.
    pub pipeline: Pin,
    /// The run's status.
    pub status: Status,
    /// The step the run is at; of a terminal run, the last one it was at.
    pub current: StepIndex,
    /// The round of loops, from 0. A step record of an older epoch at or after `current` reads as pending.
    pub epoch: u32,
    /// The number of ids given out so far, to calls, outputs, decisions and approvals. It only rises, and a retry goes on
    /// counting where the failed run ended, so no id is used twice.
    pub calls: u32,
    /// The number of the execution that drives the run, from 1.
    pub generation: u32,
    /// The drivers that died since the last progress.
    #[serde(default, skip_serializing_if = "Deaths::is_zero")]
    pub driver: Deaths,
    /// The mark of a stop that was asked for and has not ended the run yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopMark>,
    /// The reason the run failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The name of the API key that started the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiated_by: Option<String>,
    /// The run that this one retries or restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried_from: Option<RunId>,
    /// The time the run was accepted.
    pub created_at: Timestamp,
    /// The time the run became terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The revision: raised by each write of the head, checked by each commit.
    pub rev: u64,
}

/// The pipeline version that a run started with and keeps to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// The pipeline's id.
    pub id: PipelineId,
    /// The pipeline's version, from 1.
    pub version: u32,
    /// The pipeline's name when the run started.
    pub name: String,
    /// The number of steps in the run.
    pub steps: u16,
}

/// The status of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The run works, or waits for a job or a gate.
    Running,
    /// The run waits for a human.
    Blocked,
    /// The run waits for its workspace's budget.
    Paused,
    /// The run ended well.
    Done,
    /// The run ended otherwise; `failure` says how.
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

/// Counts of the drivers that died one after the other without progress in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Deaths {
    /// Deaths that count against the run.
    pub counted: u32,
    /// Deaths by throttling, an outage, a missing permission or a newer record, which are waited out.
    pub excused: u32,
}

impl Deaths {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// A stop that was asked for: a mark on a live head, which no driver's commit gets past.
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
    /// Makes a mark, with a reason that is cut to what a head can carry.
    pub fn new(actor: &str, reason: Option<&str>, at: Timestamp) -> Self {
        Self {
            actor: shorten(actor, NAME_LIMIT),
            at,
            reason: reason
                .filter(|reason| !reason.trim().is_empty())
                .map(|reason| shorten(reason, REASON_LIMIT)),
        }
    }
}

/// The reason a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The class of failure.
    pub kind: FailureKind,
    /// The failure in one sentence.
    pub message: String,
    /// More about the failure: an agent's last words, a probe's report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Advice on what to do about a failure of this class.
    pub hint: String,
    /// The time of the failure.
    pub occurred_at: Timestamp,
}

/// The classes of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Something the run needs was missing before work began.
    Preflight,
    /// A job could not be handed to its runtime.
    Dispatch,
    /// A job lost its place more often than the step's budget allows.
    Evicted,
    /// A time budget was spent.
    Timeout,
    /// An agent answered with an error, or not in the form it must.
    Agent,
    /// A job ended badly.
    JobFailed,
    /// A human rejected the result.
    Rejected,
    /// A companion's answer could not be used.
    CompanionRejected,
    /// A human stopped the run.
    Cancelled,
    /// The engine itself could not go on.
    Unknown,
}

impl FailureKind {
    /// Advice on what to do about a failure of this class.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Preflight => "Set up what the message names, then start the run again.",
            Self::Dispatch => {
                "Check that the step's runtime can be reached and its command exists, then retry the run."
            }
            Self::Evicted => "Give the job a steadier place or more memory, then retry the run.",
            Self::Timeout => {
                "Look in the job's log for what took so long; raise the step's budget or retry the run."
            }
            Self::Agent => {
                "Look at the step's log; correct the agent or its input, then retry the run."
            }
            Self::JobFailed => "Look at the job's log, fix the cause, then retry the run.",
            Self::Rejected => {
                "Change what was rejected, then restart from the step that should redo it."
            }
            Self::CompanionRejected => {
                "Look at the companion's answer in the log, then retry the run."
            }
            Self::Cancelled => {
                "It was stopped on request, and nothing has to be fixed. A retry goes on where it stopped."
            }
            Self::Unknown => {
                "The engine could not go on. Look at its alarms and logs, then retry the run."
            }
        }
    }
}

/// Limits, in bytes, on the texts of a head: each its own, and `TEXTS_LIMIT` on all of them together, which leaves of
/// 1 KB what the other attributes and the keys of the item take.
const MESSAGE_LIMIT: usize = 240;
const DETAIL_LIMIT: usize = 200;
const REASON_LIMIT: usize = 120;
pub(crate) const NAME_LIMIT: usize = 48;
const TEXTS_LIMIT: usize = 470;
/// What a failure's texts may take even beside the longest ids and names: a failure that says nothing helps nobody.
const FAILURE_LEAST: usize = 96;

impl Head {
    /// Describes why the run fails, with the class's hint. Long texts are cut to what the head can carry besides its ids
    /// and names; the job's log has the whole of them.
    pub(crate) fn failure_of(
        &self,
        kind: FailureKind,
        message: &str,
        detail: Option<&str>,
        at: Timestamp,
    ) -> Failure {
        // The workspace and the block are also part of the keys that the item carries.
        let names = 3 * self.workspace.as_str().len()
            + 2 * self.block.as_str().len()
            + self.pipeline.id.as_str().len()
            + self.pipeline.name.len()
            + self.initiated_by.as_deref().map_or(0, str::len);
        let room = TEXTS_LIMIT.saturating_sub(names).max(FAILURE_LEAST);
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

    /// Gives out the next number, for the id of a call, an output, a decision or an approval.
    pub(crate) fn next_number(&mut self) -> u32 {
        self.calls += 1;
        self.calls
    }
}

/// Cuts a text to its first `limit` bytes (at a character) and an ellipsis.
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
