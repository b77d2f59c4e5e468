//! The documents that the API answers with.

use serde::{Deserialize, Serialize};
use towpath_engine::kinds::gate::Gate;
use towpath_engine::{
    AgentKind, Approval, Artifact, Audit, Block, Decision, Evictions, Failure, JobId, Pin,
    Pipeline, RunId, Status, StepIndex, StepState, Timestamp, Usage, WorkspaceId,
};

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// The records of this part, in the order of the list.
    pub items: Vec<T>,
    /// The `after` of the next part, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    /// The run's id.
    pub id: RunId,
    /// The workspace that owns the run.
    pub workspace: WorkspaceId,
    /// The id of the block that the run works on.
    pub block_id: String,
    /// The pipeline version that the run executes.
    pub pipeline: Pin,
    /// The run's status.
    pub status: Status,
    /// The step that the run is at, counted from 0.
    pub current_step: StepIndex,
    /// What the run waits for. Absent once the run is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitsFor>,
    /// The reason the run failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The name of the API key that started the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiated_by: Option<String>,
    /// The run that this one retries or restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried_from: Option<RunId>,
    /// The time the run was accepted, in milliseconds since the epoch.
    pub created_at: Timestamp,
    /// The time the run ended, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// The revision, raised by each change. A client that gets documents out of order drops those with an older one.
    pub rev: u64,
}

/// The wait of a live run, in words and in ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitsFor {
    /// The class: `driver`, `job`, `rest`, `human` or `budget`.
    pub reason: String,
    /// What the run waits for, in words for people.
    pub text: String,
    /// The id of the job, decision or approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The time the wait began, in milliseconds since the epoch.
    pub since: Timestamp,
    /// The time at which the engine looks, if nothing happens before, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
}

/// A run with its steps: `GET /runs/{run}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// The part of the document that lists have, too.
    #[serde(flatten)]
    pub summary: RunSummary,
    /// The block as it was when the run started.
    pub block: Block,
    /// The steps, in order.
    pub steps: Vec<StepView>,
    /// The answers and stops of humans, in no order.
    pub audit: Vec<Audit>,
}

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepView {
    /// The step's place in the run, from 0.
    pub index: StepIndex,
    /// The kind of agent that the step names.
    pub agent_kind: AgentKind,
    /// The step's state.
    pub state: StepState,
    /// Whether a human must approve the step's result.
    pub requires_approval: bool,
    /// What the step is doing, in words for people.
    pub activity: String,
    /// The id of the job that works for the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// The number of jobs that were started for the step.
    pub attempt: u32,
    /// The time work on the step began, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The time the step began to wait for a human, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<Timestamp>,
    /// The time the step's work was done, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// A link to the step's output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputLink>,
    /// The agent's questions and their answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decision>,
    /// The approval of the step's result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// A gate's counters and findings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// The number of jobs of the step that lost their place.
    #[serde(default)]
    pub evictions: Evictions,
    /// The model that did the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the step's calls of models used, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The earlier run that did the step, if this one began behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_from: Option<RunId>,
}

/// A link to an output: `GET` its path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputLink {
    /// The path of the output in the API.
    pub href: String,
    /// The number of the output within its run.
    pub number: u32,
    /// The size of the output in bytes.
    pub bytes: u64,
    /// The files that the agent left besides the output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<ArtifactLink>,
}

/// A link to a file that an agent left: `GET` its path, which redirects to the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactLink {
    /// The path of the file in the API.
    pub href: String,
    /// The file, and the job that left it.
    #[serde(flatten)]
    pub artifact: Artifact,
}

/// A pipeline with its version: `GET /pipelines/{pipeline}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineView {
    /// The version's number, from 1.
    pub version: u32,
    /// The pipeline as it was put.
    #[serde(flatten)]
    pub pipeline: Pipeline,
}

/// An output: `GET /runs/{run}/steps/{step}/output`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OutputText {
    /// An output of at most 200 KB.
    Here {
        /// The whole text.
        text: String,
    },
    /// A larger output.
    #[serde(rename_all = "camelCase")]
    Elsewhere {
        /// The URL at which the output can be fetched with a plain `GET`, without an API key. Whoever knows the URL can, until it
        /// expires: ask again for another.
        url: String,
        /// The size of the output in bytes.
        bytes: u64,
        /// The SHA-256 of the output, in hexadecimal digits.
        sha256: String,
        /// The time until which the URL can be used, in milliseconds since the epoch.
        expires_at: Timestamp,
    },
}
