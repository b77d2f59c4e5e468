//! `towpath runner`: what a build or container starts to carry out one job.
//!
//! It exchanges the job's start code for a token of its own making, asks what the job is to do, does that under the same
//! supervisor as a laptop does ([`ProcessRuntime`]), and tells what is printed and how it ended, as events. The end is
//! told again until it is taken. A runner that finds the job in another's hands, or over, ends without doing anything; one
//! that is killed takes all that it started with it, and what it was not able to tell, its runtime finds out.
//!
//! [`ProcessRuntime`]: towpath_jobs_process::ProcessRuntime

mod adapters;
mod api;
mod journal;
mod print;
mod run;
mod tell;
mod work;

use std::path::PathBuf;

use towpath_auth::Secret;
use towpath_engine::JobId;

pub use api::Ended;
pub use journal::write_durably;
pub use run::run;
pub use work::{Orders, WorkersJob};

/// What a runner is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The job to carry out: `TOWPATH_RUN_ID`.
    pub job: JobId,
    /// The address of the API: `TOWPATH_API_BASE`.
    pub api: String,
    /// The code by which the runner proves itself, once: `TOWPATH_START_CODE`.
    pub code: Secret,
    /// The name of what the runner runs in: `CODEBUILD_BUILD_ID`, or `TOWPATH_RUNNER_NAME`.
    pub name: String,
    /// The program that supervises the command: this one.
    pub supervisor: PathBuf,
}

impl Options {
    /// Reads the options by the names of their variables.
    ///
    /// # Errors
    /// If one is missing or makes no sense, in words for whoever reads the machine's log.
    pub fn from_lookup(
        lookup: impl Fn(&str) -> Option<String>,
        supervisor: PathBuf,
    ) -> Result<Self, String> {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let need = |name: &str| {
            let missing = || {
                format!(
                    "{name} is not set; Towpath sets it on the machines that it starts, and nothing else is to be run by hand"
                )
            };
            get(name).ok_or_else(missing)
        };
        let job = need("TOWPATH_RUN_ID")?;
        let job = job
            .parse()
            .map_err(|_| format!("TOWPATH_RUN_ID={job:?} is no job id"))?;
        let name = get("CODEBUILD_BUILD_ID").or_else(|| get("TOWPATH_RUNNER_NAME"));
        Ok(Self {
            job,
            api: need("TOWPATH_API_BASE")?,
            code: Secret::new(need("TOWPATH_START_CODE")?),
            name: name.unwrap_or_else(|| "runner".to_owned()),
            supervisor,
        })
    }
}
