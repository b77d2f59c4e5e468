//! Errors of the records.

use towpath_table::Key;

/// An error of the records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Somebody else was first. Nothing was written: load and decide again.
    #[error("the records changed in the meantime")]
    Conflict,
    /// A claim is somebody else's: a block's lock, or the name of a start. Nothing was written.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// The table has no room for another request now. Nothing was written.
    #[error("the tables are throttled")]
    Throttled,
    /// The table did not answer. A transaction may or may not have been written.
    #[error("the tables could not be reached")]
    Unavailable,
    /// The function's role is not allowed what it tried.
    #[error("not allowed: {0}")]
    Denied(String),
    /// A record has a form that this release does not know.
    #[error(
        "the record {0} was written by a newer release; deploy that release's functions everywhere"
    )]
    Newer(String),
    /// The service refused the request itself, or a record cannot be read.
    #[error("{0}")]
    Broken(String),
}

impl From<towpath_table::Error> for Error {
    fn from(error: towpath_table::Error) -> Self {
        match error {
            towpath_table::Error::Conflict => Self::Conflict,
            towpath_table::Error::Refused(reason) => Self::Refused(reason),
            towpath_table::Error::Throttled => Self::Throttled,
            towpath_table::Error::Unavailable => Self::Unavailable,
            towpath_table::Error::Denied(message) => Self::Denied(message),
            towpath_table::Error::Broken(message) => Self::Broken(message),
        }
    }
}

impl Error {
    pub(crate) fn damaged(what: &Key, why: impl std::fmt::Display) -> Self {
        Self::Broken(format!("the record {what} cannot be read: {why}"))
    }

    pub(crate) fn missing(what: &Key) -> Self {
        Self::Broken(format!("the record {what} is missing"))
    }
}
