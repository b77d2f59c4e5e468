//! State machine definitions: what a loaded one is. Everything in it has been checked, so the interpreter meets no
//! surprises; how it is checked is in `load`.

mod load;
pub(crate) mod node;
mod policy;
mod transitions;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

pub use node::Problem;

use crate::jsonata::Expression;
use crate::template::Template;
pub(crate) use policy::{Catcher, Retrier};

/// A state machine that has been read and checked.
#[derive(Debug)]
pub struct Definition {
    pub(crate) start_at: String,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) states: BTreeMap<String, State>,
}

/// Why a definition was refused: everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionError {
    /// Never empty.
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

impl Definition {
    /// Reads a definition.
    ///
    /// # Errors
    /// Everything that AWS would refuse, and everything that is not supported here, each with its JSON path.
    pub fn parse(definition: &Value) -> Result<Self, DefinitionError> {
        load::load(definition)
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) kind: Kind,
    pub(crate) assign: Option<Template>,
    pub(crate) output: Option<Template>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Task(Task),
    Choice {
        rules: Vec<Rule>,
        default: Option<String>,
    },
    Succeed,
    Fail {
        error: Option<Template>,
        cause: Option<Template>,
    },
    Pass {
        next: Next,
    },
    Wait {
        until: Until,
        next: Next,
    },
}

impl Kind {
    /// The type as history events name it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Task(_) => "Task",
            Self::Choice { .. } => "Choice",
            Self::Succeed => "Succeed",
            Self::Fail { .. } => "Fail",
            Self::Pass { .. } => "Pass",
            Self::Wait { .. } => "Wait",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Task {
    /// Whether the task ends by its token (`.waitForTaskToken`) rather than by the function's answer.
    pub(crate) by_token: bool,
    pub(crate) arguments: Template,
    pub(crate) timeout_seconds: Option<Template>,
    pub(crate) heartbeat_seconds: Option<Template>,
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

#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) condition: Condition,
    pub(crate) next: String,
    pub(crate) assign: Option<Template>,
    pub(crate) output: Option<Template>,
}

/// What a choice rule asks.
#[derive(Debug)]
pub(crate) enum Condition {
    Literal(bool),
    Expression(Expression),
}

/// Where a state leads.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    State(String),
    End,
}

/// What a `Wait` state waits for.
#[derive(Debug)]
pub(crate) enum Until {
    Seconds(Template),
    Timestamp(Template),
}
