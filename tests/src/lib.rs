//! End-to-end and simulation tests: what they share.
//!
//! A [`World`] is Towpath on the local cloud in memory, with a clock that only moves when the world waits for
//! something: a day passes in a moment, and nothing depends on how fast the machine is. The tests themselves are in
//! `tests/tests`, by topic.

mod asking;
pub mod executors;
pub mod gateway;
mod judge;
pub mod killed;
mod rows;
pub mod sockets;
pub mod steps_of_death;
pub mod story;
mod traces;
mod waiting;
pub mod watch;
pub mod workers;
mod world;

pub use asking::{Answer, ask};
pub use rows::Rows;
pub use traces::start_by_hand;
pub use world::{World, Worlds, pipeline};
