//! A service that speaks JSON over one address, as far as a few of its operations are needed. Made as [`crate::Bucket`]
//! is, and for the same reason.

use aws_sdk_dynamodb::error::{ErrorMetadata, SdkError};
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_types::body::SdkBody;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::bucket::{Refused, Setup, hex};

/// The name under which an error keeps the `resourceIds` that a service names, with commas in between.
pub(crate) const RESOURCES: &str = "resourceIds";

/// A service of AWS's protocol `awsJson1_1`. Cheap to clone; all clones share connections.
#[derive(Clone, Debug)]
pub(crate) struct JsonService(Operation<Call, Value, Refused>);

/// What tells one service from another.
pub(crate) struct Named {
    /// The service's name, for messages.
    pub(crate) name: &'static str,
    /// The name that its requests are signed for, which is that of its host too.
    pub(crate) signed: &'static str,
    /// The beginning of the header that names the operation.
    pub(crate) target: &'static str,
}

#[derive(Debug)]
struct Call {
    operation: &'static str,
    body: Value,
}

impl JsonService {
    pub(crate) fn new(named: Named, endpoint: Option<&str>, setup: &Setup) -> Self {
        let caller = setup.function.clone();
        let operation = setup
            .operation(named.name, named.signed, endpoint)
            .serializer(move |call: Call| request(named.target, &call, caller.as_deref()))
            .deserializer(answered);
        Self(operation.build())
    }

    /// Calls an operation.
    ///
    /// # Errors
    /// The trouble that [`crate::classify`] makes of the error.
    pub(crate) async fn call(
        &self,
        operation: &'static str,
        body: Value,
    ) -> Result<Value, SdkError<Refused, HttpResponse>> {
        self.0.invoke(Call { operation, body }).await
    }
}

fn request(target: &str, call: &Call, caller: Option<&str>) -> Result<HttpRequest, BoxError> {
    let body = call.body.to_string();
    let mut request = http::Request::post("/")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", format!("{target}.{}", call.operation))
        .header(
            "x-amz-content-sha256",
            hex(&Sha256::digest(body.as_bytes())),
        );
    if let Some(function) = caller {
        request = request.header("x-amz-user-agent", format!("app/{function}"));
    }
    Ok(HttpRequest::try_from(request.body(SdkBody::from(body))?)?)
}

fn answered(response: &HttpResponse) -> Result<Value, OrchestratorError<Refused>> {
    let body = response.body().bytes().unwrap_or_default();
    let answer = serde_json::from_slice::<Value>(body).unwrap_or_default();
    if response.status().is_success() {
        return Ok(answer);
    }
    let word = |name: &str| answer.get(name).and_then(|value| value.as_str());
    let status = format!("Http{}", response.status().as_u16());
    // `com.amazonaws.service#Name` is what some services write.
    let code = word("__type").map_or(status.as_str(), |name| {
        name.rsplit('#').next().unwrap_or(name)
    });
    let message = word("message")
        .or(word("Message"))
        .unwrap_or("no reason given");
    let mut meta = ErrorMetadata::builder().code(code).message(message);
    if let Some(resources) = answer.get(RESOURCES).and_then(Value::as_array) {
        let resources: Vec<_> = resources.iter().filter_map(Value::as_str).collect();
        meta = meta.custom(RESOURCES, resources.join(","));
    }
    Err(OrchestratorError::operation(Refused(meta.build())))
}
