//! What a caller hands to a supervisor, through its standard input. Never written down, never printed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use towpath_engine::JobId;
use towpath_runtime::{Checkout, JobSpec};

/// A job specification in the form that crosses the pipe.
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

impl From<&JobSpec> for Order {
    fn from(spec: &JobSpec) -> Self {
        Self {
            job: spec.job.clone(),
            command: spec.command.clone(),
            env: spec.env.clone(),
            context: spec.context.clone(),
            checkout: spec.checkout.clone(),
            max_run: spec.max_run,
            grace: spec.grace,
        }
    }
}

/// The part of this process's environment that a command gets to see, before its own.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "TMPDIR", "USER"];

/// The inherited part of a command's environment, and `more` names from the same place.
pub(crate) fn inherited(more: &[&str]) -> BTreeMap<String, String> {
    let names = INHERITED.iter().chain(more);
    names
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect()
}
