//! The closed vocabulary of the kernel: the phases of a step, the events that reach its kind, the actions a kind can
//! take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Answer, Call, CallResult, CheckedAnswer, FailureKind, Question, Revision, Role, StepIndex,
    Timestamp,
};

/// What a step is at. What the run waits for, what must be reaped and what clients see follow from it alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "is",
    rename_all = "snake_case",
    try_from = "super::flat::FlatPhase"
)]
pub enum Phase {
    /// Nothing yet.
    Pending,
    /// A call is under way, or about to start.
    Calling(Call),
    /// The step rests until a time.
    Resting(Rest),
    /// A human is asked.
    Asking(Asked),
    /// The step is over.
    Done,
}

impl Phase {
    /// The phase in one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Calling(_) => "calling",
            Self::Resting(_) => "resting",
            Self::Asking(_) => "asking",
            Self::Done => "done",
        }
    }
}

/// A rest of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rest {
    /// The time the rest began.
    pub since: Timestamp,
    /// The time the rest ends.
    pub until: Timestamp,
    /// The reason, for people.
    pub why: String,
}

/// A question to a human that has no answer yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// The id that the answer names: a decision's, an approval's or a start's.
    pub subject: String,
    /// The subject of the question.
    pub about: About,
    /// The time the question was asked.
    pub since: Timestamp,
    /// The call that asks, where it goes on with the answer. Absent where the answer leads to another call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
}

/// The subject of a question to a human.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// A question of the step's agent: answered with a choice.
    Decision,
    /// The step's result: approved, sent back or rejected.
    Approval,
    /// Whether the run may begin at all: approved or rejected.
    Start,
}

/// An event that reaches a step's kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// Work on the step begins, for the first time or in another round.
    Begin,
    /// A call of this role ended.
    Called(Role, &'a CallResult),
    /// The rest is over.
    Due,
    /// A human answered the step's question.
    Answered(&'a Answer),
}

/// An action that a kind takes on an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Makes a call in this role, within a time budget. The kind names the work in [`Kind::work`](crate::Kind::work).
    Call {
        /// The part that the call plays.
        role: Role,
        /// The time at which the call's budget is spent.
        deadline: Timestamp,
    },
    /// Rests.
    Rest {
        /// The length of the rest.
        pause: Duration,
        /// The reason, for people.
        why: String,
    },
    /// Asks a human. The answer reaches the kind as [`Event::Answered`].
    Ask(Question),
    /// Ends the step with this result; a human approves it first where the step says so.
    Finish(CheckedAnswer),
    /// Leaves the step out.
    Skip {
        /// The reason, for people.
        why: String,
    },
    /// Sends an earlier step back to work; everything from there on is done again.
    GoBack {
        /// The step to go back to.
        to: StepIndex,
        /// The changes that the earlier step is to make.
        revision: Option<Revision>,
    },
    /// Fails the run.
    Fail {
        /// The class of failure.
        kind: FailureKind,
        /// The failure in one sentence.
        message: String,
        /// More about the failure.
        detail: Option<String>,
    },
}
