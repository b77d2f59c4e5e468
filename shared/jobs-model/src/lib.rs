//! The runtime `model`: a step is one call of a language model, at a gateway that speaks the OpenAI-compatible chat
//! completions API. For steps that need no tools.
//!
//! A model's job is an inline call: [`ModelRuntime::start`] makes it and returns its end, and nothing of it is kept. So a
//! model is called at least once: if the caller dies before it has recorded the answer, whoever takes over calls again.
//! What is counted as used is what recorded answers tell.

mod gateway;
mod prompt;
mod reply;
mod sse;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use towpath_auth::Secret;
use towpath_clock::Clock;
use towpath_engine::{AgentAnswer, Artifact, JobId, Model};
use towpath_jobs::{
    Answer, JobRequest, JobSnapshot, JobStatus, LogPage, LogPosition, Runtime, StartError, Started,
    Unreadable, Work, error_class,
};

pub use gateway::{Base, Connect, Connection, NotABase};

use gateway::Gateway;
use prompt::{ChatRequest, Told};
use reply::Reply;
use trouble::{Trouble, hide};

/// Knows the key of the gateway.
#[async_trait]
pub trait Keys: Send + Sync {
    /// The key. `None`: the gateway asks for none.
    ///
    /// # Errors
    /// If it cannot be read now.
    async fn key(&self) -> Result<Option<Secret>, Unreadable>;

    /// Notes that the gateway did not take the key: it is to be read again before the next call.
    async fn refused(&self);
}

/// A key that is known beforehand, or that there is no need for.
#[async_trait]
impl Keys for Option<Secret> {
    async fn key(&self) -> Result<Option<Secret>, Unreadable> {
        Ok(self.clone())
    }

    async fn refused(&self) {}
}

/// The runtime of kind `model`. Cheap to clone.
#[derive(Clone)]
pub struct ModelRuntime {
    gateway: Gateway,
    keys: Arc<dyn Keys>,
    whole: Duration,
}

/// The most tries of one call.
const TRIES: u32 = 6;
/// The longest time that the pauses between the tries of one call take together. A function that waits costs money, and a
/// run that rests does not: what needs longer is left to the run.
const PAUSES: Duration = Duration::from_secs(60);
/// The longest pause before the second try; it doubles with each try.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest pause that a gateway did not ask for.
const BACKOFF_MAX: Duration = Duration::from_secs(20);
/// The shortest key that is looked for in an answer. A shorter one may be a word.
const KEY_MIN: usize = 8;

impl ModelRuntime {
    /// A runtime that calls this gateway. A call with all its tries takes `whole` at most; what started it must live longer.
    pub fn new(base: Base, keys: Arc<dyn Keys>, whole: Duration, clock: Clock) -> Self {
        Self {
            gateway: Gateway::new(base, clock),
            keys,
            whole,
        }
    }

    /// The same runtime, over these connections instead of the network's.
    #[must_use]
    pub fn over(mut self, connect: Arc<dyn Connect>) -> Self {
        self.gateway.connect = connect;
        self
    }

    /// Calls the model until it answers, or there is no use or no time left for another try.
    async fn ask(&self, body: Bytes, key: Option<&Secret>, until: Instant) -> Asked {
        let mut paused = Duration::ZERO;
        for tries in 1.. {
            let called = timeout_at(until, self.gateway.call(body.clone(), key)).await;
            let trouble = match called {
                Err(_) => return Asked::OutOfTime,
                Ok(Ok(reply)) => return Asked::Answered(reply),
                Ok(Err(trouble)) => trouble.shown(key),
            };
            let Some(pause) = pause_before(tries, &trouble) else {
                return Asked::Troubled(trouble);
            };
            paused = paused.saturating_add(pause);
            if tries >= TRIES || paused > PAUSES || Instant::now() + pause >= until {
                return Asked::Troubled(trouble);
            }
            tracing::debug!(tries, ?pause, "a model is called again: {trouble:?}");
            tokio::time::sleep(pause).await;
        }
        Asked::OutOfTime
    }
}

/// The outcome of asking a model.
enum Asked {
    Answered(Reply),
    Troubled(Trouble),
    OutOfTime,
}

/// The pause before the try after this many, with full jitter: so long at least as the gateway wants. `None`: another try
/// would change nothing.
fn pause_before(tries: u32, trouble: &Trouble) -> Option<Duration> {
    let (Trouble::Busy { after, .. } | Trouble::Down { after, .. }) = trouble else {
        return None;
    };
    let most = BACKOFF.saturating_mul(1 << tries.saturating_sub(1).min(10));
    let most = u64::try_from(most.min(BACKOFF_MAX).as_millis()).unwrap_or(u64::MAX);
    let jittered = Duration::from_millis(fastrand::u64(0..=most));
    Some(after.unwrap_or_default().max(jittered))
}

