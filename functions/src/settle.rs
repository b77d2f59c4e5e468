//! `settle`: the failure funnel. A driver has died: the run gets its next one, or is failed. Invoked by the state machine
//! on its way to failing, and by the status of an execution that failed, timed out or was aborted.

use lambda_runtime::LambdaEvent;
use serde_json::Value;
use towpath_service::{App, Error, Settle};

/// Takes the news of a dead driver.
///
/// # Errors
/// By a name that the machine's Retry knows.
pub async fn handle(app: &App, event: LambdaEvent<Value>) -> Result<(), Error> {
    app.settler.settle(&Settle::parse(event.payload)?).await
}
