//! The work contract: what a job is to do, and everything it may know of its run.

use serde::{Deserialize, Serialize};
use towpath_engine::{AgentKind, Comment, Decision, JobId, Role, RunId, StepIndex, WorkspaceId};

/// What a job reads from the file named by `$TOWPATH_CONTEXT`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contract {
    /// The job's own identity.
    pub job: JobId,
    /// Its run.
    pub run: RunId,
    /// Whose run it is.
    pub workspace: WorkspaceId,
    /// The step it works for.
    pub step: StepIndex,
    /// In which role.
    pub role: Role,
    /// What its agent is for.
    pub agent_kind: AgentKind,
    /// The name of the pipeline.
    pub pipeline: String,
    /// Whether this is the run's last step.
    pub is_final: bool,
    /// Who asked for the run.
    pub initiated_by: Option<String>,
    /// What is to be done.
    pub objective: Objective,
    /// The branch to work on.
    pub branch: String,
    /// What was asked and answered in this step.
    pub decisions: Vec<Decision>,
    /// What is to be changed of the attempt before.
    pub revision: Option<Changes>,
    /// What the gate's probe found, for its helper.
    pub findings: Option<Findings>,
    /// Where the outputs of earlier steps are, in order: references, to be fetched when they are needed.
    pub outputs: Vec<OutputLink>,
}

/// What is to be done: the block's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    /// The block.
    pub block: String,
    /// Its title.
    pub title: String,
    /// Its description.
    pub description: String,
}

/// What a human asked to be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// Where the result that was sent back is.
    pub previous: String,
    /// What is to be changed.
    pub feedback: Option<String>,
    /// The same, place by place.
    pub comments: Vec<Comment>,
}

/// What a gate's probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// In short.
    pub summary: Option<String>,
    /// The names of the checks that failed.
    pub failing: Vec<String>,
}

/// Where an earlier output is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputLink {
    /// The step that made it.
    pub step: StepIndex,
    /// What its agent was for.
    pub agent_kind: AgentKind,
    /// Its path in the API.
    pub href: String,
}
