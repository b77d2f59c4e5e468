//! `poll-job`: sees what became of the job that the run waits for, and goes on from there. Invoked by the state machine
//! with a task token, and by the event bus when a job or its build has changed, without one: then it only wakes the run.

use lambda_runtime::LambdaEvent;
use serde_json::Value;
use towpath_service::{App, Entry, Error, JobEvent};

/// Takes one entry of the machine's state, or one event of a job.
///
/// # Errors
/// By a name that the machine's Retry or Catch knows.
pub async fn handle(app: &App, event: LambdaEvent<Value>) -> Result<(), Error> {
    let Some(heard) = JobEvent::parse(&event.payload) else {
        return app.driver.drive(&Entry::parse(event.payload)?).await;
    };
    match app.job_of(heard?).await? {
        Some(job) => app.poll.look(&job.run(), Some(&job)).await,
        None => Ok(()),
    }
}
