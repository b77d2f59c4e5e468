//! `tick`: every minute, sees to what is due: deliveries, looks at jobs and gates, runs without a driver.

use lambda_runtime::LambdaEvent;
use serde::Deserialize;
use serde_json::{Value, json};
use towpath_service::{App, Error};

/// The event of the minute's rule: the shards that this invocation sees to.
#[derive(Deserialize)]
struct Minute {
    /// The shards to see to.
    shards: Vec<u16>,
}

/// Takes a minute's rule; answers with what it found, in the words of the template's metric filters.
///
/// # Errors
/// If a shard cannot be read; the next minute tries again.
pub async fn handle(app: &App, event: LambdaEvent<Value>) -> Result<Value, Error> {
    let minute = serde_json::from_value::<Minute>(event.payload);
    let Minute { shards } = minute.map_err(|e| Error::BadEvent(e.to_string()))?;
    let ticked = app.ticker.tick(&shards).await?;
    Ok(json!({
        "due": ticked.due,
        "redelivered": ticked.redelivered,
        "driverless": ticked.driverless,
        "failed": ticked.failed,
        "outboxAge": ticked.outbox_age.as_secs(),
        "humanWait": ticked.human_wait.as_secs(),
    }))
}
