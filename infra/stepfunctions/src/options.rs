//! What a Step Functions needs from its surroundings.

use std::path::PathBuf;
use std::sync::Arc;

use towpath_clock::Clock;

use crate::listener::{Invoke, StatusListener};

/// The settings and surroundings of a [`StepFunctions`](crate::StepFunctions).
pub struct Options {
    /// The SQLite file that everything is kept in, made for its owner only; `None` keeps everything in memory.
    pub file: Option<PathBuf>,
    /// The only source of time.
    pub clock: Clock,
    /// The caller of functions.
    pub invoker: Arc<dyn Invoke>,
    /// The listener that hears of changed statuses.
    pub listener: Arc<dyn StatusListener>,
    /// The AWS region in ARNs, such as `us-east-1`.
    pub region: String,
    /// The AWS account in ARNs: 12 digits.
    pub account: String,
}
