//! What the API says when it says no.

use serde::{Deserialize, Serialize};
use towpath_engine::{RunId, ValidationError};

/// The body of every error answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// A stable word for it; see [`Code`].
    pub code: Code,
    /// What is wrong, and what to do.
    pub message: String,
    /// The field that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The run that is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Every error of a pipeline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ValidationError>,
}

/// The stable words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The body is not JSON.
    InvalidJson,
    /// There is no usable key.
    Unauthorized,
    /// The key may not do this.
    Forbidden,
    /// There is no such thing, or it is another workspace's.
    NotFound,
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// The block has a live run.
    RunIsLive,
    /// The question was answered otherwise.
    AlreadyAnswered,
    /// The run does not wait for this.
    NotWaiting,
    /// The run is in no state for this.
    WrongState,
    /// The same name was used for another start.
    IdempotencyMismatch,
    /// Somebody else was faster, again and again.
    Busy,
    /// The body is too large.
    TooLarge,
    /// The body's shape is wrong.
    InvalidRequest,
    /// The pipeline cannot run.
    InvalidPipeline,
    /// Too many requests; try again.
    Throttled,
    /// Something behind the API did not answer; try again.
    Unavailable,
    /// A fault of Towpath's own. It is in its log under the request's id.
    Internal,
}

impl Code {
    /// The HTTP status it goes with.
    pub fn status(self) -> u16 {
        match self {
            Code::InvalidJson => 400,
            Code::Unauthorized => 401,
            Code::Forbidden => 403,
            Code::NotFound => 404,
            Code::MethodNotAllowed => 405,
            Code::RunIsLive
            | Code::AlreadyAnswered
            | Code::NotWaiting
            | Code::WrongState
            | Code::Busy => 409,
            Code::TooLarge => 413,
            Code::InvalidRequest | Code::InvalidPipeline | Code::IdempotencyMismatch => 422,
            Code::Throttled => 429,
            Code::Unavailable => 503,
            Code::Internal => 500,
        }
    }
}

impl Problem {
    /// A problem of this code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            field: None,
            run: None,
            errors: Vec::new(),
        }
    }

    /// The same, naming the field that is wrong.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..self
        }
    }

    /// The same, naming the run that is in the way.
    #[must_use]
    pub fn with_run(self, run: RunId) -> Self {
        Self {
            run: Some(run),
            ..self
        }
    }
}
