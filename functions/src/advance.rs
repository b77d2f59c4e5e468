//! `advance`: performs the run's next action, and goes on from there. Invoked by the state machine with a task token.

use lambda_runtime::LambdaEvent;
use serde_json::Value;
use towpath_service::{App, Entry, Error};

/// Takes one entry of the machine's state.
///
/// # Errors
/// By a name that the machine's Retry or Catch knows.
pub async fn handle(app: &App, event: LambdaEvent<Value>) -> Result<(), Error> {
    app.driver.drive(&Entry::parse(event.payload)?).await
}
