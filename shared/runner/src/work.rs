//! The jobs of a worker: a machine that is there before and after them, and goes on with them when it is restarted.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use towpath_auth::Secret;
use towpath_jobs::JobSnapshot;

use crate::Options;
use crate::api::{Api, Ended, new_token};
use crate::journal::{Journal, write_durably};
use crate::run::OnMachine;

/// What is asked of a job while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orders {
    /// It is to go on.
    Run,
    /// It is to stand still.
    Pause,
    /// It is to end, by force after this time.
    Stop(Duration),
}

/// A job of a worker.
#[derive(Clone, Debug)]
pub struct WorkersJob {
    /// The job, and the deployment that it is of. Its code is the worker's token.
    pub options: Options,
    /// The directory of what is kept of the job.
    pub folder: PathBuf,
    /// The directory that holds the folders of all the worker's jobs.
    pub root: PathBuf,
    /// The command that is run instead of the step's own.
    pub command: Option<Vec<String>>,
}

impl WorkersJob {
    /// Carries the job out, or goes on with it, and tells how it went. Returns its end.
    ///
    /// # Errors
    /// [`Ended::NotOurs`] if nobody waits for the job any more; others if it cannot be told.
    pub async fn carry_out(&self, orders: watch::Receiver<Orders>) -> Result<JobSnapshot, Ended> {
        let broken = |error: std::io::Error| Ended::Refused(error.to_string());
        let token = self.token()?;
        let journal = Journal::open(self.folder.join("journal.json")).map_err(broken)?;
        let api = Api::with_token(&self.options, token);
        api.claim().await?;
        let work = OnMachine {
            options: &self.options,
            api,
            root: self.root.clone(),
            journal,
            orders: Some(orders),
            command: self.command.clone(),
        };
        work.carry_out().await
    }

    /// The token by which the job is told of: made once, and kept.
    fn token(&self) -> Result<Secret, Ended> {
        let path = self.folder.join("token");
        if let Ok(kept) = std::fs::read_to_string(&path) {
            return Ok(Secret::new(kept));
        }
        let token = new_token()?;
        write_durably(&path, token.expose().as_bytes())
            .map_err(|error| Ended::Refused(error.to_string()))?;
        Ok(token)
    }
}
