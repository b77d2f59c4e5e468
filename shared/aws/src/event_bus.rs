//! EventBridge, as far as one event needs it: put it on the default bus.

use aws_sdk_dynamodb::error::{ErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use serde_json::{Value, json};

use crate::bucket::{Refused, Setup};
use crate::json::{JsonService, Named};

/// The default event bus. Cheap to clone; all clones share connections.
#[derive(Clone, Debug)]
pub struct EventBus(JsonService);

impl EventBus {
    pub(crate) fn new(endpoint: Option<&str>, setup: &Setup) -> Self {
        let named = Named {
            name: "EventBridge",
            signed: "events",
            target: "AWSEvents",
        };
        Self(JsonService::new(named, endpoint, setup))
    }

    /// Puts an event of this source and type on the bus.
    ///
    /// # Errors
    /// The trouble that [`crate::classify`] makes of the error, also if the bus took the request and not the event.
    pub async fn put(
        &self,
        source: &str,
        detail_type: &str,
        detail: &Value,
    ) -> Result<(), SdkError<Refused, HttpResponse>> {
        let entry =
            json!({ "Source": source, "DetailType": detail_type, "Detail": detail.to_string() });
        let answer = self
            .0
            .call("PutEvents", json!({ "Entries": [entry] }))
            .await?;
        let Some(code) = answer
            .pointer("/Entries/0/ErrorCode")
            .and_then(Value::as_str)
        else {
            return Ok(());
        };
        let meta = ErrorMetadata::builder().code(code).build();
        Err(SdkError::construction_failure(Refused(meta)))
    }
}
