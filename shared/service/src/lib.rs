//! What Towpath does: load, decide, commit the intent, do it, fold the answer in, commit.
//!
//! Each service is one use case over the ports it needs:
//!
//! | service | does | called by |
//! | --- | --- | --- |
//! | [`Driver`] | moves a run on until it waits or ends | the state machine, through `advance`, `poll-job`, `poll-gate` |
//! | [`Poll`] | looks at what a run waits for, and wakes it if there is something to say | the news of a job, the tick |
//! | [`Answers`] | takes what a human says | the API |
//! | [`Runs`] | starts, replaces, retries, restarts and stops runs | the API |
//! | [`Settler`] | gives a run whose driver died its next one | the state machine, the status of executions, the tick |
//! | [`Ticker`] | sees to what is due | the minute |
//! | [`Views`] | shows runs and outputs | the API |
//! | [`Doctor`] | holds records, executions and jobs against each other | an operator |
//! | [`Access`] | knows API keys | the API |
//! | [`Runners`] | tells jobs that run elsewhere what to do, and takes what they tell | the runners of jobs |
//! | [`AgentSecrets`] | keeps secrets for agents | the API, and the start of a job |
//!
//! `Outbox`, `Jobs` and `Stops` are what several of them share: what must follow a commit, the jobs of a step, and the
//! end of a run that is to be stopped. Every effect follows the commit that wants it: what must follow is in the commit
//! itself (the mailbox's `wake` and `drive_at`, a row for each job that must be gone), is done at once, and is done again
//! by the tick if it was not.

mod access;
mod answers;
mod app;
mod caller;
mod config;
mod contract;
mod create;
mod doctor;
mod driver;
mod error;
mod event;
mod gateway;
mod jobs;
mod logs;
mod outbox;
mod poll;
mod random;
mod remote;
mod runners;
mod runs;
mod secrets;
mod settler;
mod sockets;
mod stops;
mod ticker;
mod transition;
mod vault;
mod views;

pub use access::{Access, FirstKey};
pub use answers::{Answered, Answers};
pub use app::{App, Ports};
pub use caller::Caller;
pub use config::Config;
pub use doctor::{Doctor, Finding, JobSeen};
pub use driver::Driver;
pub use error::Error;
pub use event::{Entry, JobEvent, Settle, Token};
pub use gateway::{ModelGateway, ModelKey};
pub use logs::init_logs;
pub use poll::Poll;
pub use random::Random;
pub use runners::{Manifests, News, RunnerRefused, Runners, RunnersJob};
pub use runs::Runs;
pub use secrets::AgentSecrets;
pub use settler::Settler;
pub use stops::Stopped;
pub use ticker::{Ticked, Ticker};
pub use towpath_jobs_executor::{NoSockets, Refused as ExecutorRefused, Reply, Sockets};
pub use vault::Vault;
pub use views::Views;
