//! How the store fails.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use towpath_aws::{Trouble, classify};

/// How the store fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else was first. Nothing was written: load and decide again.
    #[error("the records changed in the meantime")]
    Conflict,
    /// The table has no room for another request now. Nothing was written.
    #[error("the tables are throttled")]
    Throttled,
    /// The table did not answer. A transaction may or may not have been written.
    #[error("the tables could not be reached")]
    Unavailable,
    /// The function's role is not allowed what it tried.
    #[error("not allowed: {0}")]
    Denied(String),
    /// The service refused the request itself, or a record cannot be read.
    #[error("{0}")]
    Broken(String),
}

impl Error {
    pub(crate) fn from_sdk<E>(error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        match classify(&error) {
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

    pub(crate) fn damaged(what: &str, why: impl std::fmt::Display) -> Self {
        Self::Broken(format!("the record {what} cannot be read: {why}"))
    }
}
