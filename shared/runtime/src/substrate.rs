//! Where a job runs: the substrate interface.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use towpath_engine::JobId;

/// What a substrate is asked to run. Made afresh for each start; never stored, since `env` may carry secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    /// The identity of the work. A second start with the same id starts nothing.
    pub job: JobId,
    /// The workspace that pays for it.
    pub workspace: String,
    /// The program and its arguments. Never empty.
    pub command: Vec<String>,
    /// Environment of the command, on top of a minimal one. Names beginning with `TOWPATH_` are the engine's.
    pub env: BTreeMap<String, String>,
    /// What the command reads as `$TOWPATH_CONTEXT`: a JSON file with the work contract.
    pub context: serde_json::Value,
    /// The git checkout the command starts in, if it wants one.
    pub checkout: Option<Checkout>,
    /// Ceiling on the run time, held by the substrate itself as well as by the engine.
    pub max_run: Duration,
    /// How long after a request to stop the job may tidy up before it is killed.
    pub grace: Duration,
}

/// A working copy for a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Checkout {
    /// A URL or path that `git clone` understands.
    pub repo: String,
    /// The branch to work on; made from `base` when the repository has none of that name.
    pub branch: String,
    /// Where a new branch starts. The repository's own default branch when absent.
    pub base: Option<String>,
    /// What becomes of the command's changes.
    pub access: Access,
}

/// What a job may do to the branch it works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Changes stay in the job's own work directory.
    Read,
    /// When the command succeeds, what it changed is committed and the branch is pushed.
    Write,
}

/// The life of a job, in the order a substrate walks it. `Terminated` and `Failed` are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Accepted, nothing reserved yet.
    Queued,
    /// Its place is being prepared.
    Provisioning,
    /// The command runs.
    Running,
    /// It was asked to stop.
    Stopping,
    /// It ended; with no error class it did what it was asked to.
    Terminated,
    /// It could not be run, or its command failed.
    Failed,
}

/// What a substrate says of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSnapshot {
    /// Where the job is in its life.
    pub status: JobStatus,
    /// A stable word for why it ended badly: see [`error_class`].
    pub terminal_error_class: Option<String>,
    /// The same for people.
    pub terminal_error_message: Option<String>,
    /// The exit code, where the command ran to its end.
    pub exit_code: Option<i32>,
    /// What the command answered: the text of its `$TOWPATH_OUTPUT` file, else all it printed.
    pub answer: Option<Answer>,
    /// Measurements, where the substrate has any.
    pub resource_stats: Option<ResourceStats>,
}

impl JobSnapshot {
    /// A snapshot with nothing but a status.
    pub fn of(status: JobStatus) -> Self {
        Self {
            status,
            terminal_error_class: None,
            terminal_error_message: None,
            exit_code: None,
            answer: None,
            resource_stats: None,
        }
    }
}

/// What a command answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The text of its answer file: an agent answer, see the runtime's documentation.
    File(String),
    /// It wrote no file; this is what it printed, or nothing where that is more than an answer may be.
    Stdout(String),
}

/// Measurements of a running job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceStats {
    /// Processor use, in percent of one processor.
    pub cpu_percent: Option<u32>,
    /// Resident memory, in MiB.
    pub memory_mb: Option<u64>,
    /// Bytes received.
    pub network_rx_bytes: Option<u64>,
    /// Bytes sent.
    pub network_tx_bytes: Option<u64>,
}

/// The stable words in [`JobSnapshot::terminal_error_class`].
pub mod error_class {
    /// The command ran and ended with another exit code than 0.
    pub const EXIT_CODE: &str = "exit_code";
    /// The command was ended by a signal that nobody here sent.
    pub const SIGNAL: &str = "signal";
    /// The command could not be started at all.
    pub const START_FAILED: &str = "start_failed";
    /// The working copy could not be made, or its changes not be pushed.
    pub const CHECKOUT_FAILED: &str = "checkout_failed";
    /// The command ended well, but its answer file cannot be used: too large, not UTF-8, not a file.
    pub const ANSWER_REFUSED: &str = "answer_refused";
    /// It ran longer than it may.
    pub const TIMED_OUT: &str = "timed_out";
    /// It was stopped on request.
    pub const STOPPED: &str = "stopped";
    /// What ran it is gone without a word: reclaimed, rebooted, killed.
    pub const EVICTED: &str = "evicted";
}

/// How a substrate fails.
#[derive(Debug, thiserror::Error)]
pub enum SubstrateError {
    /// The substrate cannot be used where this runs.
    #[error("{0}")]
    Refused(String),
    /// It did not answer, or not sensibly. Worth another try.
    #[error("the job's substrate did not answer: {0}")]
    Unavailable(String),
}

/// Somewhere a job can run. Every member is idempotent by job id and works from any process: nothing about a job lives
/// only in memory.
#[async_trait]
pub trait Substrate: Send + Sync {
    /// A short stable name, as pipelines bind it.
    fn kind(&self) -> &'static str;

    /// Starts the job, or does nothing if one of this id was ever started. Returns once the job's existence is durable:
    /// from then on [`Substrate::status`] knows it. A command that cannot be started is not an error here but a job
    /// that has failed.
    async fn start(&self, spec: &JobSpec) -> Result<(), SubstrateError>;

    /// What has become of the job. `None`: no job of this id was ever started here.
    async fn status(&self, job: &JobId) -> Result<Option<JobSnapshot>, SubstrateError>;

    /// Asks the job to end, and ends it after `grace`. Returns at once. Of a job that has ended, or never was, nothing
    /// is asked; but a job that never was must not start afterwards either.
    async fn stop(&self, job: &JobId, grace: Duration) -> Result<(), SubstrateError>;

    /// The last `lines` lines the job printed, if the substrate keeps them.
    async fn tail_logs(&self, job: &JobId, lines: usize) -> Result<Option<String>, SubstrateError>;

    /// Where a person can look at the job, if there is such a place.
    fn console_url(&self, job: &JobId) -> Option<String>;
}
