//! How the shell fails, and by which names the state machine knows it.

use lambda_runtime::Diagnostic;
use towpath_engine::{Illegal, Refused};

/// How an action of the shell fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The records.
    #[error(transparent)]
    Store(#[from] towpath_store::Error),
    /// A service other than the tables is throttled.
    #[error("{0} is throttled")]
    Throttled(&'static str),
    /// A service other than the tables does not answer.
    #[error("{0} could not be reached")]
    Unavailable(&'static str),
    /// The role is not allowed what the function tried.
    #[error("not allowed: {0}")]
    Denied(String),
    /// The records contradict each other.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// A record is of a form that this release does not know.
    #[error("{0} was written by a newer release; deploy that release's functions everywhere")]
    Newer(String),
    /// The event is not one this function takes.
    #[error("the event is not one this function takes: {0}")]
    BadEvent(String),
    /// The environment is not complete.
    #[error("the function's environment is not complete: {0}")]
    Config(String),
}

impl Error {
    /// The stable name that the machine's Retry and Catch match on.
    pub fn name(&self) -> &'static str {
        match self {
            Error::Store(towpath_store::Error::Throttled) | Error::Throttled(_) => {
                "Towpath.Throttled"
            }
            // A conflict that did not end by loading again is contention, which another try later ends.
            Error::Store(towpath_store::Error::Conflict) => "Towpath.Throttled",
            Error::Store(towpath_store::Error::Unavailable) | Error::Unavailable(_) => {
                "Towpath.Unavailable"
            }
            Error::Store(towpath_store::Error::Denied(_)) | Error::Denied(_) => {
                "Towpath.AccessDenied"
            }
            Error::Store(towpath_store::Error::Broken(_)) | Error::Illegal(_) => {
                "Towpath.BrokenRecord"
            }
            Error::Newer(_) => "Towpath.Newer",
            Error::BadEvent(_) => "Towpath.BadEvent",
            Error::Config(_) => "Towpath.Config",
        }
    }
}

impl From<Error> for Diagnostic {
    fn from(error: Error) -> Self {
        tracing::error!(error = error.name(), "{error}");
        Self {
            error_type: error.name().to_owned(),
            error_message: error.to_string(),
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Illegal(illegal) => Error::Illegal(illegal),
            other => Error::BadEvent(other.to_string()),
        }
    }
}
