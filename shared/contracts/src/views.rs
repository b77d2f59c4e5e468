//! What callers read.

use serde::{Deserialize, Serialize};
use towpath_engine::kinds::gate::Gate;
use towpath_engine::{
    AgentKind, Approval, Audit, Block, Decision, Evictions, Failure, JobId, Pin, Pipeline, RunId,
    Status, StepIndex, StepState, Timestamp, WorkspaceId,
};

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// What there is.
    pub items: Vec<T>,
    /// The `after` of the next part, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    /// Its identity.
    pub id: RunId,
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// What it works on.
    pub block_id: String,
    /// What it does.
    pub pipeline: Pin,
    /// Whether it goes on.
    pub status: Status,
    /// The step it is at.
    pub current_step: StepIndex,
    /// What it waits for; nothing once it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitsFor>,
    /// Why it failed.
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
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Raised by each change: an older document is to be dropped.
    pub rev: u64,
}

/// What a run waits for, in words and in ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitsFor {
    /// The class: `driver`, `job`, `rest`, `human` or `budget`.
    pub reason: String,
    /// The same, for people.
    pub text: String,
    /// The job, decision or approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// When somebody looks, if nothing happens before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
}

/// A run, whole: `GET /runs/{run}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// What stands in lists too.
    #[serde(flatten)]
    pub summary: RunSummary,
    /// The block as it was when the run started.
    pub block: Block,
    /// Its steps, in order.
    pub steps: Vec<StepView>,
    /// What humans said, in no order.
    pub audit: Vec<Audit>,
}

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// Its place.
    pub index: StepIndex,
    /// What its agent is for.
    pub agent_kind: AgentKind,
    /// Where it stands.
    pub state: StepState,
    /// Whether a human must approve its result.
    pub requires_approval: bool,
    /// What it is at, for people.
    pub activity: String,
    /// The job that is at work for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// How often work was dispatched for it.
    pub attempt: u32,
    /// When this attempt at it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it began to wait for a human.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<Timestamp>,
    /// When its work was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Where its output is: `GET` this path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputLink>,
    /// What its agent asked, and what was answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decision>,
    /// The approval of its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// A gate's counters and findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// How often its jobs were taken away.
    #[serde(default)]
    pub evictions: Evictions,
    /// The model that did the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The earlier run that holds it, if it was done before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_from: Option<RunId>,
}

/// Where an output is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputLink {
    /// The path of the output in the API.
    pub href: String,
    /// The number of the output within its run.
    pub number: u32,
    /// The size of the output in bytes.
    pub bytes: u64,
}

/// A pipeline with its version: `GET /pipelines/{pipeline}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineView {
    /// Its version, from 1.
    pub version: u32,
    /// What it does.
    #[serde(flatten)]
    pub pipeline: Pipeline,
}

/// An output: `GET /runs/{run}/steps/{step}/output`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OutputText {
    /// One of at most 200 KB.
    Here {
        /// The whole of it.
        text: String,
    },
    /// A larger one.
    #[serde(rename_all = "camelCase")]
    Elsewhere {
        /// Where it can be fetched from with a plain `GET`, without an API key. Whoever knows the URL can, until it
        /// expires: ask again for another.
        url: String,
        /// Its size.
        bytes: u64,
        /// The SHA-256 of it, in hexadecimal digits.
        sha256: String,
        /// Until when the URL can be used.
        expires_at: Timestamp,
    },
}
