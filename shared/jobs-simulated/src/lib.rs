//! The simulated runtime: an agent that answers at once what its script says, for demos and tests.
//!
//! A simulated job is an inline call: [`SimulatedRuntime::start`] carries it out and returns its end, and nothing of it
//! is kept. So a simulated job is answered at least once. If the caller dies before it has recorded the answer, the job
//! is not known anywhere, and whoever takes over starts it again. The answer follows from the request alone, so it is
//! the same each time.

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use towpath_engine::{AgentAnswer, Artifact, Decision, JobId, Simulated};
use towpath_jobs::{
    Answer, JobRequest, JobSnapshot, JobStatus, LogPage, LogPosition, Runtime, StartError, Started,
    Unreadable, Work, error_class,
};

/// The runtime of kind `simulated`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimulatedRuntime;

/// The part of the work contract that an answer depends on.
#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    decisions: Vec<Decision>,
}

#[async_trait]
impl Runtime for SimulatedRuntime {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    fn is_inline(&self) -> bool {
        true
    }

    async fn start(&self, request: &JobRequest) -> Result<Started, StartError> {
        let Work::Simulated(script) = &request.work else {
            let why =
                "the runtime `simulated` answers what a script says, and cannot run a command";
            return Err(StartError::Refused(why.to_owned()));
        };
        let told = Told::deserialize(&request.context).map_err(|error| {
            StartError::Refused(format!("the work contract cannot be read: {error}"))
        })?;
        Ok(Started::Answered(Box::new(answer(
            script,
            &told.decisions,
        )?)))
    }

    /// Always `None`: nothing is kept.
    async fn status(&self, _job: &JobId) -> Result<Option<JobSnapshot>, Unreadable> {
        Ok(None)
    }

    /// Does nothing: a simulated job is over before anyone can stop it, and has no effects that a late start could
    /// repeat.
    async fn stop(&self, _job: &JobId, _grace: Duration) -> Result<(), Unreadable> {
        Ok(())
    }

    /// Its jobs ask nothing while they are under way.
    async fn answer(&self, _: &JobId, _: &str, _: &str) -> Result<(), Unreadable> {
        Ok(())
    }

    /// Always `None`: nothing is printed.
    async fn tail_logs(&self, _job: &JobId, _lines: usize) -> Result<Option<String>, Unreadable> {
        Ok(None)
    }

    async fn read_log(&self, _: &JobId, _: LogPosition) -> Result<Option<LogPage>, Unreadable> {
        Ok(None)
    }

    async fn read_artifact(&self, _: &Artifact) -> Result<Option<Vec<u8>>, Unreadable> {
        Ok(None)
    }
}

/// The end of a job with this script: its error, its question as long as no decision was made, or its output.
fn answer(script: &Simulated, decisions: &[Decision]) -> Result<JobSnapshot, StartError> {
    if let Some(error) = &script.fails {
        return Ok(JobSnapshot::ended_badly(error_class::AGENT_ERROR, error));
    }
    let mut chosen = decisions.iter().rev().map(|it| it.chosen.as_deref());
    let answer = match chosen.find_map(|chosen| chosen) {
        Some(chosen) => AgentAnswer {
            output: format!("{}\n\nDecided: {chosen}", script.output)
                .trim()
                .to_owned(),
            ..AgentAnswer::default()
        },
        None => AgentAnswer {
            output: script.output.clone(),
            decision: script.asks.clone(),
            ..AgentAnswer::default()
        },
    };
    let text = serde_json::to_string(&answer).map_err(|error| {
        StartError::Refused(format!("the answer cannot be written as JSON: {error}"))
    })?;
    Ok(JobSnapshot {
        answer: Some(Answer::File(text)),
        ..JobSnapshot::of(JobStatus::Terminated)
    })
}
