//! The runtime `model`: a step is one call of a language model, at a gateway that speaks the OpenAI-compatible chat
//! completions API. For steps that need no tools.
//!
//! A model's job is an inline call: [`ModelRuntime::start`] makes it and returns its end. The gateway knows nothing of job
//! ids, so a call is lost if its function dies, and the next function makes another: each such call may cost. Two things bound
//! that. An end is kept with the record of its job before it is returned, and who starts the job again is given it. And
//! calls are counted before they are made: when [`CALLS_MAX`] of one job may have cost something and none was answered,
//! the job fails.

mod gateway;
mod heard;
mod journal;
mod prompt;
mod reply;
mod sse;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};
use towpath_auth::Secret;
use towpath_clock::Clock;
use towpath_engine::{AgentAnswer, Artifact, JobId, Model, Timestamp, Usage};
use towpath_jobs::{
    Answer, JobRequest, JobSnapshot, JobStatus, LogPage, LogPosition, Runtime, StartError, Started,
    Unreadable, Work, error_class,
};
use towpath_store::{Error as StoreError, JobRecords, JobStop};

pub use gateway::{Base, Connect, Connection, NotABase};

use gateway::Gateway;
use heard::Heard;
use journal::Journal;
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
    jobs: JobRecords,
    whole: Duration,
    clock: Clock,
}

/// The most calls of one job that may have cost something: those that were lost with their caller, or by the gateway after
/// it had taken them.
pub const CALLS_MAX: u32 = 3;
/// The interval at which is told what was heard of a call, and looked whether its job is to stop.
const LOOK: Duration = Duration::from_secs(5);

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
    pub fn new(
        base: Base,
        keys: Arc<dyn Keys>,
        jobs: JobRecords,
        whole: Duration,
        clock: Clock,
    ) -> Self {
        Self {
            gateway: Gateway::new(base, clock.clone()),
            keys,
            jobs,
            whole,
            clock,
        }
    }

    /// The same runtime, over these connections instead of the network's.
    #[must_use]
    pub fn over(mut self, connect: Arc<dyn Connect>) -> Self {
        self.gateway.connect = connect;
        self
    }

    /// Calls the model until it answers, or there is no use or no time left for another try.
    async fn ask(&self, call: &Call<'_>, heard: &Heard, journal: &mut Journal<'_>) -> Asked {
        let mut asked = Asked {
            unmetered: 0,
            lost: false,
            end: End::OutOfTime,
        };
        let mut paused = Duration::ZERO;
        for tries in 1.. {
            heard.clear();
            let trouble = match self.hear(call, heard, journal).await {
                Heeded::Replied(Ok(reply)) => {
                    asked.unmetered += u64::from(reply.usage.is_none());
                    asked.end = End::Answered(reply);
                    return asked;
                }
                Heeded::Replied(Err(trouble)) => trouble.shown(call.key, &call.asked),
                Heeded::Stopped => {
                    asked.unmetered += u64::from(heard.was_taken());
                    asked.end = End::Stopped;
                    return asked;
                }
                Heeded::OutOfTime => {
                    asked.unmetered += u64::from(heard.was_taken());
                    asked.end = End::OutOfTime;
                    return asked;
                }
            };
            asked.lost = heard.was_taken() && trouble.may_have_cost();
            asked.unmetered += u64::from(asked.lost);
            let (pause, why) = (pause_before(tries, &trouble), trouble.why().to_owned());
            asked.end = End::Troubled(trouble);
            let Some(pause) = pause else {
                return asked;
            };
            if asked.lost && journal.calls() >= CALLS_MAX {
                asked.end = End::Lost(why);
                return asked;
            }
            paused = paused.saturating_add(pause);
            if tries >= TRIES || paused > PAUSES || Instant::now() + pause >= call.until {
                return asked;
            }
            tracing::debug!(tries, ?pause, "a model is called again");
            journal.forget(&why).await;
            tokio::time::sleep(pause).await;
            if asked.lost && !journal.count().await {
                return asked;
            }
            asked.lost = false;
        }
        asked
    }

    /// One try, whose answer is told as it comes.
    async fn hear(&self, call: &Call<'_>, heard: &Heard, journal: &mut Journal<'_>) -> Heeded {
        let reply = self.gateway.call(call.body.clone(), call.key, heard);
        let reply = timeout_at(call.until, reply);
        tokio::pin!(reply);
        let mut looks = interval_at(Instant::now() + LOOK, LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                replied = &mut reply => return match replied {
                    Ok(replied) => Heeded::Replied(replied),
                    Err(_) => Heeded::OutOfTime,
                },
                _ = looks.tick() => if !journal.goes_on(heard).await {
                    return Heeded::Stopped;
                },
            }
        }
    }
}

