//! Calls: how the work of a job ended, as the engine understands it.

use towpath_engine::{AgentAnswer, FailureKind};

/// What became of a call, once it is over.
#[derive(Clone, Debug, PartialEq)]
pub enum CallResult {
    /// The call ended well, with this answer.
    Done(AgentAnswer),
    /// The call was carried out and ended badly, or could not be carried out at all. Doing it again gives the same.
    Failed(CallFailure),
    /// The call was taken away from outside before it could end. Doing it again may end well.
    Lost(Loss),
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFailure {
    /// The class of the failure.
    pub kind: FailureKind,
    /// One sentence for people.
    pub message: String,
    /// More about the failure, in words of the command or of the runtime.
    pub detail: Option<String>,
    /// The exit code of the command, where one ran to its end.
    pub exit_code: Option<i32>,
    /// The end of what the command printed: whole lines, several KB at most.
    pub printed: Option<String>,
}

/// A call that was taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The sort of loss.
    pub cause: LossCause,
    /// One sentence for people.
    pub message: String,
}

/// What took a call away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// The process or machine that ran the call died without a word.
    Crashed,
    /// The infrastructure took the machine back, and announced it.
    Reclaimed,
    /// The call ran longer than it may.
    TimedOut,
    /// The call was ended by a signal that the engine did not send, or stopped from outside.
    Killed,
    /// The working copy could not be made, for example because the repository did not answer.
    Checkout,
}
