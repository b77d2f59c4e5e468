//! The interpreter: a functional core. A [`Turn`] takes an execution, something that happened and the time, and leaves
//! the execution changed, the history events to write and the effects wanted. It does no I/O and never waits.

mod history;
mod scope;
mod task;
mod turn;

pub(crate) use history::HistoryEvent;
pub(crate) use task::{Answer, TokenUse};
pub(crate) use turn::{Effect, MAX_PAYLOAD, Surroundings, Turn};
