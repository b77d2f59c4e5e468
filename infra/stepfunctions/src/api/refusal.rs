//! Refusals, in AWS's words.

use axum::http::StatusCode;

use crate::error::Error;

/// The answer to a request that is not carried out.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// The `__type`, which SDKs turn into their error.
    pub(super) kind: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind,
            message: message.into(),
        }
    }

    /// The refusal of a member that breaks its constraint, in AWS's words.
    pub(super) fn validation(member: &str, constraint: impl std::fmt::Display) -> Self {
        let message = format!(
            "1 validation error detected: Value at '{member}' failed to satisfy constraint: Member must {constraint}"
        );
        Self::new("ValidationException", message)
    }

    /// The refusal of a request that cannot be served now; SDKs try again.
    pub(super) fn unavailable() -> Self {
        let message =
            "Step Functions is starting, shutting down or without its store; try again".to_owned();
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            kind: "ServiceUnavailable",
            message,
        }
    }
}

impl From<Error> for Refusal {
    /// Hides the inside of a failure from clients; it was logged where it arose.
    fn from(error: Error) -> Self {
        match error {
            // The store is opened again in the background.
            Error::Closed | Error::Store(_) => Self::unavailable(),
            _ => Self {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                kind: "InternalFailure",
                message: "Step Functions failed; see its log".to_owned(),
            },
        }
    }
}
