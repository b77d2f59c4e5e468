//! The two things the surroundings provide: functions to call, and someone to tell of changed statuses.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::execution::Execution;

/// Calls functions.
#[async_trait]
pub trait Invoke: Send + Sync {
    /// Calls a function, given by name or ARN as the definition says it, and returns its answer.
    async fn invoke(&self, function: &str, payload: Value) -> Result<Value, InvokeError>;
}

/// How a call fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvokeError {
    /// The name that `Retry` and `Catch` match on.
    pub error: String,
    /// For people.
    pub cause: String,
}

/// An execution's status, as EventBridge tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusChange {
    /// Which execution.
    pub execution_arn: String,
    /// Of which machine.
    pub state_machine_arn: String,
    /// The execution's name.
    pub name: String,
    /// AWS's word: `RUNNING`, `SUCCEEDED`, `FAILED`, `TIMED_OUT`, `ABORTED`.
    pub status: String,
    /// When it started.
    pub start_date_ms: u64,
    /// When it ended, if it has.
    pub stop_date_ms: Option<u64>,
    /// Its input, as it was given.
    pub input: String,
    /// Its output, if it succeeded.
    pub output: Option<String>,
    /// The name of its error, if it failed with one.
    pub error: Option<String>,
    /// The cause, if it failed with one.
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

/// Hears of changed statuses.
pub trait StatusListener: Send + Sync {
    /// Called once an execution's status is durable, `RUNNING` included, in the order of the changes. After the death of
    /// the process a change may be told again; none is left out.
    fn status_changed(&self, change: StatusChange);
}
