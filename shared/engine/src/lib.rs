//! The engine: records, phases, transitions and policies of a run, for any kind of step.
//!
//! Pure: no input or output, no clock, no async. Given a run, what happened and the time, a transition turns the run
//! into what it became and says what else is wanted; the service around it makes that durable, and then visible.
//!
//! - `kernel`: the records ([`Head`], [`Step`], [`Wait`]), the phases and events, and the transitions, each on a [`Run`]:
//!   [`advance`], [`poll`], [`due`], [`answer()`], [`fail`], [`stop`], [`start`], [`retry`], [`restart`], [`driver_died`].
//!   It knows no kind of step.
//! - [`kinds`]: what each kind of step does on each event. One file and one line each.
//! - `resolvers`: what the end of a step does to the run's block.
//! - [`policy`]: rules of numbers and times.
//! - `board`: blocks and their status.
//! - [`Pipeline`] and [`Plan`]: the definition of what a run does.

mod board;
mod command;
mod env;
mod fields;
mod kernel;
pub mod kinds;
mod model;
mod pipeline;
pub mod policy;
pub mod races;
mod resolvers;

pub use board::*;
pub use command::*;
pub use env::EnvValue;
pub use kernel::*;
pub use kinds::{ANY_RUNTIME, Context, Findings, Instructions, Kind, Work};
pub use model::*;
pub use pipeline::*;
