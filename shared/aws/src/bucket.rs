//! One S3 bucket, as far as outputs need it: whole objects in and out, and URLs for others to fetch them by.
//!
//! Made of the signer, the orchestrator (retries, timeouts) and the HTTP client that the SDK's clients link anyway: for
//! three operations `aws-sdk-s3` would make every function larger by more than they are worth.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::config::retry::RetryPartition;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials};
use aws_sdk_dynamodb::error::{ErrorMetadata, ProvideErrorMetadata, SdkError};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningInstructions, SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime::client::orchestrator::operation::{Operation, OperationBuilder};
use aws_smithy_runtime::client::retries::classifiers::{
    HttpStatusCodeClassifier, TransientErrorClassifier,
};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::{ConfigBag, Layer};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// The header by which a service is told which function calls, and the query parameter of the same use in a URL: S3
/// passes over parameters that begin with `x-`, and writes them to its access log.
const CALLER: (&str, &str) = ("x-amz-user-agent", "x-app");

/// The connection and the settings that every bucket shares.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) signer: Signer,
    /// Where S3 is, if not at AWS: the bucket is then a part of the path.
    pub(crate) endpoint: Option<String>,
    /// The function that calls.
    pub(crate) function: Option<String>,
    pub(crate) http: SharedHttpClient,
    pub(crate) timeouts: TimeoutConfig,
    pub(crate) retries: RetryConfig,
    pub(crate) partition: Option<RetryPartition>,
}

impl Setup {
    /// The beginning of an operation of a service, to which the forms of its requests and answers are added: signed anew
    /// for each attempt, and retried. `name` is the service's, for messages; `signed` is the name that its requests are
    /// signed for, and the beginning of its host at AWS where there is no `endpoint`.
    pub(crate) fn operation(
        &self,
        name: &'static str,
        signed: &'static str,
        endpoint: Option<&str>,
    ) -> OperationBuilder {
        let signer = Signer {
            service: signed,
            ..self.signer.clone()
        };
        Operation::builder()
            .service_name(name)
            .operation_name("Call")
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(endpoint.unwrap_or(&at_aws(signed, &self.signer.region)))
            .http_client(self.http.clone())
            .no_auth()
            .interceptor(signer)
            .timeout_config(self.timeouts.clone())
            .standard_retry(&self.retries)
            .retry_classifier(TransientErrorClassifier::<Refused>::new())
            .retry_classifier(HttpStatusCodeClassifier::default())
    }
}

/// The URL of a host of AWS in a region.
fn at_aws(host: &str, region: &str) -> String {
    let china = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://{host}.{region}.amazonaws.com{china}")
}

/// A bucket. Cheap to clone; all clones share connections.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// The URL of the bucket, without a `/` at its end.
    url: String,
    signer: Signer,
    function: Option<String>,
    /// One for every call: each kind of its own would be linked by itself.
    operation: Operation<Call, Bytes, Refused>,
}

/// A call of S3.
#[derive(Debug)]
enum Call {
    /// Puts an object.
    Put {
        key: String,
        body: Bytes,
        content_type: &'static str,
        sha256: [u8; 32],
    },
    /// Gets an object.
    Get { key: String },
    /// Lists some of the keys there are.
    List,
    /// Deletes an object, or with an empty key the bucket itself.
    Delete { key: String },
}

/// A presigned URL of one object: it needs no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presigned {
    /// The URL. Whoever knows it may use it: not for logs.
    pub url: String,
    /// Until when it can be used, at most: it ends with the credentials it was made with, too.
    pub expires: SystemTime,
}

impl Bucket {
    pub(crate) fn new(name: &str, setup: &Setup) -> Self {
        let url = match &setup.endpoint {
            Some(endpoint) => format!("{}/{name}", endpoint.trim_end_matches('/')),
            None => at_aws(&format!("{name}.s3"), &setup.signer.region),
        };
        let function = setup.function.clone();
        let caller = function.clone();
        let mut operation = setup
            .operation("S3", "s3", Some(&url))
            .serializer(move |call: Call| call.request(caller.as_deref()))
            .deserializer(answered);
        if let Some(partition) = setup.partition.clone() {
            let mut layer = Layer::new("partition");
            layer.store_put(partition);
            operation =
                operation.runtime_plugin(StaticRuntimePlugin::new().with_config(layer.freeze()));
        }
        Self {
            url,
            signer: setup.signer.clone(),
            function,
            operation: operation.build(),
        }
    }

