//! The engine: records, transitions and policies of a run.
//!
//! Pure: no input or output, no clock, no async. Given a run, what happened and the time, a transition turns the run
//! into what it became and says what else is wanted; the shell around it makes that durable, and then visible.
//!
//! - [`Pipeline`] and [`Plan`]: what a run does.
//! - [`Head`] and [`Step`]: where it stands.
//! - [`Wait`]: what it waits for, and who may end that.
//! - [`races`]: what can happen to a run at the same time, and what holds it.
//! - The transitions, each on a [`Run`]: [`advance`], [`record`], [`poll_job`], [`poll_gate`], [`answer`], [`fail`],
//!   [`stop`], [`start`], [`retry`], [`restart`], [`driver_died`].

mod block;
mod ids;
mod outcome;
mod pipeline;
pub mod races;
mod run;
mod step;
mod time;
mod transitions;
mod wait;

pub use block::*;
pub use ids::*;
pub use outcome::*;
pub use pipeline::*;
pub use run::*;
pub use step::*;
pub use time::*;
pub use transitions::*;
pub use wait::*;
