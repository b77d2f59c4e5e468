//! What callers ask. Unknown fields are refused: a misspelt option must not silently mean nothing.

use serde::{Deserialize, Serialize};
use towpath_engine::{BlockId, Comment, Level, PipelineId, Repository, StepIndex};

/// `POST /runs`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StartRun {
    /// What to work on.
    pub block_id: BlockId,
    /// What to do.
    pub pipeline_id: PipelineId,
    /// Stop the block's live run, if it has one, and take its place.
    #[serde(default)]
    pub replace: bool,
}

/// `POST /runs/{run}/stop`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StopRun {
    /// Why, for the record.
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
    /// One of the options; of a decision that allows it, any text.
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
    /// What is to be changed.
    pub feedback: Option<String>,
    /// The same, place by place.
    pub comments: Vec<Comment>,
}

/// `POST /runs/{run}/approvals/{approval}/reject`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Reject {
    /// Why, for the record.
    pub reason: Option<String>,
}

/// `PUT /blocks/{block}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PutBlock {
    /// What it is called.
    pub title: String,
    /// What is to be done.
    #[serde(default)]
    pub description: String,
    /// What it is.
    #[serde(default)]
    pub level: Level,
    /// Where its work is kept.
    #[serde(default)]
    pub repository: Option<Repository>,
}
