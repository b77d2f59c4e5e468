//! The history of an execution, in AWS's event types.

use serde_json::{Value, json};

use crate::execution::Execution;
use crate::failure::{Failure, RUNTIME};

/// AWS's limit on the events of an execution. The last one says that it failed.
const MAX_EVENTS: u64 = 25_000;

/// One event, as `GetExecutionHistory` shows it.
#[derive(Clone, Debug)]
pub(crate) struct HistoryEvent {
    pub(crate) id: u64,
    pub(crate) previous: u64,
    pub(crate) at_ms: u64,
    pub(crate) kind: String,
    /// The name of the member with the details, and the details.
    pub(crate) details: Option<(String, Value)>,
}

impl HistoryEvent {
    /// The next event of an execution, which counts it.
    pub(super) fn next(
        execution: &mut Execution,
        at_ms: u64,
        kind: &str,
        details: Option<(&str, Value)>,
    ) -> Self {
        let last = execution.last_event;
        execution.last_event = last + 1;
        Self {
            id: last + 1,
            // As on AWS, the first state's entry follows nothing.
            previous: if last == 1 { 0 } else { last },
            at_ms,
            kind: kind.to_owned(),
            details: details.map(|(name, value)| (name.to_owned(), value)),
        }
    }
}

/// Whether only the closing event still fits into the history.
pub(super) fn is_full(execution: &Execution) -> bool {
    execution.last_event + 1 >= MAX_EVENTS
}

/// The failure of an execution whose history is full.
pub(super) fn full() -> Failure {
    Failure::new(
        RUNTIME,
        format!("The execution reached the maximum number of history events ({MAX_EVENTS})."),
    )
}

/// The details, with error and cause where there are any.
pub(super) fn with_failure(mut details: Value, failure: &Failure) -> Value {
    for (key, value) in [("error", &failure.error), ("cause", &failure.cause)] {
        if let (Some(value), Some(object)) = (value, details.as_object_mut()) {
            object.insert(key.to_owned(), Value::String(value.clone()));
        }
    }
    details
}

/// The details, with an output as AWS shows it.
pub(super) fn with_output(mut details: Value, output: &Value) -> Value {
    if let Some(object) = details.as_object_mut() {
        object.insert("output".to_owned(), Value::String(output.to_string()));
        object.insert("outputDetails".to_owned(), json!({ "truncated": false }));
    }
    details
}