    /// Puts an object, in place of one of the same key. S3 takes it whole, with the length and checksum it is sent with,
    /// or not at all; once this returns, everybody finds it.
    ///
    /// `key` is of characters that stand for themselves in a URL's path.
    ///
    /// # Errors
    /// What [`crate::classify`] makes of it. The object may be there after all if the answer was lost.
    pub async fn put(
        &self,
        key: &str,
        body: Bytes,
        content_type: &'static str,
        sha256: [u8; 32],
    ) -> Result<(), SdkError<Refused, HttpResponse>> {
        let key = key.to_owned();
        let put = Call::Put {
            key,
            body,
            content_type,
            sha256,
        };
        self.operation.invoke(put).await.map(|_| ())
    }

    /// Gets an object, whole. `key` is of characters that stand for themselves in a URL's path.
    ///
    /// # Errors
    /// What [`crate::classify`] makes of it.
    pub async fn get(&self, key: &str) -> Result<Bytes, SdkError<Refused, HttpResponse>> {
        let key = key.to_owned();
        self.operation.invoke(Call::Get { key }).await
    }

    /// Deletes the bucket with all that is in it, and returns how many objects that were: for an operator, never for a
    /// request.
    ///
    /// # Errors
    /// The reason, for people.
    pub async fn delete_with_all_objects(&self) -> Result<u64, String> {
        let told = |error: SdkError<Refused, HttpResponse>| match error.as_service_error() {
            Some(refused) => refused.to_string(),
            None => "S3 did not answer".to_owned(),
        };
        let mut deleted = 0;
        loop {
            let listed = self.operation.invoke(Call::List).await.map_err(told)?;
            let text = String::from_utf8_lossy(&listed).into_owned();
            let keys = text.split("<Key>").skip(1);
            let keys = keys.filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned()));
            let keys: Vec<String> = keys.collect();
            if keys.is_empty() {
                break;
            }
            for key in keys {
                self.operation
                    .invoke(Call::Delete { key })
                    .await
                    .map_err(told)?;
                deleted += 1;
            }
        }
        let key = String::new();
        let gone = self.operation.invoke(Call::Delete { key }).await;
        gone.map(|_| deleted).map_err(told)
    }

    /// Signs a URL for a `GET` or `PUT` of an object with these headers, valid from `now` (by the system's clock: S3
    /// judges it by its own) for `valid`, at most a week. Whether there is such an object is not looked up.
    ///
    /// # Errors
    /// If the key cannot stand in a URL.
    pub fn presign(
        &self,
        method: &str,
        key: &str,
        headers: &[(&str, &str)],
        now: SystemTime,
        valid: Duration,
    ) -> Result<Presigned, BoxError> {
        let mut url = format!("{}/{key}", self.url);
        if let Some(function) = &self.function {
            url = format!("{url}?{}={function}", CALLER.1);
        }
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(valid);
        let signed = self.signer.sign(
            method,
            &url,
            headers,
            SignableBody::UnsignedPayload,
            settings,
            now,
        )?;
        let mut request = http::Request::get(url).body(())?;
        signed.apply_to_request_http1x(&mut request);
        Ok(Presigned {
            url: request.uri().to_string(),
            expires: now + valid,
        })
    }
}

impl Call {
    fn request(self, function: Option<&str>) -> Result<HttpRequest, BoxError> {
        let (request, body) = match self {
            Self::Put {
                key,
                body,
                content_type,
                sha256,
            } => {
                let request = http::Request::put(format!("/{key}"))
                    .header("content-type", content_type)
                    .header("content-length", body.len())
                    .header(
                        "x-amz-checksum-sha256",
                        aws_smithy_types::base64::encode(sha256),
                    )
                    .header("x-amz-content-sha256", hex(&sha256));
                (request, SdkBody::from(body))
            }
            Self::List => {
                let request = http::Request::get("/?list-type=2")
                    .header("x-amz-content-sha256", hex(&Sha256::digest(b"")));
                (request, SdkBody::empty())
            }
            Self::Delete { key } => {
                let request = http::Request::delete(format!("/{key}"))
                    .header("x-amz-content-sha256", hex(&Sha256::digest(b"")));
                (request, SdkBody::empty())
            }
            Self::Get { key } => {
                let request = http::Request::get(format!("/{key}"))
                    .header("x-amz-content-sha256", hex(&Sha256::digest(b"")));
                (request, SdkBody::empty())
            }
        };
        let request = match function {
            Some(function) => request.header(CALLER.0, format!("app/{function}")),
            None => request,
        };
        Ok(HttpRequest::try_from(request.body(body)?)?)
    }
}