/// A call as it is made, however often it is tried.
struct Call<'a> {
    body: Bytes,
    /// The prompt of the call. It must not appear in logs or errors.
    asked: String,
    key: Option<&'a Secret>,
    until: Instant,
}

/// The outcome of asking a model.
struct Asked {
    /// The number of tries that may have cost something and did not say what.
    unmetered: u64,
    /// Whether the last try is one of those.
    lost: bool,
    end: End,
}

enum End {
    Answered(Reply),
    Troubled(Trouble),
    /// The answer was lost too often, for this reason the last time.
    Lost(String),
    Stopped,
    OutOfTime,
}

/// The outcome of one try.
enum Heeded {
    Replied(Result<Reply, Trouble>),
    Stopped,
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
        let asked = message(model, request)?;
        let body = body(model, &asked)?;
        let key = timeout_at(until, self.keys.key()).await;
        let key = key.unwrap_or_else(|_| Err(Unreadable("no answer in time".to_owned())));
        let key = key.map_err(|Unreadable(why)| {
            StartError::Unavailable(format!(
                "the key of the model gateway cannot be read: {why}"
            ))
        })?;
        let record = self.jobs.begin_call(request).await.map_err(unavailable)?;
        if let Some(end) = self.jobs.ended(&record).await.map_err(unavailable)? {
            return Ok(Started::Answered(Box::new(end)));
        }
        if record.stop.is_some() {
            return Ok(Started::Answered(Box::new(stopped())));
        }
        let begun = record.calls.unwrap_or(1);
        // A short key may be a word, which is no secret.
        let hidden = key.as_ref().filter(|key| key.expose().len() >= KEY_MIN);
        let mut journal = Journal::new(&self.jobs, record, &self.clock, hidden);
        let heard = Heard::default();
        let end = if begun > CALLS_MAX {
            metered(lost("what called it ended"), CALLS_MAX.into())
        } else {
            journal.begun(&model.model).await;
            let call = Call {
                body,
                asked: asked + model.system.as_deref().unwrap_or_default(),
                key: key.as_ref(),
                until,
            };
            let asked = self.ask(&call, &heard, &mut journal).await;
            // Those that were begun before brought nothing.
            let unmetered = asked.unmetered.saturating_add((begun - 1).into());
            match self.end(model, request, asked.end, hidden).await {
                Ok(end) => metered(end, unmetered),
                Err(error) => {
                    journal.give_up(&error.to_string(), asked.lost).await;
                    return Err(error);
                }
            }
        };
        journal.conclude(&heard, &end).await;
        Ok(Started::Answered(Box::new(end)))
    }

    /// Always `None`: a call is over when its start returns, and a start is how its end is asked for.
    async fn status(&self, _job: &JobId) -> Result<Option<JobSnapshot>, Unreadable> {
        Ok(None)
    }

    /// Writes the stop down: no call of the job is begun any more, and one that is under way ends within seconds.
    async fn stop(&self, job: &JobId, grace: Duration) -> Result<(), Unreadable> {
        let stop = JobStop {
            at: Timestamp(self.clock.now_ms()),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        };
        let asked = self.jobs.ask_stop(job, &stop).await;
        asked.map(|_| ()).map_err(unreadable)
    }

    /// Its jobs ask nothing while they are under way.
    async fn answer(&self, _: &JobId, _: &str, _: &str) -> Result<(), Unreadable> {
        Ok(())
    }

    async fn tail_logs(&self, job: &JobId, lines: usize) -> Result<Option<String>, Unreadable> {
        self.jobs.log_tail(job, lines).await.map_err(unreadable)
    }

    async fn read_log(
        &self,
        job: &JobId,
        after: LogPosition,
    ) -> Result<Option<LogPage>, Unreadable> {
        let log = self.jobs.log(job, after).await.map_err(unreadable)?;
        Ok(log.map(|(page, _)| page))
    }

    async fn read_artifact(&self, _: &Artifact) -> Result<Option<Vec<u8>>, Unreadable> {
        Ok(None)
    }
}

