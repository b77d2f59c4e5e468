//! A small Step Functions: the part of AWS's that Towpath's machine uses, strict and durable.
//!
//! A definition is read strictly ([`Definition::parse`]): what AWS would refuse, or what is not supported here, is an
//! error with its path, never a surprise later. A pure interpreter turns an execution, an event and the time into the
//! new execution, its history and the effects wanted; a driver writes that in one transaction and only then performs the
//! effects; the AWS JSON 1.0 API stands in front, so that real SDK clients talk to it.

mod api;
mod arn;
mod definition;
mod document;
mod drive;
mod error;
mod execution;
mod failure;
mod interpreter;
mod jsonata;
mod listener;
mod mend;
mod options;
mod service;
mod store;
mod template;
#[cfg(test)]
mod tests;
mod time;
mod token;

pub use definition::{Definition, DefinitionError};
pub use document::Problem;
pub use error::Error;
pub use listener::{Invoke, InvokeError, StatusChange, StatusListener};
pub use options::Options;
pub use service::StepFunctions;
pub use store::Counts;
