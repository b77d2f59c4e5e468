//! The work contract: what a job is to do, and everything it may know of its run.

use serde::{Deserialize, Serialize};
use towpath_engine::{AgentKind, Comment, Decision, JobId, Role, RunId, StepIndex, WorkspaceId};

/// The work contract, which a job reads as JSON from `context.json` in the folder `$TOWPATH_INPUTS`. The files that it
/// names are in the same folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contract {
    /// The identity of the job.
    pub job: JobId,
    /// The run that the job works for.
    pub run: RunId,
    /// The workspace that owns the run.
    pub workspace: WorkspaceId,
    /// The step that the job works for.
    pub step: StepIndex,
    /// The number of the call among those of its step, from 1.
    #[serde(default)]
    pub attempt: u32,
    /// The role of the job within its step.
    pub role: Role,
    /// The kind of the agent that does the work, for example `coder`.
    pub agent_kind: AgentKind,
    /// The name of the pipeline.
    pub pipeline: String,
    /// Whether the step is the last one of the run.
    pub is_final: bool,
    /// The name of the person or API key that asked for the run.
    pub initiated_by: Option<String>,
    /// The objective of the job.
    pub objective: Objective,
    /// The branch to work on.
    pub branch: String,
    /// The questions that were asked in this step, with their answers.
    pub decisions: Vec<Decision>,
    /// The changes that a human asked for, if the previous result was sent back.
    pub revision: Option<RequestedChanges>,
    /// The findings of the gate's probe, for its helper.
    pub findings: Option<Findings>,
    /// The outputs of earlier steps, in the order of the steps.
    pub outputs: Vec<OutputLink>,
}

/// The objective of a job, in the words of the block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    /// The id of the block.
    pub block: String,
    /// The title of the block.
    pub title: String,
    /// The description of the block.
    pub description: String,
}

/// The changes that a human asked for when a result was sent back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestedChanges {
    /// The path in the API of the result that was sent back.
    pub previous: String,
    /// The file that holds this result, unless it is too large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The changes asked for, in general.
    pub feedback: Option<String>,
    /// Remarks on single parts of the result.
    pub comments: Vec<Comment>,
}

/// The findings of a gate's probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// A short description of what is wrong.
    pub summary: Option<String>,
    /// The names of the checks that failed.
    pub failing: Vec<String>,
    /// The job of the probe, if one found something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<JobId>,
    /// The file that holds what the probe printed, if it printed something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// A reference to the output of an earlier step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputLink {
    /// The step that made the output.
    pub step: StepIndex,
    /// The kind of the agent that made the output.
    pub agent_kind: AgentKind,
    /// The path of the output in the API.
    pub href: String,
    /// The file that holds the output. The last dozen steps have one, as far as 4 MiB hold them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The files that the step's agent left besides the output. Those of the last dozen steps, as far as 128 MiB hold them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<ArtifactFile>,
}

/// A file that the agent of an earlier step left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactFile {
    /// The name of the artifact: the path that it had in the work directory of its job.
    pub name: String,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The path of the file in the folder `$TOWPATH_INPUTS`.
    pub file: String,
}
