//! The kinds of steps: one file and one line in [`BUILT_IN`] each.
//!
//! A kind decides what its step does next. It sees every event that reaches the step and answers with an action; the
//! kernel carries the action out, keeps the records, and handles what is the same for every kind: evictions, time
//! budgets, unreadable answers, approvals. A kind's state is its own: nothing else reads or writes it.

mod agent;
pub mod gate;

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    Action, AgentKind, Command, Event, JobId, Model, Role, Simulated, Step, StepSpec, Timestamp,
    ValidationErrors,
};

/// The kinds that every deployment has. The first that claims a step decides for it.
pub static BUILT_IN: &[&dyn Kind] = &[&gate::CommandGate, &agent::Agent];

/// A kind of step.
pub trait Kind: Debug + Sync {
    /// The kind's name, for logs and messages.
    fn name(&self) -> &'static str;

    /// Whether a step is of this kind.
    fn claims(&self, spec: &StepSpec) -> bool;

    /// Checks the step's definition, at `path` of its pipeline.
    fn check(&self, spec: &StepSpec, path: &str, errors: &mut ValidationErrors);

    /// The work that a call of this role does. `None`: the step makes no such call.
    fn work<'a>(&self, spec: &'a StepSpec, role: Role) -> Option<Work<'a>>;

    /// The runtimes that the step needs.
    fn needs<'a>(&self, spec: &'a StepSpec) -> Vec<&'a str> {
        let work = Role::ALL
            .into_iter()
            .filter_map(|role| self.work(spec, role));
        work.map(|work| work.runtime()).collect()
    }

    /// Decides what the step does on an event.
    fn on_event(&self, cx: &mut Context<'_>, event: Event<'_>) -> Action;

    /// What the agent of a call is told besides what every agent is told.
    fn instructions(&self, spec: &StepSpec, step: &Step, role: Role) -> Instructions;

    /// What the step is doing, in a few words for people.
    fn describe(&self, spec: &StepSpec, step: &Step) -> String;
}

/// The work of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work<'a> {
    /// A command, run as a job.
    Command(&'a Command),
    /// A script whose answer is known beforehand.
    Simulated(&'a Simulated),
    /// One call of a language model.
    Model(&'a Model),
}

/// The name, in the place of a runtime's kind, of the one that runs a deployment's commands.
pub const ANY_RUNTIME: &str = "command";

impl<'a> Work<'a> {
    /// The kind of the runtime that does the work, or [`ANY_RUNTIME`] for a command that does not say where it runs.
    pub fn runtime(&self) -> &'a str {
        match self {
            Work::Command(command) => command.on.as_ref().map_or(ANY_RUNTIME, |on| on.runtime()),
            Work::Simulated(_) => "simulated",
            Work::Model(_) => "model",
        }
    }
}

/// The part of a run that a kind sees.
pub struct Context<'a> {
    /// The step's definition.
    pub spec: &'a StepSpec,
    /// The step's record, without the kind's state.
    pub step: &'a Step,
    /// The time.
    pub now: Timestamp,
    pub(crate) state: &'a mut Option<Value>,
}

impl Context<'_> {
    /// Reads the kind's state. A state that is absent, or is no `T`, reads as the default.
    pub fn state<T: DeserializeOwned + Default>(&self) -> T {
        read(self.state.as_ref())
    }

    /// Writes the kind's state. A state that JSON cannot hold is dropped.
    pub fn set_state<T: Serialize>(&mut self, state: &T) {
        *self.state = serde_json::to_value(state).ok();
    }
}

/// Reads the state of a kind from a step's record. A state that is absent, or is no `T`, reads as the default.
pub fn read<T: DeserializeOwned + Default>(state: Option<&Value>) -> T {
    state
        .and_then(|state| T::deserialize(state).ok())
        .unwrap_or_default()
}

/// Instructions of a step's kind to the agent of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instructions {
    /// The kind of agent that the call is for.
    pub agent_kind: AgentKind,
    /// The findings of the probe, for the helper that is to fix them.
    pub findings: Option<Findings>,
}

/// The findings of a gate's probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The findings in short.
    pub summary: Option<String>,
    /// The names of the checks that failed.
    pub failing: Vec<String>,
    /// The job of the probe, if one found something.
    pub probe: Option<JobId>,
}

/// The text of a work's length in minutes, for messages.
pub(crate) fn in_minutes(minutes: u64) -> String {
    match minutes {
        1 => "1 minute".to_owned(),
        n => format!("{n} minutes"),
    }
}
