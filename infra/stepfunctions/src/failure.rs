//! Failures of states: the error name that `Retry` and `Catch` match on, and the cause for people.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// AWS's names.
pub(crate) const TIMEOUT: &str = "States.Timeout";
pub(crate) const RUNTIME: &str = "States.Runtime";
pub(crate) const DATA_LIMIT: &str = "States.DataLimitExceeded";
pub(crate) const QUERY: &str = "States.QueryEvaluationError";
pub(crate) const ALL: &str = "States.ALL";
pub(crate) const TASK_FAILED: &str = "States.TaskFailed";

/// A failed state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) error: Option<String>,
    pub(crate) cause: Option<String>,
}

impl Failure {
    pub(crate) fn new(error: &str, cause: impl Into<String>) -> Self {
        Self {
            error: Some(error.to_owned()),
            cause: Some(cause.into()),
        }
    }

    /// The failure of an expression that failed, or gave what its field cannot take.
    pub(crate) fn query(cause: impl Into<String>) -> Self {
        Self::new(QUERY, cause)
    }

    /// The failure of a passed time limit. AWS gives no cause.
    pub(crate) fn timeout(error: &str) -> Self {
        Self {
            error: Some(error.to_owned()),
            cause: None,
        }
    }

    /// Whether a retrier's or catcher's `ErrorEquals` takes this error. `States.Runtime` is terminal: nothing takes it;
    /// `States.DataLimitExceeded` is taken by its own name only; `States.TaskFailed` stands for all but the timeout.
    pub(crate) fn is_one_of(&self, names: &[String]) -> bool {
        let error = self.error.as_deref().unwrap_or_default();
        if error == RUNTIME {
            return false;
        }
        names.iter().any(|name| match name.as_str() {
            name if name == error => true,
            ALL => error != DATA_LIMIT,
            TASK_FAILED => ![TIMEOUT, DATA_LIMIT].contains(&error),
            _ => false,
        })
    }

    /// `$states.errorOutput`.
    pub(crate) fn output(&self) -> Value {
        let mut output = Map::new();
        for (key, value) in [("Error", &self.error), ("Cause", &self.cause)] {
            if let Some(value) = value {
                output.insert(key.to_owned(), Value::String(value.clone()));
            }
        }
        Value::Object(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(error: &str, name: &str) -> bool {
        Failure::new(error, "").is_one_of(&[name.to_owned()])
    }

    #[test]
    fn wildcards_take_what_aws_says_they_take() {
        assert!(takes("Custom", ALL) && takes(TIMEOUT, ALL) && takes(QUERY, ALL));
        assert!(takes("Custom", TASK_FAILED) && !takes(TIMEOUT, TASK_FAILED));
        assert!(!takes(RUNTIME, ALL) && !takes(RUNTIME, TASK_FAILED) && !takes(RUNTIME, RUNTIME));
        assert!(!takes(DATA_LIMIT, ALL) && takes(DATA_LIMIT, DATA_LIMIT));
        assert!(!takes("Custom", "Other"));
    }
}
