//! Logs: JSON lines on standard output.

use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Targets that may print task tokens, API keys or whole events where they speak of requests: however much is to be
/// logged, these log no more than at level `info`.
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
