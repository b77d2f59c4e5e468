//! The history of an execution, in AWS's event types.

use serde_json::{Value, json};

use super::Turn;
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

impl Turn<'_> {
    /// Writes down what happened. Where only the closing event still fits, it is not written and the execution is to
    /// fail: see [`Turn::history_is_full`].
    pub(super) fn record(&mut self, kind: &str, details: Option<(&str, Value)>) {
        if self.execution.is_running() && self.history_is_full() {
            return;
        }
        let last = self.execution.last_event;
        self.execution.last_event = last + 1;
        self.events.push(HistoryEvent {
            id: last + 1,
            // As on AWS, the first state's entry follows nothing.
            previous: if last == 1 { 0 } else { last },
            at_ms: self.now_ms,
            kind: kind.to_owned(),
            details: details.map(|(name, value)| (name.to_owned(), value)),
        });
    }

    pub(super) fn history_is_full(&self) -> bool {
        self.execution.last_event + 1 >= MAX_EVENTS
    }

    pub(super) fn full_history() -> Failure {
        Failure::new(
            RUNTIME,
            format!("The execution reached the maximum number of history events ({MAX_EVENTS})."),
        )
    }

    pub(super) fn record_entered(&mut self) {
        let Some(kind) = self.state().map(|state| state.kind.name()) else {
            return;
        };
        let position = &self.execution.position;
        let details = json!({
            "name": position.state,
            "input": position.input.to_string(),
            "inputDetails": { "truncated": false },
        });
        self.record(
            &format!("{kind}StateEntered"),
            Some(("stateEnteredEventDetails", details)),
        );
    }

    pub(super) fn record_exited(&mut self, output: &Value) {
        let Some(kind) = self.state().map(|state| state.kind.name()) else {
            return;
        };
        let details = json!({
            "name": self.execution.position.state,
            "output": output.to_string(),
            "outputDetails": { "truncated": false },
        });
        self.record(
            &format!("{kind}StateExited"),
            Some(("stateExitedEventDetails", details)),
        );
    }
}

/// Adds error and cause to details, where there are any.
pub(super) fn with_failure(mut details: Value, failure: &Failure) -> Value {
    for (key, value) in [("error", &failure.error), ("cause", &failure.cause)] {
        if let (Some(value), Some(object)) = (value, details.as_object_mut()) {
            object.insert(key.to_owned(), Value::String(value.clone()));
        }
    }
    details
}
