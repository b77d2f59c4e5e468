//! The imperative shell: load, decide, commit the intent, do it, fold the answer in, commit.
//!
//! [`App::drive`] is what the three actions of the state machine do, [`App::look`] what happens when a job or a gate
//! has something to say or the minute tick comes by, [`App::settle`] what happens when a driver dies, and the rest is
//! what people ask for: [`App::start_run`], [`App::answer`], [`App::stop_run`], [`App::retry_run`],
//! [`App::restart_run`].
//!
//! Every effect follows the commit that wants it: what must follow is in the commit itself (the mailbox's `wake` and
//! `drive`, a row for each job to be stopped), is done at once, and is done again by the tick if it was not.

mod app;
mod doctor;
mod drive;
mod error;
mod event;
mod first_key;
mod fold;
mod human;
mod intake;
mod look;
mod outbox;
mod settle;
mod simulated;
mod tick;
mod view;
mod work;

pub use app::{App, Config};
pub use doctor::{Finding, JobSeen};
pub use error::Error;
pub use event::{Entry, JobEvent, Settle, Token};
pub use human::Answered;
pub use intake::Caller;
pub use tick::Ticked;

/// What may hold task tokens, API keys or whole events where it talks of requests: however much is to be said, these
/// say no more than this.
const DISCREET: [&str; 8] = [
    "aws_sdk_dynamodb=info",
    "aws_sdk_sfn=info",
    "aws_sigv4=info",
    "aws_smithy_http_client=info",
    "aws_smithy_runtime=info",
    "hyper=info",
    "hyper_util=info",
    "lambda_runtime=info",
];

/// Sets up logs: JSON lines, one per event, at the level of `RUST_LOG` (`info` when that is not set), each with the run
/// and the request it is about.
pub fn init_logs() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let discreet = DISCREET
        .iter()
        .filter_map(|directive| directive.parse().ok());
    let filter = discreet.fold(filter, EnvFilter::add_directive);
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter);
    // A second call changes nothing: the first one's set-up stays.
    let _ = subscriber.try_init();
}
