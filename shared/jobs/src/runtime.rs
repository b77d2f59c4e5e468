//! The interface of a runtime.

use std::time::Duration;

use async_trait::async_trait;
use towpath_engine::{Artifact, JobId};

use crate::{JobRequest, JobSnapshot, LogPage, LogPosition};

/// A place where jobs run.
///
/// Every method is idempotent by job id and can be called from any process at any time: nothing about a job lives only
/// in the memory of a caller. A job id is opaque to a runtime.
///
/// An inline runtime is the exception: it carries a job out within [`Runtime::start`] and answers
/// [`Started::Answered`]. [`Runtime::status`] never knows an inline job: who wants to know its end starts it again. It
/// is carried out at least once, and again whenever it is started again, unless the runtime keeps ends for its own use.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// The name by which pipelines and records refer to this runtime, for example `process`. It never changes.
    fn kind(&self) -> &'static str;

    /// Whether a job is over when [`Runtime::start`] returns, so that nothing is ever waited for.
    fn is_inline(&self) -> bool {
        false
    }

    /// Whether a job is carried out elsewhere, by a `towpath runner` that asks for its manifest when it begins. The
    /// request of such a job has neither texts nor secrets.
    fn asks_for_manifest(&self) -> bool {
        false
    }

    /// Starts a job, or does nothing if a job of this id was started or stopped before.
    ///
    /// Returns once the existence of the job is durable: from then on [`Runtime::status`] knows it. A command that
    /// cannot be run is not an error here, but a job that failed.
    async fn start(&self, request: &JobRequest) -> Result<Started, StartError>;

    /// Looks at a job. `None`: no job of this id was ever started here.
    async fn status(&self, job: &JobId) -> Result<Option<JobSnapshot>, Unreadable>;

    /// Asks a job to end, and ends it by force after `grace`.
    ///
    /// Returns once a tombstone for the id is durable, not once the job has ended. After the return a job of this id
    /// never begins to work any more, even if a call of [`Runtime::start`] is still on its way. A job that has ended
    /// stays as it is.
    async fn stop(&self, job: &JobId, grace: Duration) -> Result<(), Unreadable>;

    /// Brings a job the answer to a question that a snapshot of it has asked. The same again changes nothing.
    ///
    /// Returns once the answer is durable, not once the job has it. A question that the job does not ask any more is
    /// passed over. A runtime whose jobs ask nothing has nothing to do.
    async fn answer(&self, job: &JobId, question: &str, answer: &str) -> Result<(), Unreadable>;

    /// Reads the last `lines` lines that a job printed. `None`: the runtime keeps no logs of the job.
    async fn tail_logs(&self, job: &JobId, lines: usize) -> Result<Option<String>, Unreadable>;

    /// Reads what a job has printed from a position on, a page of it. `None`: the runtime keeps no log of the job.
    async fn read_log(
        &self,
        job: &JobId,
        after: LogPosition,
    ) -> Result<Option<LogPage>, Unreadable>;

    /// Reads an artifact of a job that has ended. `None`: its bytes are in the bucket already, or gone.
    async fn read_artifact(&self, artifact: &Artifact) -> Result<Option<Vec<u8>>, Unreadable>;
}

/// The outcome of a successful start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// The runtime has the job. [`Runtime::status`] tells how it goes on.
    Accepted,
    /// The job was over at once; this is its last snapshot. [`Runtime::status`] does not know the job.
    Answered(Box<JobSnapshot>),
}

/// A reason for which a job was not started, as far as that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The job was definitely not started, because the runtime has no room for it now. A later try may succeed.
    #[error("the runtime has no room for the job now: {0}")]
    NoRoom(String),
    /// The job was definitely not started: the runtime cannot take it now, and has said when to try again.
    #[error("the runtime cannot take the job for {} s: {why}", after.as_secs())]
    Later {
        /// The reason, for people.
        why: String,
        /// The least time until the next try.
        after: Duration,
    },
    /// The job was definitely not started and never can be: the request or the deployment has to change first.
    #[error("{0}")]
    Refused(String),
    /// The runtime did not answer, or not sensibly. The job may have been started; starting it again is safe.
    #[error("the runtime did not answer: {0}")]
    Unavailable(String),
}

/// A runtime that could not say how a job is, or could not be told to stop it. A later try may succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);
