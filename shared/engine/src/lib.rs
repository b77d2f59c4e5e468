//! The engine: records, transitions and policies of a run.
//!
//! Pure: no input or output, no clock, no async. Given a run, what happened and the time, a transition returns what the
//! run became and the effects that are wanted; the shell makes it so.

mod ids;

pub use ids::*;
