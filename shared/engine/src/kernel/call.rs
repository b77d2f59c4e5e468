//! Calls: work that something outside the engine does, answered at once or later, under an id of its own.
//!
//! An inline agent, a job and a gate's probe are all calls. The intent is on record before the call is made, so a call
//! that was made is never unknown; making it again is harmless, since its runtime knows it by its id.

use serde::{Deserialize, Serialize};

use crate::{CheckedAnswer, FailureKind, JobId, JobRef, Role, Timestamp, Usage};

/// A call that a step waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// The id of the call, and of the job that does it.
    pub id: JobId,
    /// The part that the call plays within its step.
    pub role: Role,
    /// The kind of the runtime that makes the call.
    pub runtime: String,
    /// The time at which the call's budget is spent.
    pub deadline: Timestamp,
    /// The reason the call has not started yet, if something keeps it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// A reason why a call has not started, and when to try again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The time of the next try.
    pub until: Timestamp,
    /// The number of tries so far.
    pub tries: u32,
    /// The reason, for people.
    pub why: String,
}

impl Call {
    /// The call's job and the runtime that has it.
    pub fn job_ref(&self) -> JobRef {
        JobRef {
            job: self.id.clone(),
            runtime: self.runtime.clone(),
        }
    }
}

/// The status of a call, as a look at it found.
#[derive(Clone, Debug, PartialEq)]
pub enum CallStatus {
    /// The call is under way, or about to be.
    Running,
    /// The call is under way, and goes on when a human has answered.
    Asks(CallQuestion),
    /// The call has ended.
    Ended(CallResult),
    /// The runtime could not say.
    Unreadable(String),
}

/// A question that a call asks while it is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallQuestion {
    /// The id of the question, by which its runtime knows it.
    pub id: String,
    /// The question, in words.
    pub question: String,
}

/// The end of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum CallResult {
    /// The work was done.
    Done(CheckedAnswer),
    /// The work failed, by its own doing.
    Failed(CallFailure),
    /// The work could not be done, through no fault of its own.
    Lost(Loss),
}

impl CallResult {
    /// What the call used, where that is known.
    pub fn usage(&self) -> Option<Usage> {
        match self {
            Self::Done(answer) => answer.usage(),
            Self::Failed(failure) => failure.usage,
            Self::Lost(loss) => loss.usage,
        }
    }
}

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFailure {
    /// The class of failure.
    pub kind: FailureKind,
    /// The failure in one sentence.
    pub message: String,
    /// More about the failure.
    pub detail: Option<String>,
    /// The exit code of the command, where one ran to its end.
    pub exit_code: Option<i32>,
    /// The end of what the command printed, in whole lines.
    pub printed: Option<String>,
    /// What the call used all the same, where that is known.
    pub usage: Option<Usage>,
}

impl CallFailure {
    /// A failure of which there is no more to say than this.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            detail: None,
            exit_code: None,
            printed: None,
            usage: None,
        }
    }
}

/// A call that was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The cause, by the runtime's own word.
    pub cause: LossCause,
    /// The loss in one sentence.
    pub message: String,
    /// What the call used all the same, where that is known.
    pub usage: Option<Usage>,
}

/// The causes for which a call can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossCause {
    /// The supervisor of the job is gone without a word.
    Crashed,
    /// The infrastructure took the job's place away and said so.
    Reclaimed,
    /// The call's time budget was spent.
    TimedOut,
    /// The job was ended by a signal or a request that is not the engine's.
    Killed,
    /// The working copy could not be made or pushed.
    Checkout,
    /// The job's status could not be read.
    Unreadable,
}
