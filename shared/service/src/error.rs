//! Errors of the services, and the names by which the state machine knows them.

use lambda_runtime::Diagnostic;
use towpath_api_types::{Code, Problem};
use towpath_engine::Illegal;

/// An error of a service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An error of the records.
    #[error(transparent)]
    Store(#[from] towpath_store::Error),
    /// An error of the state machine's service.
    #[error(transparent)]
    Machine(#[from] towpath_machine::Error),
    /// Another service does not answer.
    #[error("{0} could not be reached")]
    Unavailable(&'static str),
    /// The records contradict each other.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// The event is not one this function takes.
    #[error("the event is not one this function takes: {0}")]
    BadEvent(String),
    /// The environment is not complete.
    #[error("the function's environment is not complete: {0}")]
    Config(String),
}

/// The classes of errors: what the machine's Retry and Catch, the API and the alarms tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Throttled,
    Unavailable,
    AccessDenied,
    Newer,
    BrokenRecord,
    BadEvent,
    Config,
}

impl Error {
    fn class(&self) -> Class {
        use towpath_machine::Error as Machine;
        use towpath_store::Error as Store;
        match self {
            // A conflict that did not end by loading again is contention, which another try later ends.
            Self::Store(Store::Throttled | Store::Conflict) | Self::Machine(Machine::Throttled) => {
                Class::Throttled
            }
            Self::Store(Store::Unavailable)
            | Self::Machine(Machine::Unavailable)
            | Self::Unavailable(_) => Class::Unavailable,
            Self::Store(Store::Denied(_)) | Self::Machine(Machine::Denied(_)) => {
                Class::AccessDenied
            }
            Self::Store(Store::Newer(_)) => Class::Newer,
            Self::Store(Store::Broken(_) | Store::Refused(_)) | Self::Illegal(_) => {
                Class::BrokenRecord
            }
            Self::BadEvent(_) => Class::BadEvent,
            Self::Config(_) => Class::Config,
        }
    }

    /// The stable name that the machine's Retry and Catch match on.
    pub fn name(&self) -> &'static str {
        match self.class() {
            Class::Throttled => "Towpath.Throttled",
            Class::Unavailable => "Towpath.Unavailable",
            Class::AccessDenied => "Towpath.AccessDenied",
            Class::Newer => "Towpath.Newer",
            Class::BrokenRecord => "Towpath.BrokenRecord",
            Class::BadEvent => "Towpath.BadEvent",
            Class::Config => "Towpath.Config",
        }
    }
}

impl From<Error> for Diagnostic {
    fn from(error: Error) -> Self {
        tracing::error!(error = error.name(), "{error}");
        Self {
            error_type: error.name().to_owned(),
            error_message: error.to_string(),
        }
    }
}

/// What a client is told of an error: never more than its class. The rest is in the log.
impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        tracing::error!(error = error.name(), "{error}");
        let (code, message) = match error.class() {
            Class::Throttled => (
                Code::Throttled,
                "too many requests at once; try again in a moment",
            ),
            Class::Unavailable => (
                Code::Unavailable,
                "a service did not answer; try again in a moment",
            ),
            Class::Newer => (
                Code::Unavailable,
                "a newer release wrote this record; try again when the deployment is complete",
            ),
            Class::AccessDenied | Class::BrokenRecord | Class::BadEvent | Class::Config => (
                Code::Internal,
                "an error of Towpath's own; the log has it under this request's id",
            ),
        };
        Problem::new(code, message)
    }
}

#[cfg(test)]
mod tests {
    use towpath_store::Error as Store;

    use super::*;

    /// The machine's Retry and the engine's list of deaths that do not count match on these words.
    #[test]
    fn what_is_waited_out_has_the_name_that_the_machine_retries() {
        let machine = include_str!("../../../statemachines/run.asl.json");
        let waited_out = [
            (Store::Throttled, "Towpath.Throttled"),
            (Store::Conflict, "Towpath.Throttled"),
            (Store::Unavailable, "Towpath.Unavailable"),
            (Store::Newer("a row".to_owned()), "Towpath.Newer"),
        ];
        for (error, name) in waited_out {
            assert_eq!(Error::from(error).name(), name);
            assert!(machine.contains(&format!("\"{name}\"")), "{name}");
        }
    }
}
