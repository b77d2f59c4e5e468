//! What runs jobs.
//!
//! A [`Substrate`] is somewhere a command can run: a local process group, a container. [`Substrates`] hands a
//! [`Contract`] (what a job is to do, and everything it may know) to the substrate that the pipeline binds it to, and
//! turns what became of the job into what the engine understands.

mod contract;
mod substrate;
mod substrates;

pub use contract::*;
pub use substrate::*;
pub use substrates::*;
