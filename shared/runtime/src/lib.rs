//! What runs agents.
//!
//! Two interfaces, one above the other. An [`AgentRuntime`] takes a work contract and answers with what the agent
//! made of it; the engine's shell knows only this one. A [`Substrate`] is somewhere a command can run: a local process
//! group, a container. [`JobRuntime`] is the agent runtime for whatever has a substrate.
//!
//! Neither has default bodies: an adapter that forgets a member does not compile.

mod agent;
mod substrate;

pub use agent::*;
pub use substrate::*;
