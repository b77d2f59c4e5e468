//! The two traits that the surroundings implement: calling functions, and listening to changed statuses.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::execution::Execution;

/// The caller of functions.
#[async_trait]
pub trait Invoke: Send + Sync {
    /// Calls a function, given by name or ARN as in the definition, and returns its answer.
    ///
    /// # Errors
    /// An error of the function or of Lambda, by the name that `Retry` and `Catch` match on.
    async fn invoke(&self, function: &str, payload: Value) -> Result<Value, InvokeError>;
}

/// The error of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvokeError {
    /// The error name that `Retry` and `Catch` match on, such as `Lambda.TooManyRequestsException`.
    pub error: String,
    /// The cause, for people.
    pub cause: String,
}

/// A change of an execution's status, with what EventBridge reports of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusChange {
    /// The ARN of the execution.
    pub execution_arn: String,
    /// The ARN of its state machine.
    pub state_machine_arn: String,
    /// The execution's name.
    pub name: String,
    /// The new status, in AWS's words: `RUNNING`, `SUCCEEDED`, `FAILED`, `TIMED_OUT`, `ABORTED`.
    pub status: String,
    /// The time of the start, in milliseconds since the epoch.
    pub start_date_ms: u64,
    /// The time of the end, in milliseconds since the epoch; `None` while the execution runs.
    pub stop_date_ms: Option<u64>,
    /// The input as it was given: JSON.
    pub input: String,
    /// The output, if the execution succeeded: JSON.
    pub output: Option<String>,
    /// The name of the error, if the execution failed with one.
    pub error: Option<String>,
    /// The cause, if the execution failed with one.
    pub cause: Option<String>,
}

impl StatusChange {
    pub(crate) fn of(execution: &Execution) -> Self {
        let failure = execution.failure.as_ref();
        Self {
            execution_arn: execution.arn.clone(),
            state_machine_arn: execution.machine_arn.clone(),
            name: execution.name.clone(),
            status: execution.status.as_str().to_owned(),
            start_date_ms: execution.started_ms,
            stop_date_ms: execution.stopped_ms,
            input: execution.input.clone(),
            output: execution.output.clone(),
            error: failure.and_then(|failure| failure.error.clone()),
            cause: failure.and_then(|failure| failure.cause.clone()),
        }
    }
}

/// The listener that hears of changed statuses.
pub trait StatusListener: Send + Sync {
    /// Hears of one change. This is called after the status is durable, `RUNNING` included, in the order of the changes.
    /// After the death of the process a change may be told again; none is left out.
    fn status_changed(&self, change: StatusChange);
}