impl ModelRuntime {
    /// The end of a job whose call came to this, or why it is to be started again.
    async fn end(
        &self,
        model: &Model,
        request: &JobRequest,
        end: End,
        key: Option<&Secret>,
    ) -> Result<JobSnapshot, StartError> {
        Ok(match end {
            End::Answered(reply) => answered(model, reply, key)?,
            End::Troubled(Trouble::Busy { why, after } | Trouble::Down { why, after })
                if after.is_some_and(|after| after > BACKOFF_MAX) =>
            {
                return Err(StartError::Later {
                    why,
                    after: after.unwrap_or_default(),
                });
            }
            End::Troubled(Trouble::Busy { why, .. }) => return Err(StartError::NoRoom(why)),
            End::Troubled(Trouble::Down { why, .. }) => return Err(StartError::Unavailable(why)),
            End::Troubled(Trouble::Refused(why)) => {
                self.keys.refused().await;
                return Err(StartError::Refused(why));
            }
            End::Troubled(Trouble::Failed { why, usage }) => JobSnapshot {
                usage,
                ..JobSnapshot::ended_badly(error_class::AGENT_ERROR, why)
            },
            End::Lost(why) => lost(&why),
            End::Stopped => stopped(),
            End::OutOfTime => self.out_of_time(request),
        })
    }

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

/// The end of a job whose answer was lost each time, for this reason the last time.
fn lost(why: &str) -> JobSnapshot {
    let why = format!(
        "the answer of the model was lost {CALLS_MAX} times, the last time because {why}; since each of these calls may have \
         cost something, it is not called again by itself: retry the run to call it anew"
    );
    JobSnapshot::ended_badly(error_class::AGENT_ERROR, why)
}

/// The end of a job that was asked to stop.
fn stopped() -> JobSnapshot {
    JobSnapshot::ended_badly(
        error_class::STOPPED,
        "the model's call was stopped on request",
    )
}

/// The end of a job, with the number of its calls of which it is not known what they used.
fn metered(end: JobSnapshot, unmetered: u64) -> JobSnapshot {
    let none = unmetered == 0 && end.usage.is_none();
    let usage = (!none).then(|| Usage {
        unmetered_calls: unmetered,
        ..end.usage.unwrap_or_default()
    });
    JobSnapshot { usage, ..end }
}

fn unavailable(error: StoreError) -> StartError {
    StartError::Unavailable(error.to_string())
}

fn unreadable(error: StoreError) -> Unreadable {
    Unreadable(error.to_string())
}

/// The user's message of the call that the request asks for.
fn message(model: &Model, request: &JobRequest) -> Result<String, StartError> {
    let told = Told::deserialize(&request.context).map_err(|error| {
        StartError::Refused(format!("the work contract cannot be read: {error}"))
    })?;
    let message = told.message(model.prompt.as_deref(), &request.inputs);
    if message.is_empty() {
        let why = "the model has nothing to answer: give the step a `prompt`, or the block a title";
        return Err(StartError::Refused(why.to_owned()));
    }
    Ok(message)
}

/// The body of a call with this message.
fn body(model: &Model, message: &str) -> Result<Bytes, StartError> {
    let json = serde_json::to_vec(&ChatRequest::new(model, message));
    json.map(Bytes::from)
        .map_err(|error| StartError::Refused(format!("the call cannot be written: {error}")))
}

/// The end of a call that was answered.
fn answered(model: &Model, reply: Reply, key: Option<&Secret>) -> Result<JobSnapshot, StartError> {
    // A gateway that sends its own key back is broken, but the key is not to get into records by that.
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
