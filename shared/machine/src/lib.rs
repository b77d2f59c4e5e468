//! The state machine that drives runs: one execution for each generation of a run, each waiting with a task token.
//!
//! [`Machine`] is the port; [`StepFunctions`] is AWS behind it.

mod old_form;
mod step_functions;

use std::fmt;

use async_trait::async_trait;
use towpath_engine::{Next, RunId};

pub use step_functions::StepFunctions;

/// The outcome of answering a task token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The driver goes on.
    Taken,
    /// The token's task is over: it was answered before, or it timed out.
    Gone,
}

/// An error of the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The service is throttled. Nothing was done.
    #[error("Step Functions is throttled")]
    Throttled,
    /// The service did not answer. What was asked may or may not have been done.
    #[error("Step Functions could not be reached")]
    Unavailable,
    /// The function's role is not allowed what it tried, or the service refused the request.
    #[error("not allowed: {0}")]
    Denied(String),
}

/// The state machine that drives runs.
#[async_trait]
pub trait Machine: fmt::Debug + Send + Sync {
    /// Answers a task token: its driver goes on at `next`, or its execution ends. `form` is that of the payload which
    /// brought the token.
    ///
    /// # Errors
    /// If the service does not answer, or refuses.
    async fn answer(&self, token: &str, form: u8, next: Next) -> Result<Sent, Error>;

    /// Whether a task token can still be answered.
    ///
    /// # Errors
    /// If the service does not answer, or refuses.
    async fn is_live(&self, token: &str) -> Result<bool, Error>;

    /// Starts the execution of a generation. One that was started before is not started again.
    ///
    /// # Errors
    /// If the service does not answer, or refuses.
    async fn start(&self, run: &RunId, generation: u32) -> Result<(), Error>;

    /// The error by which the execution of a generation ended; `None` while it runs.
    ///
    /// # Errors
    /// If the service does not answer, or refuses.
    async fn end_of(&self, run: &RunId, generation: u32) -> Result<Option<String>, Error>;
}

/// The executions of the machine as an operator sees them: a port of its own, since no function has it.
#[async_trait]
pub trait Executions: fmt::Debug + Send + Sync {
    /// The names of the executions that run. For an operator: it pages through all of them.
    ///
    /// # Errors
    /// If the service does not answer, or refuses.
    async fn running(&self) -> Result<Vec<String>, Error>;

    /// Ends an execution from outside.
    ///
    /// # Errors
    /// If the service does not answer, or refuses.
    async fn abort(&self, name: &str, why: &str) -> Result<(), Error>;
}

/// The name of the execution of a run's generation.
pub fn execution_name(run: &RunId, generation: u32) -> String {
    format!("{run}-{generation}")
}

/// The run and the generation that an execution of this name drives.
pub fn driven_by(name: &str) -> Option<(RunId, u32)> {
    let (run, generation) = name.rsplit_once('-')?;
    Some((run.parse().ok()?, generation.parse().ok()?))
}
