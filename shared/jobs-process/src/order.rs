//! What a caller and a supervisor say to each other: the request through the supervisor's standard input, never written
//! down and never printed, and one line in answer.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use towpath_engine::JobId;
use towpath_jobs::{Checkout, CommandWork, JobRequest};

/// The supervisor's answer when it has accepted the job: from then on the job is known, whatever happens.
pub(crate) const TAKEN: &str = "taken";
/// The supervisor's answer when the job was accepted, or ended, before.
pub(crate) const KNOWN: &str = "known";

/// A job request in the form that crosses the pipe.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Order {
    pub(crate) job: JobId,
    pub(crate) command: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) context: serde_json::Value,
    pub(crate) checkout: Option<Checkout>,
    pub(crate) max_run: Duration,
    pub(crate) grace: Duration,
}

impl Order {
    pub(crate) fn new(request: &JobRequest, work: &CommandWork) -> Self {
        Self {
            job: request.job.clone(),
            command: work.command.clone(),
            env: work.env.clone(),
            context: request.context.clone(),
            checkout: work.checkout.clone(),
            max_run: request.max_run,
            grace: request.grace,
        }
    }
}

/// The part of this process's environment that a command gets to see, beneath its own.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "TMPDIR", "USER"];

/// The inherited part of a command's environment, and the variables named in `more`.
pub(crate) fn inherited(more: &[&str]) -> BTreeMap<String, String> {
    let names = INHERITED.iter().chain(more);
    names
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect()
}
