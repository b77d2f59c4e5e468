//! Making the clients: the same timeouts, retries and connection pool for every function.

use std::time::Duration;

use aws_sdk_dynamodb::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{
    self, AppName, BehaviorVersion, Region, SharedCredentialsProvider, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use crate::account::Account;
use crate::bucket::{Bucket, Setup, Signer};
use crate::codebuild::CodeBuild;
use crate::connections::Connections;
use crate::ecs::Ecs;
use crate::event_bus::EventBus;
use crate::instrument::Instrument;
use crate::secrets::Secrets;
use crate::settings::Settings;
use crate::web::Web;

/// The time-out of connecting.
const CONNECT: Duration = Duration::from_secs(1);
/// The time-out of one attempt.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The time-out of one attempt to put an object.
const OBJECT_ATTEMPT: Duration = Duration::from_secs(10);
/// The time-out of a call with all its attempts.
const OPERATION: Duration = Duration::from_secs(15);
/// The number of attempts of a call.
const ATTEMPTS: u32 = 5;
/// Where the wait before a retry of a throttled call begins; it doubles, and a random part of it is waited.
const BACKOFF: Duration = Duration::from_millis(100);
/// The longest pause between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// The clients of one function. Cheap to clone; all clones share connections.
#[derive(Clone, Debug)]
pub struct Clients {
    /// DynamoDB.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// Step Functions.
    pub sfn: aws_sdk_sfn::Client,
    /// Secrets Manager.
    pub secrets: Secrets,
    /// The client of CodeBuild, which starts, describes and stops builds.
    pub codebuild: CodeBuild,
    /// The client of ECS, which runs, describes and stops tasks.
    pub ecs: Ecs,
    /// The default event bus.
    pub event_bus: EventBus,
    /// The connection and the settings of buckets.
    s3: Setup,
}

/// The two configurations have different types and the same members.
macro_rules! configured {
    ($builder:expr, $settings:expr, $shared:expr, $endpoint:expr) => {{
        let mut builder = $builder
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new($settings.region.clone()))
            .credentials_provider($shared.credentials.clone())
            .http_client($shared.http.clone())
            .timeout_config($shared.timeouts.clone())
            .retry_config($shared.retries.clone())
            // An attempt's timeout covers the little bodies that both services answer with.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        builder.set_endpoint_url($endpoint.clone());
        // A name that cannot stand in a header is not worth failing for.
        let function = $settings.function.clone().map(AppName::new);
        builder.set_app_name(function.and_then(Result::ok));
        builder.set_retry_partition($shared.partition.clone());
        builder
    }};
}

struct Shared {
    credentials: SharedCredentialsProvider,
    http: SharedHttpClient,
    timeouts: TimeoutConfig,
    retries: RetryConfig,
    partition: Option<RetryPartition>,
}

impl Clients {
    /// Makes the clients. Nothing is called.
    ///
    /// Where all endpoints are `http://`, TLS is left out and no certificates are loaded. `instrument` looks on at the
    /// calls, or breaks them; a function that is deployed has none.
    pub fn connect(settings: &Settings, instrument: Option<&dyn Instrument>) -> Self {
        let retries = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS)
            .with_initial_backoff(BACKOFF)
            .with_max_backoff(MAX_BACKOFF);
        let (http, (retries, partition)) = match instrument {
            Some(instrument) => (instrument.http(http(settings)), instrument.retries(retries)),
            None => (http(settings), (retries, None)),
        };
        let shared = Shared {
            credentials: SharedCredentialsProvider::new(credentials(settings)),
            http,
            timeouts: TimeoutConfig::builder()
                .connect_timeout(CONNECT)
                .operation_attempt_timeout(ATTEMPT)
                .operation_timeout(OPERATION)
                .build(),
            retries,
            partition,
        };
        let mut dynamodb = configured!(
            aws_sdk_dynamodb::Config::builder(),
            settings,
            shared,
            settings.endpoint_dynamodb
        );
        if let Some(interceptor) = instrument.and_then(Instrument::dynamodb) {
            dynamodb.push_interceptor(interceptor);
        }
        let dynamodb = dynamodb.build();
        let sfn = configured!(
            aws_sdk_sfn::Config::builder(),
            settings,
            shared,
            settings.endpoint_sfn
        )
        .build();
        let s3 = Setup {
            signer: Signer {
                service: "s3",
                credentials: credentials(settings),
                region: settings.region.clone(),
            },
            endpoint: settings.endpoint_s3.clone(),
            function: settings.function.clone(),
            http: shared.http,
            // Objects are larger than what the other services are sent.
            timeouts: shared
                .timeouts
                .to_builder()
                .operation_attempt_timeout(OBJECT_ATTEMPT)
                .build(),
            retries: shared.retries,
            partition: shared.partition,
        };
        Self {
            secrets: Secrets::new(settings.endpoint_secrets.as_deref(), &s3),
            codebuild: CodeBuild::new(settings.endpoint_codebuild.as_deref(), &s3),
            ecs: Ecs::new(settings.endpoint_ecs.as_deref(), &s3),
            event_bus: EventBus::new(settings.endpoint_events.as_deref(), &s3),
            s3,
            dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb),
            sfn: aws_sdk_sfn::Client::from_conf(sfn),
        }
    }

    /// The account that the credentials are of. `endpoint` is where to ask, if not at AWS.
    pub fn account(&self, endpoint: Option<&str>) -> Account {
        Account::new(endpoint, &self.s3)
    }

    /// Deletes a table, whether it is protected from that or not. One that is not there is deleted.
    ///
    /// # Errors
    /// The reason, for people.
    pub async fn delete_table(&self, name: &str) -> Result<(), String> {
        let tables = &self.dynamodb;
        let open = tables.update_table().table_name(name);
        let opened = open.deletion_protection_enabled(false).send().await;
        match opened.map_err(aws_sdk_dynamodb::error::SdkError::into_service_error) {
            Err(error) if error.is_resource_not_found_exception() => return Ok(()),
            // It was not protected; if it is something else, the deletion tells.
            Err(_) | Ok(_) => {}
        }
        let deleted = tables.delete_table().table_name(name).send().await;
        deleted.map(|_| ()).map_err(|error| {
            let refused = error.as_service_error();
            let message = refused.and_then(ProvideErrorMetadata::message);
            message.unwrap_or("DynamoDB did not answer").to_owned()
        })
    }

    /// The sockets of a WebSocket API. `url` is that of its stage's management API.
    pub fn connections(&self, url: &str) -> Connections {
        Connections::new(url, &self.s3)
    }

    /// A service that is not AWS's, at this URL.
    pub fn web(&self, name: &'static str, url: &str) -> Web {
        Web::new(name, url, &self.s3)
    }

    /// The bucket of this name.
    pub fn bucket(&self, name: &str) -> Bucket {
        Bucket::new(name, &self.s3)
    }
}

fn credentials(settings: &Settings) -> config::Credentials {
    let credentials = &settings.credentials;
    config::Credentials::new(
        &credentials.access_key_id,
        credentials.secret_access_key.expose(),
        credentials
            .session_token
            .as_ref()
            .map(|token| token.expose().to_owned()),
        None,
        "environment",
    )
}

fn http(settings: &Settings) -> SharedHttpClient {
    if settings.plain_http() {
        Builder::new().build_http()
    } else {
        Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https()
    }
}
