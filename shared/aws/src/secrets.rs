//! Secrets Manager, as far as one secret needs it: read it.

use aws_sdk_dynamodb::error::SdkError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use serde_json::json;
use towpath_auth::Secret;

use crate::bucket::{Refused, Setup};
use crate::json::{JsonService, Named};

/// Secrets Manager. Cheap to clone; all clones share connections.
#[derive(Clone, Debug)]
pub struct Secrets(JsonService);

impl Secrets {
    pub(crate) fn new(endpoint: Option<&str>, setup: &Setup) -> Self {
        let named = Named {
            name: "Secrets Manager",
            signed: "secretsmanager",
            target: "secretsmanager",
        };
        Self(JsonService::new(named, endpoint, setup))
    }

    /// The text of a secret, by its ARN. One that holds no text is empty.
    ///
    /// # Errors
    /// The trouble that [`crate::classify`] makes of the error.
    pub async fn read(&self, id: &str) -> Result<Secret, SdkError<Refused, HttpResponse>> {
        let asked = self.0.call("GetSecretValue", json!({ "SecretId": id }));
        let answer = asked.await?;
        let text = answer.get("SecretString").and_then(|text| text.as_str());
        Ok(Secret::new(text.unwrap_or_default()))
    }
}
