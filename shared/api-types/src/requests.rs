//! The bodies of requests. Unknown fields are refused: a misspelt option must not silently mean nothing.

use serde::{Deserialize, Serialize};
use towpath_engine::{BlockId, Comment, Level, PipelineId, Repository, StepIndex};

/// `POST /runs`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartRun {
    /// The id of the block to work on.
    pub block_id: BlockId,
    /// The id of the pipeline to run.
    pub pipeline_id: PipelineId,
    /// Whether to stop the block's live run, if it has one, and take its place.
    #[serde(default)]
    pub replace: bool,
}

/// `POST /runs/{run}/stop`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StopRun {
    /// The reason, for the audit.
    pub reason: Option<String>,
}

/// `POST /runs/{run}/restart`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestartRun {
    /// The step to begin again from, counted from 0.
    pub from_step: StepIndex,
}

/// `POST /runs/{run}/decisions/{decision}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decide {
    /// The choice: one of the options or, where the decision allows it, any text.
    pub choice: String,
}

/// `POST /runs/{run}/approvals/{approval}/approve`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Approve {
    /// The proposal in the approver's own wording, to go on with instead.
    pub proposal: Option<String>,
}

/// `POST /runs/{run}/approvals/{approval}/request-changes`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RequestChanges {
    /// The changes in words.
    pub feedback: Option<String>,
    /// Remarks on parts of the result.
    pub comments: Vec<Comment>,
}

/// `POST /runs/{run}/approvals/{approval}/reject`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Reject {
    /// The reason, for the audit.
    pub reason: Option<String>,
}

/// `PUT /blocks/{block}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PutBlock {
    /// The block's title.
    pub title: String,
    /// The work to be done, in words.
    #[serde(default)]
    pub description: String,
    /// The block's level.
    #[serde(default)]
    pub level: Level,
    /// The repository of the block's work.
    #[serde(default)]
    pub repository: Option<Repository>,
}
