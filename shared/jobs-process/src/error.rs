//! How this crate fails, and how a job does.

use std::io;
use std::path::{Path, PathBuf};

use towpath_runtime::{JobSnapshot, JobStatus, SubstrateError, error_class};

/// The class of a job whose answer file cannot be taken: too large, not a file, not UTF-8.
pub const ANSWER_REFUSED: &str = "answer_refused";

/// What can go wrong between a caller, a job's folder and its supervisor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A record is not what this version writes.
    #[error("{path} cannot be understood: {source}")]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The supervisor could not be run.
    #[error("cannot run the supervisor {path}: {source}")]
    Supervisor {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The supervisor ended, or answered nonsense, before it took the job.
    #[error("the supervisor did not take the job ({said}); its own words may be in {log}")]
    NotTaken {
        /// What it answered.
        said: String,
        /// Where it logs.
        log: PathBuf,
    },
    /// Whoever sent the specification ended in the middle of it. Nothing was started.
    #[error("the job's specification broke off")]
    BrokenOrder,
    /// What a dead supervisor left behind does not die.
    #[error("processes of group {pgid} are still alive after they were killed; end them by hand")]
    Leftover {
        /// The process group.
        pgid: i32,
    },
    /// Only a job that has ended can be removed.
    #[error("{job} has not ended, so its folder stays")]
    NotEnded {
        /// The job.
        job: String,
    },
    /// A thread of this process is gone.
    #[error("a background task of the process substrate ended early")]
    Interrupted,
}

impl Error {
    /// Names the file and the attempt in an I/O error.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}

impl From<Error> for SubstrateError {
    fn from(error: Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Why a job ended otherwise than by its command's success.
#[derive(Debug)]
pub(crate) struct Failure {
    /// One of [`error_class`], or [`ANSWER_REFUSED`].
    pub(crate) class: &'static str,
    /// The same for people.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }

    /// It was asked to stop.
    pub(crate) fn stopped() -> Self {
        Self::new(error_class::STOPPED, "stopped on request")
    }

    /// Its supervisor is gone.
    pub(crate) fn evicted() -> Self {
        Self::new(
            error_class::EVICTED,
            "the job's supervisor ended without a word (killed, or the machine restarted)",
        )
    }

    /// The job's last snapshot.
    pub(crate) fn snapshot(self) -> JobSnapshot {
        let status = if self.class == error_class::STOPPED {
            JobStatus::Terminated
        } else {
            JobStatus::Failed
        };
        JobSnapshot {
            terminal_error_class: Some(self.class.to_owned()),
            terminal_error_message: Some(self.message),
            ..JobSnapshot::of(status)
        }
    }
}
