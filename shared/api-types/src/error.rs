//! The errors of the API.

use serde::{Deserialize, Serialize};
use towpath_engine::{RunId, ValidationError};

/// The body of every error answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The class of the error, a stable word; see [`Code`].
    pub code: Code,
    /// The error in words for people, with what to do about it.
    pub message: String,
    /// The name of the field that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The run that is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The runtime that the deployment does not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Box<str>>,
    /// Every error of a pipeline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ValidationError>,
}

/// The classes of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The body is not JSON.
    InvalidJson,
    /// The request has no usable API key.
    Unauthorized,
    /// The key may not do this.
    Forbidden,
    /// The resource that the path names does not exist, or is another workspace's.
    NotFound,
    /// The path does not take this method.
    MethodNotAllowed,
    /// The block has a live run.
    RunIsLive,
    /// The question was answered differently before.
    AlreadyAnswered,
    /// The run does not wait for this.
    NotWaiting,
    /// The run's status does not allow the request.
    WrongState,
    /// The `Idempotency-Key` was used for another request.
    IdempotencyMismatch,
    /// Others wrote the same records again and again; try again.
    Busy,
    /// A message of the executor contract has another shape than that says.
    InvalidPayload,
    /// No executor fits the mission.
    NoExecutorAvailable,
    /// No executor that is `resumable` fits the mission, which is `long_running`.
    NoResumableExecutorAvailable,
    /// The body is too large.
    TooLarge,
    /// The body's shape is wrong.
    InvalidRequest,
    /// The pipeline cannot run.
    InvalidPipeline,
    /// The pipeline names a runtime that the deployment does not have.
    RuntimeNotImplemented,
    /// Too many requests; try again.
    Throttled,
    /// Something behind the API did not answer; try again.
    Unavailable,
    /// An error of Towpath's own. Its log has it under the request's id.
    Internal,
}

impl Code {
    /// The HTTP status of the error.
    pub fn status(self) -> u16 {
        match self {
            Code::InvalidJson | Code::InvalidPayload => 400,
            Code::Unauthorized => 401,
            Code::Forbidden => 403,
            Code::NotFound => 404,
            Code::MethodNotAllowed => 405,
            Code::RunIsLive
            | Code::AlreadyAnswered
            | Code::NotWaiting
            | Code::WrongState
            | Code::RuntimeNotImplemented
            | Code::Busy => 409,
            Code::TooLarge => 413,
            Code::InvalidRequest | Code::InvalidPipeline | Code::IdempotencyMismatch => 422,
            Code::Throttled => 429,
            Code::Unavailable | Code::NoExecutorAvailable | Code::NoResumableExecutorAvailable => {
                503
            }
            Code::Internal => 500,
        }
    }
}

impl Problem {
    /// Makes a problem of this class.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
            run: None,
            provider: None,
            errors: Vec::new(),
        }
    }

    /// Adds the name of the field that is wrong.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..self
        }
    }

    /// Adds the run that is in the way.
    #[must_use]
    pub fn with_run(self, run: RunId) -> Self {
        Self {
            run: Some(run),
            ..self
        }
    }
}
