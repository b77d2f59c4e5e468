//! Errors of a table.

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use towpath_aws::{Trouble, classify};

/// An error of a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Somebody else was first. Nothing was written: load and decide again.
    #[error("the records changed in the meantime")]
    Conflict,
    /// A condition that refuses did not hold, and no race was lost. Nothing was written, and the same write will not
    /// succeed.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// The table has no room for another request now. Nothing was written.
    #[error("the tables are throttled")]
    Throttled,
    /// The table did not answer. A write may or may not have been made.
    #[error("the tables could not be reached")]
    Unavailable,
    /// The function's role is not allowed what it tried.
    #[error("not allowed: {0}")]
    Denied(String),
    /// The service refused the request itself.
    #[error("{0}")]
    Broken(String),
}

impl Error {
    /// Translates an error of an AWS call for the caller of a table.
    pub fn from_sdk<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match classify(error) {
            Trouble::ConditionFailed | Trouble::TransactionConflict => Self::Conflict,
            Trouble::Throttled => Self::Throttled,
            Trouble::Unavailable => Self::Unavailable,
            Trouble::AccessDenied { message } => Self::Denied(message),
            Trouble::Other => Self::Broken(format!(
                "the table service refused a request: {}",
                error
                    .message()
                    .or(error.code())
                    .unwrap_or("no reason given")
            )),
        }
    }
}
