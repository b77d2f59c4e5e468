//! The local cloud: what `infra/template.yaml` describes, in one process on loopback, for development and tests.
//!
//! The local cloud is strict rather than complete: it refuses by name what it does not know, and checks every call against
//! the policies in the template. Production is AWS.

mod account;
mod aws;
mod cloud;
mod codebuild;
mod data;
mod dynamodb;
mod error;
mod events;
mod http;
mod iam;
mod lambda;
mod loopback;
mod pattern;
mod random;
mod s3;
mod secrets;
mod signature;
mod socket;
mod states;
mod tasks;
mod template;

pub use cloud::{Cloud, Counts, EventBus, Options};
pub use codebuild::BuildWeather;
pub use error::Error;
pub use iam::{StatementInfo, StatementUse};
pub use lambda::{Duplicates, Factory, Function, Functions};
pub use towpath_stepfunctions::InvokeError;
