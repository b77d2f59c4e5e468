//! The keys of every item.

use aws_sdk_dynamodb::types::AttributeValue;
use towpath_engine::{BlockId, JobId, PipelineId, RunId, StepIndex, WorkspaceId};

/// An item's primary key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The partition key.
    pub pk: String,
    /// The sort key.
    pub sk: String,
}

impl Key {
    fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self {
            pk: pk.into(),
            sk: sk.into(),
        }
    }

    pub(crate) fn head(run: &RunId) -> Self {
        Self::head_of(run.as_str())
    }

    pub(crate) fn head_of(pk: &str) -> Self {
        Self::new(pk, "HEAD")
    }

    pub(crate) fn wait(run: &RunId) -> Self {
        Self::wait_of(run.as_str())
    }

    pub(crate) fn wait_of(pk: &str) -> Self {
        Self::new(pk, "WAIT")
    }

    pub(crate) fn input(run: &RunId) -> Self {
        Self::new(run.as_str(), "INPUT")
    }

    pub(crate) const STEPS: &str = "STEP#";

    pub(crate) fn step(run: &RunId, step: StepIndex) -> Self {
        Self::new(run.as_str(), format!("{}{:04}", Self::STEPS, step.0))
    }

    pub(crate) fn output(run: &RunId, step: StepIndex, attempt: u32) -> Self {
        Self::new(run.as_str(), format!("OUT#{:04}#{attempt:05}", step.0))
    }

    pub(crate) const AUDITS: &str = "AUDIT#";

    pub(crate) fn audit(run: &RunId, subject: &str) -> Self {
        Self::new(run.as_str(), format!("{}{subject}", Self::AUDITS))
    }

    pub(crate) const REAPS: &str = "REAP#";

    pub(crate) fn reap(job: &JobId) -> Self {
        Self::new(job.run().as_str(), format!("{}{job}", Self::REAPS))
    }

    pub(crate) fn block(workspace: &WorkspaceId, block: &BlockId) -> Self {
        Self::new(format!("{workspace}#block#{block}"), "BLOCK")
    }

    pub(crate) fn lock(workspace: &WorkspaceId, block: &BlockId) -> Self {
        Self::new(format!("{workspace}#block#{block}"), "LOCK")
    }

    pub(crate) fn pipeline(workspace: &WorkspaceId, pipeline: &PipelineId) -> Self {
        Self::new(format!("{workspace}#pipeline#{pipeline}"), "LATEST")
    }

    pub(crate) fn pipeline_version(
        workspace: &WorkspaceId,
        pipeline: &PipelineId,
        version: u32,
    ) -> Self {
        Self::new(
            format!("{workspace}#pipeline#{pipeline}"),
            format!("V#{version:010}"),
        )
    }

    pub(crate) fn idempotency(workspace: &WorkspaceId, key: &str) -> Self {
        Self::new(format!("{workspace}#idempotency#{key}"), "KEY")
    }

    pub(crate) fn api_key(hash: &str) -> Self {
        Self::new(format!("apikey#{hash}"), "KEY")
    }

    pub(crate) fn attributes(&self) -> [(&'static str, AttributeValue); 2] {
        [
            ("pk", AttributeValue::S(self.pk.clone())),
            ("sk", AttributeValue::S(self.sk.clone())),
        ]
    }
}

/// Which of the due shards a partition's items are in.
pub(crate) fn shard(pk: &str) -> u16 {
    use sha2::{Digest, Sha256};
    let first = Sha256::digest(pk.as_bytes()).first().copied().unwrap_or(0);
    u16::from(first) % crate::DUE_SHARDS
}

pub(crate) fn shard_name(shard: u16) -> String {
    format!("due#{shard:02}")
}
