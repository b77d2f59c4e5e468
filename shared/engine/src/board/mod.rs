//! Blocks: the subjects of runs, and their status.

use serde::{Deserialize, Serialize};

use crate::{BlockId, Ended, PullRequest, RunId, WorkspaceId};

/// A subject of runs: a task, or the frame or module that holds tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// The block's id, unique within its workspace.
    pub id: BlockId,
    /// The workspace that owns the block.
    pub workspace: WorkspaceId,
    /// The block's title.
    pub title: String,
    /// The work to be done, in words.
    #[serde(default)]
    pub description: String,
    /// The block's level.
    #[serde(default)]
    pub level: Level,
    /// The repository of the block's work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Repository>,
    /// The block's status.
    #[serde(default)]
    pub status: BlockStatus,
    /// The block's latest run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// The pull request that an agent opened for the block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<PullRequest>,
    /// The confidence of the last agent that named one, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// The name of the API key that created the block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// The revision: raised by each write, checked by each write.
    #[serde(default)]
    pub rev: u64,
}

/// The level of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// A service: holds modules and tasks.
    Frame,
    /// A part of a service: holds tasks.
    Module,
    /// A piece of work.
    #[default]
    Task,
}

/// The status of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockStatus {
    /// Work has not begun.
    #[default]
    Planned,
    /// The block is mapped and ready for work.
    Ready,
    /// A run works on it.
    InProgress,
    /// The block's run failed, and a human must look.
    Blocked,
    /// The work is done and waits to be merged.
    PrReady,
    /// The work is merged; of a frame or module, complete.
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

impl Repository {
    /// Whether the URL holds a password or a token: anything before an `@` in `http` addresses, and `user:password`
    /// elsewhere. Everybody who may read could use it.
    pub fn holds_password(&self) -> bool {
        self.user()
            .is_some_and(|(scheme, user)| scheme.starts_with("http") || user.contains(':'))
    }

    /// The scheme of the URL and the part before the `@`, if it has both.
    fn user(&self) -> Option<(&str, &str)> {
        let (scheme, rest) = self.url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, _) = authority.rsplit_once('@')?;
        (!user.is_empty()).then_some((scheme, user))
    }

    /// The URL as it may be shown: without a password.
    pub fn shown_url(&self) -> String {
        match self.user() {
            Some((_, user)) if self.holds_password() => {
                self.url.replacen(&format!("{user}@"), "***@", 1)
            }
            _ => self.url.clone(),
        }
    }
}

impl Block {
    /// The block as it may be shown: a password that an earlier release kept in the repository's URL is left out.
    #[must_use]
    pub fn shown(mut self) -> Self {
        if let Some(repository) = &mut self.repository {
            repository.url = repository.shown_url();
        }
        self
    }

    /// The branch that runs on the block work on: the repository's, else `towpath/` and the block's id.
    pub fn branch(&self) -> String {
        let named = self
            .repository
            .as_ref()
            .and_then(|repository| repository.branch.clone());
        named.unwrap_or_else(|| format!("towpath/{}", self.id))
    }

    /// The status of the block after a run on it ended. An end never lowers a status that says the work is merged.
    pub fn after(&self, ended: Ended) -> BlockStatus {
        match (ended, self.level, self.status) {
            (_, _, BlockStatus::Done) => BlockStatus::Done,
            (Ended::Failed, ..) => BlockStatus::Blocked,
            // A task is done only when it is merged, and the end of a run merges nothing.
            (Ended::Done, Level::Task, _) => BlockStatus::PrReady,
            (Ended::Done, Level::Frame | Level::Module, _) => BlockStatus::Done,
        }
    }
}
