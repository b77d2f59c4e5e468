//! Executions as they are stored: everything needed to go on after a restart.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::failure::Failure;

/// AWS's longest execution: one year.
const MAX_EXECUTION_MS: u64 = 365 * 24 * 60 * 60 * 1_000;

/// The status of an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Status {
    /// The execution goes on.
    Running,
    /// The execution reached an end.
    Succeeded,
    /// A state failed and nothing caught it.
    Failed,
    /// The execution lasted longer than a year.
    TimedOut,
    /// The execution was stopped.
    Aborted,
}

impl Status {
    const ALL: [Self; 5] = [
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Aborted,
    ];

    /// AWS's word for the status.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED_OUT",
            Self::Aborted => "ABORTED",
        }
    }

    /// Reads AWS's word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// One execution.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    /// The execution's number in this store, which is part of its task tokens.
    pub(crate) seq: i64,
    pub(crate) arn: String,
    pub(crate) machine_arn: String,
    pub(crate) machine_name: String,
    pub(crate) name: String,
    /// The definition it started with, which it keeps.
    pub(crate) definition: i64,
    pub(crate) status: Status,
    pub(crate) started_ms: u64,
    pub(crate) stopped_ms: Option<u64>,
    /// As it was given, to the byte: `ExecutionAlreadyExists` depends on it.
    pub(crate) input: String,
    pub(crate) output: Option<String>,
    pub(crate) failure: Option<Failure>,
    /// The transitions that AWS bills: the start, every state entered, every retry.
    pub(crate) transitions: u64,
    /// Functions called.
    pub(crate) invocations: u64,
    /// The id of the last history event.
    pub(crate) last_event: u64,
    pub(crate) position: Position,
}

impl Execution {
    pub(crate) fn is_running(&self) -> bool {
        self.status == Status::Running
    }

    /// The time, in milliseconds since the epoch, at which the execution has lasted too long.
    pub(crate) fn deadline_ms(&self) -> u64 {
        self.started_ms.saturating_add(MAX_EXECUTION_MS)
    }

    /// The time, in milliseconds since the epoch, at which something is next to be done about the execution without
    /// anyone asking; `None` once it is closed.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        let phase = match &self.position.phase {
            Phase::Entering => None,
            Phase::Task(flight) => flight.timeout_ms,
            Phase::BackingOff { until_ms } => Some(*until_ms),
        };
        let deadline = self.deadline_ms();
        self.is_running()
            .then(|| phase.map_or(deadline, |due| due.min(deadline)))
    }

    /// The task under way, if there is one.
    pub(crate) fn flight(&self) -> Option<&Flight> {
        match &self.position.phase {
            Phase::Task(flight) if self.is_running() => Some(flight),
            _ => None,
        }
    }
}

/// The place of an execution in its machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) state: String,
    /// `$states.context.State.EnteredTime`. Later at every entry, so that no two entries look the same.
    pub(crate) entered_ms: u64,
    pub(crate) input: Value,
    /// Retries in this visit of the state: `$states.context.State.RetryCount`.
    pub(crate) retries: u64,
    /// The number of times that each retrier was used in this visit of the state.
    pub(crate) attempts: Vec<u64>,
    /// Tasks begun so far, over all states: the number of the last one.
    pub(crate) tasks: u64,
    pub(crate) phase: Phase,
}

impl Position {
    /// The position of an execution that has not been started.
    pub(crate) fn before_start(input: Value) -> Self {
        Self {
            state: String::new(),
            entered_ms: 0,
            input,
            retries: 0,
            attempts: Vec::new(),
            tasks: 0,
            phase: Phase::Entering,
        }
    }

    /// The position of an execution that is closed.
    pub(crate) fn closed() -> Self {
        Self {
            // Every token that names the execution is one of a task that is over.
            tasks: u64::MAX,
            ..Self::before_start(Value::Null)
        }
    }
}

/// The progress of an execution in its state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// The state is entered and not yet looked at.
    Entering,
    /// A function was called, or a token is awaited.
    Task(Flight),
    /// The task failed and is tried again at a time.
    BackingOff { until_ms: u64 },
}

/// A task under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Flight {
    /// Its number within the execution: the answer of an older task is not mistaken for this one's.
    pub(crate) number: u64,
    /// The token that ends it, where it waits for one.
    pub(crate) token: Option<String>,
    /// Whether the function has answered, so that only the token is awaited.
    pub(crate) parked: bool,
    pub(crate) timeout_ms: Option<u64>,
}
