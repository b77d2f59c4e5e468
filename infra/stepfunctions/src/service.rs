//! The service as the process that embeds it sees it: open, define machines, resume, look, shut down.

use std::sync::Arc;

use serde_json::Value;

use crate::definition::Definition;
use crate::drive::Driver;
use crate::error::Error;
use crate::mend::Reopen;
use crate::options::Options;
use crate::store::Counts;

/// A local Step Functions. Clones are handles to the same one; when the last is dropped, everything stops as if the
/// process had died.
#[derive(Clone)]
pub struct StepFunctions {
    pub(crate) driver: Arc<Driver>,
}

impl StepFunctions {
    /// Opens the store. Executions that were running when it was last closed wait for [`StepFunctions::resume`]; until
    /// then requests that would drive executions are answered with status 503, which SDKs retry.
    ///
    /// # Errors
    /// If the file cannot be used, or there is no tokio runtime to drive executions on.
    pub fn open(options: Options) -> Result<Self, Error> {
        Ok(Self {
            driver: Driver::open(options)?,
        })
    }

    /// Defines a state machine and returns its ARN. A machine of that name is given the new definition; running
    /// executions keep the definition they started with.
    ///
    /// # Errors
    /// If the definition or the name is refused, or the store fails.
    pub fn create_state_machine(&self, name: &str, definition: &Value) -> Result<String, Error> {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 80 || !name.chars().all(letters) {
            return Err(Error::Name(name.to_owned()));
        }
        Definition::parse(definition)?;
        let arn = self.driver.arns().machine(name);
        self.driver
            .put_machine(&arn, name, &definition.to_string())?;
        Ok(arn)
    }

    /// Goes on with every execution that was running when the store was last closed: parked tokens stay valid; a task
    /// whose function had not answered is entered again with a new token. An execution whose definition this release
    /// cannot run, since an older release started it, ends `ABORTED` with the error `Towpath.MachineReplaced`.
    pub fn resume(&self) {
        self.driver.resume();
    }

    /// The AWS JSON 1.0 API, at `POST /`.
    pub fn router(&self) -> axum::Router {
        crate::api::router(Arc::clone(&self.driver))
    }

    /// Counts what was done. All counts are 0 if the store has failed.
    pub fn counts(&self) -> Counts {
        self.driver.read(|store| store.counts()).unwrap_or_default()
    }

    /// Counts the state transitions of one execution; 0 if there is no execution of that ARN.
    pub fn transitions_of(&self, execution_arn: &str) -> u64 {
        let execution = self
            .driver
            .read(|store| store.execution_by_arn(execution_arn));
        execution
            .ok()
            .flatten()
            .map_or(0, |execution| execution.transitions)
    }

    /// Waits until the store has been unusable for a minute of the clock, and returns the reason. A store that fails is
    /// opened again in the background, and requests that would drive executions are answered with status 503 meanwhile;
    /// a process whose store stays unusable drives nothing, and should end.
    pub async fn failed(&self) -> Error {
        Error::Unusable(self.driver.failed().await)
    }

    /// Stops driving executions and waits until nothing moves. What is stored stays as it is, for the next
    /// [`StepFunctions::open`].
    pub async fn shutdown(&self) {
        self.driver.shutdown().await;
    }
}

impl Reopen for Driver {
    async fn reopen(self: &Arc<Self>) -> Result<(), Error> {
        Driver::reopen(self).await
    }

    fn give_up(&self) {
        Driver::give_up(self);
    }

    fn is_closed(&self) -> bool {
        Driver::is_closed(self)
    }
}
