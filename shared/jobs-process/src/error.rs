//! The errors of this crate, and the reasons for which a job ends badly.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use towpath_jobs::{JobSnapshot, StartError, Unreadable, error_class};

/// What can go wrong between a caller, the folder of a job and its supervisor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused an operation.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// The operation, as a verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A record in the folder of a job is not valid.
    #[error("{path} is not a valid record: {source}")]
    Record {
        /// The file that holds the record.
        path: PathBuf,
        /// The error of the parser.
        source: serde_json::Error,
    },
    /// The id of a job cannot be the name of a folder.
    #[error("the job id {job:?} cannot be the name of a folder")]
    JobId {
        /// The id.
        job: String,
    },
    /// The program of the supervisor could not be run.
    #[error("cannot run the supervisor {path}: {source}")]
    Supervisor {
        /// The program.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The supervisor ended, or gave an answer that is not one, before it accepted the job.
    #[error("the supervisor did not accept the job ({said}); its log {log} may say why")]
    NotAccepted {
        /// The answer of the supervisor.
        said: String,
        /// The log of the supervisor.
        log: PathBuf,
    },
    /// The caller ended before it had sent the whole request. Nothing was started.
    #[error("the job's request ended early")]
    BrokenOrder,
    /// A supervisor has taken the lock of the job, and neither accepts the job nor lets go of the lock.
    #[error(
        "a supervisor is about to accept {job} and does not go on; the stop is noted, try again"
    )]
    Accepting {
        /// The id of the job.
        job: String,
    },
    /// Processes that a dead supervisor left behind survive SIGKILL.
    #[error("processes of group {pgid} are still alive after SIGKILL; end them by hand")]
    Leftover {
        /// The process group.
        pgid: i32,
    },
    /// A job that has not ended cannot be removed.
    #[error("{job} has not ended, so its folder is kept")]
    NotEnded {
        /// The id of the job.
        job: String,
    },
    /// A background thread of this process ended before its work was done.
    #[error("a background task of the process runtime ended early")]
    Interrupted,
}

impl Error {
    /// Makes an error of an I/O error. `what` is the operation that was tried, as a verb.
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }

    /// Whether the machine lacks disk space, memory, processes or open files at the moment.
    fn is_lack_of_room(&self) -> bool {
        let (Self::File { source, .. } | Self::Supervisor { source, .. }) = self else {
            return false;
        };
        let kinds = [
            ErrorKind::StorageFull,
            ErrorKind::QuotaExceeded,
            ErrorKind::OutOfMemory,
            ErrorKind::WouldBlock,
        ];
        let files = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
        kinds.contains(&source.kind()) || files.contains(&source.raw_os_error())
    }
}

impl From<Error> for Unreadable {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

/// The errors of a start. All of those that tell of a lack of room come from before the supervisor runs.
impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        match error {
            error if error.is_lack_of_room() => Self::NoRoom(error.to_string()),
            error @ Error::JobId { .. } => Self::Refused(error.to_string()),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

/// The failure of a job: every end but its command's success.
#[derive(Debug)]
pub(crate) struct Failure {
    /// One of the words in [`error_class`].
    pub(crate) class: &'static str,
    /// The reason in a sentence for people.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }

    /// The command could not be started, or what it needs could not be prepared.
    pub(crate) fn start(message: impl Into<String>) -> Self {
        Self::new(error_class::START_FAILED, message)
    }

    /// The job was asked to stop.
    pub(crate) fn stopped() -> Self {
        Self::new(error_class::STOPPED, "stopped on request")
    }

    /// The supervisor of the job is gone.
    pub(crate) fn evicted() -> Self {
        Self::new(
            error_class::EVICTED,
            "the job's supervisor was killed, or the machine restarted",
        )
    }

    /// The last snapshot of the job.
    pub(crate) fn snapshot(self) -> JobSnapshot {
        JobSnapshot::ended_badly(self.class, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_machine_has_no_room_and_anything_else_may_have_started_the_job() {
        let failed = |errno: Errno| {
            StartError::from(Error::Supervisor {
                path: PathBuf::from("towpath"),
                source: io::Error::from_raw_os_error(errno.raw_os_error()),
            })
        };
        for errno in [
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::NOMEM,
            Errno::AGAIN,
            Errno::MFILE,
            Errno::NFILE,
        ] {
            assert!(
                matches!(failed(errno), StartError::NoRoom(_)),
                "{errno:?}: {:?}",
                failed(errno)
            );
        }
        assert!(matches!(failed(Errno::NOENT), StartError::Unavailable(_)));
    }
}
