//! A state machine that has been read and checked.

use std::collections::BTreeMap;
use std::fmt;

use super::policy::{Catcher, Retrier};
use crate::document::Problem;
use crate::template::Template;

/// A state machine that has been read and checked.
#[derive(Debug, Default)]
pub struct Definition {
    pub(crate) start_at: String,
    pub(crate) states: BTreeMap<String, State>,
}

/// The error of a definition that was refused: everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionError {
    /// The problems found; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the state machine definition is refused")?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for DefinitionError {}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) kind: Kind,
    pub(crate) output: Option<Template>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Task(Task),
    Succeed,
    Fail {
        /// A fixed text: a computed one could begin with `States.`.
        error: Option<String>,
        cause: Option<Template>,
    },
}

impl Kind {
    /// The type as history events name it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Task(_) => "Task",
            Self::Succeed => "Succeed",
            Self::Fail { .. } => "Fail",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Task {
    /// Whether the task ends by its token (`.waitForTaskToken`) rather than by the function's answer.
    pub(crate) by_token: bool,
    pub(crate) arguments: Template,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) retry: Vec<Retrier>,
    pub(crate) catch: Vec<Catcher>,
    pub(crate) next: Next,
}

impl Task {
    /// The resource as history events name it.
    pub(crate) fn resource(&self) -> &'static str {
        if self.by_token {
            "invoke.waitForTaskToken"
        } else {
            "invoke"
        }
    }
}

/// The state that follows another, or the end.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    State(String),
    End,
}
