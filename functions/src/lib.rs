//! The handlers of the Lambda functions: each turns an event into one call of a service.
//!
//! A binary of `src/bin` wires one handler to the Lambda runtime; the local cloud calls the same handlers in process.

pub mod advance;
pub mod executor_socket;
pub mod poll_gate;
pub mod poll_job;
pub mod settle;
pub mod tick;

/// `admin`: definitions, API keys and secrets, over HTTP.
pub use towpath_http::admin;
/// `resolve-decision`: every answer of a human, over HTTP.
pub use towpath_http::answers as resolve_decision;
/// `events`: the events of runs, streamed over HTTP.
pub use towpath_http::events;
/// `executors`: executors and their missions, over HTTP.
pub use towpath_http::executors;
/// `poll`: the polls of executors, over HTTP.
pub use towpath_http::poll;
/// `api`: definitions and runs, over HTTP.
pub use towpath_http::router as api;
/// `runner`: what the runners of jobs ask for and tell, over HTTP.
pub use towpath_http::runner;
