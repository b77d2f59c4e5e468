//! The interface of a service whose machines jobs run on.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;
use towpath_engine::JobId;
use towpath_jobs::{CommandWork, JobRequest, StartError, Unreadable};

/// A service that runs machines: builds, tasks, or virtual machines.
///
/// It knows nothing of records, claims and codes, which are the business of [`crate::RemoteRuntime`].
#[async_trait]
pub trait Substrate: Send + Sync {
    /// The kind of the runtime, by which pipelines and records refer to it.
    fn kind(&self) -> &'static str;

    /// The words for the service, for messages to people.
    fn words(&self) -> Words;

    /// What the service is to be asked for, as the job's record keeps it: a repeated start asks for the same.
    ///
    /// # Errors
    /// [`StartError::Refused`] if the service has nothing that fits.
    fn spec(&self, request: &JobRequest, work: &CommandWork) -> Result<Value, StartError>;

    /// Starts a machine, and returns its handle: the name that the service has for it.
    ///
    /// Idempotent by job id as far as the service offers it: the same order again, after an answer that was lost, is the
    /// same machine. Where the service forgets, it may be another, and of the two one gets the job.
    async fn start(&self, order: &Order<'_>) -> Result<String, StartError>;

    /// Looks at a machine. `None`: there is none of this handle, or none any more.
    async fn look(&self, handle: &str) -> Result<Option<Seen>, Unreadable>;

    /// Ends a machine, and what runs in it. One that has ended, or is gone, stays as it is.
    async fn stop(&self, handle: &str) -> Result<(), Unreadable>;

    /// The page on which the service shows a machine.
    fn console(&self, handle: &str) -> Option<String>;
}

/// The words of a service, for messages to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// The name of the service: `CodeBuild`, `ECS`, `Fly.io`.
    pub service: &'static str,
    /// The word for one machine: `build`, `task`, `machine`.
    pub machine: &'static str,
}

/// A machine that is asked for.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// The job that it is for.
    pub job: &'a JobId,
    /// What [`Substrate::spec`] made of the job's request, when it was first started.
    pub spec: &'a Value,
    /// The environment variables that the machine is given. They hold the job's start code, which is good for a short time
    /// and once, and no other secret.
    pub variables: BTreeMap<String, String>,
}

/// A machine, as one look at it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It waits for its turn.
    Waiting,
    /// It is being prepared.
    Preparing,
    /// It is at work.
    InProgress,
    /// It is over.
    Over(Over),
}

/// The end of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// The sort of end.
    pub cause: Cause,
    /// The reason in the service's words, as the end of a sentence: ` in its phase BUILD (…)`. Empty if it gives none.
    pub why: String,
}

/// The sort of a machine's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// What ran in it ended well.
    Done,
    /// What ran in it failed, or could not be run.
    Failed,
    /// The service ended it, or failed.
    Reclaimed,
    /// Somebody ended it in the service.
    Stopped,
    /// It took longer than it may.
    TimedOut,
}
