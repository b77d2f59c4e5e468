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
mod call_end;
mod doctor;
mod drive;
mod error;
mod event;
mod first_key;
mod fold;
mod human;
mod intake;
mod look;
mod old_form;
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
/// say no more than at level `info`.
const DISCREET: [&str; 8] = [
    "aws_sdk_dynamodb",
    "aws_sdk_sfn",
    "aws_sigv4",
    "aws_smithy_http_client",
    "aws_smithy_runtime",
    "hyper",
    "hyper_util",
    "lambda_runtime",
];

/// Sets up logs: JSON lines, one per event, at the level of `RUST_LOG` (`info` when that is not set), by target if need
/// be: `warn,towpath_store=debug`; each with the run and the request it is about. Not with the filter that also knows
/// spans: it brings regular expressions along.
pub fn init_logs() {
    use tracing_subscriber::Layer;
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let wanted = std::env::var("RUST_LOG").ok();
    let targets = wanted.and_then(|text| text.parse::<Targets>().ok());
    let targets = targets.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let level = targets.default_level().unwrap_or(LevelFilter::OFF);
    let discreet = DISCREET.map(|target| (target, level.min(LevelFilter::INFO)));
    let targets = targets.with_targets(discreet);
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true);
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(targets));
    // A second call changes nothing: the first one's set-up stays.
    let _ = subscriber.try_init();
}
