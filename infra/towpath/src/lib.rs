//! The `towpath` command, as a library: the client of a deployment, the runner of a job, and, with the feature `local`,
//! Towpath on the local cloud and what deploys it.

pub mod cli;
pub mod executors_check;
pub mod pipeline_file;
pub mod remote;
mod signals;
mod visible;
mod worker;

#[cfg(feature = "local")]
mod ask;
#[cfg(feature = "local")]
pub mod bill;
#[cfg(feature = "local")]
pub mod demo;
#[cfg(feature = "local")]
mod demo_worker;
#[cfg(feature = "local")]
pub mod deploy;
#[cfg(feature = "local")]
pub mod dev;
#[cfg(feature = "local")]
pub mod doctor;
#[cfg(feature = "local")]
pub mod functions;
#[cfg(feature = "local")]
pub mod sample;
#[cfg(feature = "local")]
mod screen;
#[cfg(feature = "local")]
pub mod standing;
#[cfg(feature = "local")]
mod summary;
