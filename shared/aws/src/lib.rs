//! The AWS clients that every function is given: one way to configure them, a hook for instruments, and what an error
//! means.

mod account;
mod bucket;
mod clients;
mod codebuild;
mod connections;
mod ecs;
mod event_bus;
mod instrument;
mod json;
mod secrets;
mod settings;
mod trouble;
mod web;

pub use account::{Account, AccountError, Identity, Quota};
pub use bucket::{Bucket, Presigned, Refused};
pub use clients::Clients;
pub use codebuild::{Build, BuildStatus, CodeBuild, CodeBuildError, FailedPhase, StartBuild};
pub use connections::{Connections, ConnectionsError, Posted};
pub use ecs::{Ecs, EcsError, RunTask, Task, TaskContainer, TaskDefinition};
pub use event_bus::EventBus;
pub use instrument::Instrument;
pub use secrets::Secrets;
pub use settings::{Credentials, Error, Settings};
pub use trouble::{Reason, Trouble, cancellation, classify};
pub use web::{NoAnswer, Web, WebAnswer};
