//! What a caller and a supervisor say to each other: the request through the supervisor's standard input, never written
//! down and never printed, and one line in answer.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use towpath_engine::JobId;
use towpath_jobs::{Checkout, CommandWork, InputFile, JobRequest};

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
    /// What must not be kept.
    pub(crate) secrets: Vec<String>,
    pub(crate) context: serde_json::Value,
    pub(crate) inputs: Vec<InputFile>,
    pub(crate) checkout: Option<Checkout>,
    pub(crate) max_run: Duration,
    pub(crate) grace: Duration,
}

impl Order {
    pub(crate) fn new(request: &JobRequest, work: &CommandWork) -> Self {
        let secrets = work.secrets.iter();
        Self {
            job: request.job.clone(),
            command: work.command.clone(),
            env: work.env.clone(),
            secrets: secrets.map(|it| it.expose().to_owned()).collect(),
            context: request.context.clone(),
            inputs: request.inputs.clone(),
            checkout: work.checkout.clone(),
            max_run: request.max_run,
            grace: request.grace,
        }
    }
}

/// The part of this process's environment that a command gets to see, beneath its own: what any program needs to find
/// others, its user, and the way out of this network.
const INHERITED: [&str; 17] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "TZ",
    "USER",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// What git needs, too, to log in as the user would.
pub(crate) const OF_GIT: [&str; 2] = ["SSH_AUTH_SOCK", "XDG_CONFIG_HOME"];

/// The part of this process's environment that a supervisor gets to see: whoever looks at it finds no secrets there.
pub(crate) const OF_SUPERVISORS: [&str; 2] = OF_GIT;

/// The inherited part of a command's environment, and the variables named in `more`.
pub(crate) fn inherited(more: &[&str]) -> BTreeMap<String, String> {
    let names = INHERITED.iter().chain(more);
    names
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect()
}
