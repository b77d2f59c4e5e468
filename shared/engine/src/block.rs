//! Blocks: what runs work on.

use serde::{Deserialize, Serialize};

use crate::{BlockId, Ended, PullRequest, RunId, WorkspaceId};

/// A subject of runs: a task, or the frame or module that holds tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// Its name within the workspace.
    pub id: BlockId,
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// What it is called.
    pub title: String,
    /// What is to be done.
    #[serde(default)]
    pub description: String,
    /// What it is.
    #[serde(default)]
    pub level: Level,
    /// Where its work is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Repository>,
    /// Where it stands.
    #[serde(default)]
    pub status: BlockStatus,
    /// Its latest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// The pull request an agent opened for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<PullRequest>,
    /// How sure the last agent that said so was, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Raised by each write, checked by each write.
    #[serde(default)]
    pub rev: u64,
}

/// The level of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A service.
    Frame,
    /// A part of one.
    Module,
    /// A piece of work.
    #[default]
    Task,
}

/// The status of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockStatus {
    /// Nothing done yet.
    #[default]
    Planned,
    /// Mapped, ready for work.
    Ready,
    /// A run works on it.
    InProgress,
    /// Its run failed: somebody must look.
    Blocked,
    /// The work is done and waits to be merged.
    PrReady,
    /// Merged; of a frame or module, done.
    Done,
}

/// A git repository that jobs work in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Repository {
    /// A URL or path that `git clone` understands.
    pub url: String,
    /// The branch that runs work on. `towpath/` and the block's id when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Where the branch starts. The repository's default branch when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

impl Block {
    /// The branch that runs on this block work on.
    pub fn branch(&self) -> String {
        let named = self
            .repository
            .as_ref()
            .and_then(|repository| repository.branch.clone());
        named.unwrap_or_else(|| format!("towpath/{}", self.id))
    }

    /// What the block is after a run on it ended. A status that a step has settled is not lowered by the end.
    pub fn after(&self, ended: Ended) -> BlockStatus {
        match (ended, self.level, self.status) {
            (Ended::Planned, ..) => BlockStatus::Planned,
            (_, _, BlockStatus::Done) => BlockStatus::Done,
            (Ended::Failed, ..) => BlockStatus::Blocked,
            // A task is done only when it is merged, and nothing here has merged it.
            (Ended::Done, Level::Task, _) => BlockStatus::PrReady,
            (Ended::Done, Level::Frame | Level::Module, _) => BlockStatus::Done,
        }
    }
}