/// Signs requests: each attempt anew, since a signature holds for some minutes only.
#[derive(Clone)]
pub(crate) struct Signer {
    pub(crate) credentials: Credentials,
    pub(crate) region: String,
    pub(crate) service: &'static str,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.region)
    }
}

impl Signer {
    fn sign(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: SignableBody<'_>,
        mut settings: SigningSettings,
        now: SystemTime,
    ) -> Result<SigningInstructions, BoxError> {
        // As S3 wants it, and no other service: paths as they are sent.
        if self.service == "s3" {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        // The payload's hash in a header.
        if settings.signature_location == SignatureLocation::Headers {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let identity = Identity::from(self.credentials.clone());
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service)
            .time(now)
            .settings(settings)
            .build()?
            .into();
        let request = SignableRequest::new(method, url, headers.iter().copied(), body)?;
        Ok(sign(request, &params)?.into_parts().0)
    }
}

#[dyn_dispatch_hint]
impl Intercept for Signer {
    fn name(&self) -> &'static str {
        "TowpathSigner"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        components: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let now = components.time_source().map(|time| time.now());
        let request = context.request_mut();
        // The hash was made when the request was: the body is not read again.
        let hash = request
            .headers()
            .get("x-amz-content-sha256")
            .unwrap_or("UNSIGNED-PAYLOAD")
            .to_owned();
        let signed = {
            let headers: Vec<_> = request.headers().iter().collect();
            self.sign(
                request.method(),
                request.uri(),
                &headers,
                SignableBody::Precomputed(hash),
                SigningSettings::default(),
                now.unwrap_or_else(SystemTime::now),
            )?
        };
        for (name, value) in signed.headers() {
            request
                .headers_mut()
                .insert(name.to_owned(), value.to_owned());
        }
        Ok(())
    }
}

/// The service said no.
#[derive(Debug)]
pub struct Refused(pub(crate) ErrorMetadata);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |text: Option<&str>| text.unwrap_or("no reason given").to_owned();
        write!(f, "{}: {}", word(self.0.code()), word(self.0.message()))
    }
}

impl std::error::Error for Refused {}

impl ProvideErrorMetadata for Refused {
    fn meta(&self) -> &ErrorMetadata {
        &self.0
    }
}

fn answered(response: &HttpResponse) -> Result<Bytes, OrchestratorError<Refused>> {
    let body = response.body().bytes().unwrap_or_default();
    if response.status().is_success() {
        return Ok(Bytes::copy_from_slice(body));
    }
    let text = String::from_utf8_lossy(body);
    // Two words of a flat document: `<Error><Code>…</Code><Message>…</Message>…`.
    let word = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0)
    };
    let status = response.status().as_u16();
    let meta = ErrorMetadata::builder()
        .code(word("Code").map_or_else(|| format!("Http{status}"), str::to_owned))
        .message(word("Message").unwrap_or("no reason given"))
        .build();
    Err(OrchestratorError::operation(Refused(meta)))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in AWS's documentation of presigned URLs: whatever else changes, the signature may not.
    #[test]
    fn a_url_is_signed_as_aws_documents_it() {
        let setup = Setup {
            signer: Signer {
                service: "s3",
                credentials: Credentials::new(
                    "AKIAIOSFODNN7EXAMPLE",
                    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                    None,
                    None,
                    "test",
                ),
                region: "us-east-1".to_owned(),
            },
            endpoint: None,
            function: None,
            http: aws_smithy_http_client::Builder::new().build_http(),
            timeouts: TimeoutConfig::disabled(),
            retries: RetryConfig::standard(),
            partition: None,
        };
        let bucket = Bucket {
            url: "https://examplebucket.s3.amazonaws.com".to_owned(),
            ..Bucket::new("examplebucket", &setup)
        };
        // 2013-05-24T00:00:00Z
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        let signed = bucket
            .presign("GET", "test.txt", &[], now, Duration::from_secs(86_400))
            .unwrap();
        assert!(
            signed
                .url
                .contains("aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"),
            "{}",
            signed.url
        );
        assert_eq!(signed.expires, now + Duration::from_secs(86_400));
        assert_eq!(
            Bucket::new("b", &setup).url,
            "https://b.s3.us-east-1.amazonaws.com"
        );
    }

    #[test]
    fn credentials_do_not_print() {
        let signer = Signer {
            service: "s3",
            credentials: Credentials::new("AKIA", "hush", None, None, "test"),
            region: "eu-central-1".to_owned(),
        };
        assert!(!format!("{signer:?}").contains("hush"));
    }
}
