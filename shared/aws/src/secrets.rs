//! Secrets Manager, as far as one secret needs it: read it. Made as [`crate::Bucket`] is, and for the same reason.

use aws_sdk_dynamodb::config::BehaviorVersion;
use aws_sdk_dynamodb::error::{ErrorMetadata, SdkError};
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime::client::retries::classifiers::{
    HttpStatusCodeClassifier, TransientErrorClassifier,
};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_types::body::SdkBody;
use sha2::{Digest, Sha256};
use towpath_auth::Secret;

use crate::bucket::{Refused, Setup, Signer, hex};

/// Secrets Manager. Cheap to clone; all clones share connections.
#[derive(Clone, Debug)]
pub struct Secrets(Operation<String, Secret, Refused>);

impl Secrets {
    pub(crate) fn new(endpoint: Option<&str>, setup: &Setup) -> Self {
        let region = &setup.signer.region;
        let china = if region.starts_with("cn-") { ".cn" } else { "" };
        let at_aws = format!("https://secretsmanager.{region}.amazonaws.com{china}");
        let signer = Signer {
            service: "secretsmanager",
            ..setup.signer.clone()
        };
        let read = Operation::builder()
            .service_name("Secrets Manager")
            .operation_name("GetSecretValue")
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(endpoint.unwrap_or(&at_aws))
            .http_client(setup.http.clone())
            .no_auth()
            .interceptor(signer)
            .timeout_config(setup.timeouts.clone())
            .standard_retry(&setup.retries)
            .retry_classifier(TransientErrorClassifier::<Refused>::new())
            .retry_classifier(HttpStatusCodeClassifier::default())
            .serializer(|id: String| request(&id))
            .deserializer(answered);
        Self(read.build())
    }

    /// The text of a secret, by its ARN.
    ///
    /// # Errors
    /// The trouble that [`crate::classify`] makes of the error.
    pub async fn read(&self, id: &str) -> Result<Secret, SdkError<Refused, HttpResponse>> {
        self.0.invoke(id.to_owned()).await
    }
}

fn request(id: &str) -> Result<HttpRequest, BoxError> {
    let body = serde_json::json!({ "SecretId": id }).to_string();
    let request = http::Request::post("/")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "secretsmanager.GetSecretValue")
        .header(
            "x-amz-content-sha256",
            hex(&Sha256::digest(body.as_bytes())),
        );
    Ok(HttpRequest::try_from(request.body(SdkBody::from(body))?)?)
}

fn answered(response: &HttpResponse) -> Result<Secret, OrchestratorError<Refused>> {
    let body = response.body().bytes().unwrap_or_default();
    let answer: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let word = |name: &str| answer.get(name).and_then(|value| value.as_str());
    match word("SecretString") {
        Some(text) if response.status().is_success() => Ok(Secret::new(text)),
        _ => {
            let code = word("__type").map_or_else(
                || format!("Http{}", response.status().as_u16()),
                str::to_owned,
            );
            let message = word("message")
                .or(word("Message"))
                .unwrap_or("no reason given");
            let meta = ErrorMetadata::builder().code(code).message(message).build();
            Err(OrchestratorError::operation(Refused(meta)))
        }
    }
}
