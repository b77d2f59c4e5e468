//! Where jobs run.
//!
//! A [`Runtime`] is a place where work can be done: local process groups, a container service, the simulated agent.
//! The [`Registry`] holds the runtimes of a deployment by kind. A [`JobRequest`] says what a job is to do; it is built
//! from the pipeline's command and the [`Contract`], which holds everything that the job may know of its run. What
//! became of a job is a [`JobSnapshot`], and [`call_result`] turns the last one into what the engine understands.
//!
//! The tests that every runtime has to pass are in the module `testing`, behind the feature of that name.

mod contract;
mod events;
mod log;
mod manifest;
mod registry;
mod request;
mod result;
mod runtime;
mod snapshot;
#[cfg(feature = "testing")]
pub mod testing;
mod text;

pub use contract::*;
pub use events::*;
pub use log::*;
pub use manifest::*;
pub use registry::*;
pub use request::*;
pub use result::call_result;
pub use runtime::*;
pub use snapshot::*;
pub use text::last_lines;
pub use towpath_engine::{CallFailure, CallResult, Loss, LossCause};
