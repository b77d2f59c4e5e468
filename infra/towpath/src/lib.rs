//! The `towpath` command, as a library: Towpath on the local cloud, its client and its terminal.

pub mod bill;
pub mod cli;
pub mod demo;
pub mod dev;
pub mod doctor;
mod functions;
pub mod pipeline_file;
pub mod remote;
pub mod sample;
mod screen;
mod signals;
pub mod standing;
mod summary;
mod visible;