#[async_trait]
impl Runtime for ModelRuntime {
    fn kind(&self) -> &'static str {
        "model"
    }

    fn is_inline(&self) -> bool {
        true
    }

    async fn start(&self, request: &JobRequest) -> Result<Started, StartError> {
        let Work::Model(model) = &request.work else {
            let why =
                "the runtime `model` calls a language model, and cannot do any other sort of work";
            return Err(StartError::Refused(why.to_owned()));
        };
        let until = Instant::now() + self.whole.min(request.max_run);
        let body = body(model, request)?;
        let key = timeout_at(until, self.keys.key()).await;
        let key = key.unwrap_or_else(|_| Err(Unreadable("no answer in time".to_owned())));
        let key = key.map_err(|Unreadable(why)| {
            StartError::Unavailable(format!(
                "the key of the model gateway cannot be read: {why}"
            ))
        })?;
        let end = match self.ask(body, key.as_ref(), until).await {
            Asked::Answered(reply) => answered(model, reply, key.as_ref())?,
            Asked::Troubled(Trouble::Busy { why, .. }) => return Err(StartError::NoRoom(why)),
            Asked::Troubled(Trouble::Down { why, .. }) => return Err(StartError::Unavailable(why)),
            Asked::Troubled(Trouble::Refused(why)) => {
                self.keys.refused().await;
                return Err(StartError::Refused(why));
            }
            Asked::Troubled(Trouble::Failed { why, usage }) => JobSnapshot {
                usage,
                ..JobSnapshot::ended_badly(error_class::AGENT_ERROR, why)
            },
            Asked::OutOfTime => self.out_of_time(request),
        };
        Ok(Started::Answered(Box::new(end)))
    }

    /// Always `None`: nothing is kept.
    async fn status(&self, _job: &JobId) -> Result<Option<JobSnapshot>, Unreadable> {
        Ok(None)
    }

    /// Does nothing: a call is over before anyone can stop it, and changes nothing that a late one could change again.
    async fn stop(&self, _job: &JobId, _grace: Duration) -> Result<(), Unreadable> {
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

impl ModelRuntime {
    /// The end of a call that took longer than it may, by the step's budget or by what a call may take here.
    fn out_of_time(&self, request: &JobRequest) -> JobSnapshot {
        let seconds = self.whole.min(request.max_run).as_secs();
        match request.max_run < self.whole {
            true => {
                let why = format!("the model did not end its answer within {seconds} s");
                JobSnapshot::ended_badly(error_class::TIMED_OUT, why)
            }
            false => {
                let why = format!(
                    "the model did not end its answer within the {seconds} s that a call may take; ask for less, limit \
                     `maxTokens`, or let a command call the model"
                );
                JobSnapshot::ended_badly(error_class::AGENT_ERROR, why)
            }
        }
    }
}

/// The body of the call that the request asks for.
fn body(model: &Model, request: &JobRequest) -> Result<Bytes, StartError> {
    let told = Told::deserialize(&request.context).map_err(|error| {
        StartError::Refused(format!("the work contract cannot be read: {error}"))
    })?;
    let message = told.message(model.prompt.as_deref(), &request.inputs);
    if message.is_empty() {
        let why = "the model has nothing to answer: give the step a `prompt`, or the block a title";
        return Err(StartError::Refused(why.to_owned()));
    }
    let json = serde_json::to_vec(&ChatRequest::new(model, &message));
    json.map(Bytes::from)
        .map_err(|error| StartError::Refused(format!("the call cannot be written: {error}")))
}

/// The end of a call that was answered.
fn answered(model: &Model, reply: Reply, key: Option<&Secret>) -> Result<JobSnapshot, StartError> {
    // A gateway that sends its own key back is broken, but the key is not to get into records by that.
    let key = key.filter(|key| key.expose().len() >= KEY_MIN);
    let fits = |name: &String| {
        !name.is_empty() && name.len() <= 256 && !name.contains(|it: char| it.is_control())
    };
    let answer = AgentAnswer {
        output: hide(&reply.text, key),
        model: Some(hide(
            &reply.model.filter(fits).unwrap_or(model.model.clone()),
            key,
        )),
        ..AgentAnswer::default()
    };
    // As an answer to the letter: the text may look like one, and is none.
    let text = serde_json::to_string(&answer).map_err(|error| {
        StartError::Refused(format!("the answer cannot be written as JSON: {error}"))
    })?;
    Ok(JobSnapshot {
        answer: Some(Answer::File(text)),
        usage: reply.usage,
        ..JobSnapshot::of(JobStatus::Terminated)
    })
}
