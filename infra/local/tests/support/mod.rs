//! A small cloud, toy functions for it, and clients.
#![allow(dead_code)] // Each test file uses a part of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Clippy does not see that these are tests.

pub(crate) mod sockets;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use lambda_runtime::{Diagnostic, LambdaEvent};
use serde_json::Value;
use towpath_clock::Clock;
use towpath_local::{Cloud, Factory, Function, Functions, Options};

pub(crate) type Environment = BTreeMap<String, String>;

/// The template that a deployment builds from.
pub(crate) fn real_template() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../template.yaml")
}

/// A template of two functions, one table and one index.
pub(crate) const SMALL: &str = "
Transform: AWS::Serverless-2016-10-31
Globals:
  Function:
    Timeout: 5
    Environment: { Variables: { TABLE: !Ref Table } }
Resources:
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions:
        - { AttributeName: pk, AttributeType: S }
        - { AttributeName: due, AttributeType: S }
      KeySchema: [{ AttributeName: pk, KeyType: HASH }]
      GlobalSecondaryIndexes:
        - IndexName: due
          KeySchema: [{ AttributeName: due, KeyType: HASH }]
          Projection: { ProjectionType: KEYS_ONLY }
  Api: { Type: AWS::Serverless::HttpApi }
  First:
    Type: AWS::Serverless::Function
    Properties:
      Policies:
        - Statement:
            - Effect: Allow
              Action: [dynamodb:PutItem, dynamodb:ConditionCheckItem]
              Resource: !GetAtt Table.Arn
            - Effect: Allow
              Action: dynamodb:Query
              Resource: !Sub ${Table.Arn}/index/due
      Events:
        Named: { Type: HttpApi, Properties: { ApiId: !Ref Api, Method: POST, Path: '/things/{id}' } }
        Rest: { Type: HttpApi, Properties: { ApiId: !Ref Api, Method: ANY, Path: '/files/{proxy+}' } }
  Second:
    Type: AWS::Serverless::Function
    Properties:
      Timeout: 1
      Events:
        Minute: { Type: Schedule, Properties: { Schedule: rate(1 minute), Input: '{\"shards\": [1]}' } }
        Hour: { Type: ScheduleV2, Properties: { ScheduleExpression: rate(1 hour) } }
        Shipped:
          Type: EventBridgeRule
          Properties: { Pattern: { source: [shop], detail: { state: [{ prefix: ship }] } } }
Outputs:
  Url: { Value: !GetAtt Api.ApiEndpoint }
";

struct Toy<F>(F);

#[async_trait]
impl<F, R> Function for Toy<F>
where
    F: Fn(LambdaEvent<Value>) -> R + Send + Sync,
    R: Future<Output = Result<Value, Diagnostic>> + Send,
{
    async fn invoke(&self, event: LambdaEvent<Value>) -> Result<Value, Diagnostic> {
        (self.0)(event).await
    }
}

/// A function made of a closure over its environment.
pub(crate) fn toy<F, R>(make: impl Fn(Environment) -> F + Send + Sync + 'static) -> Factory
where
    F: Fn(LambdaEvent<Value>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Value, Diagnostic>> + Send + 'static,
{
    Arc::new(move |environment| {
        let function: Arc<dyn Function> = Arc::new(Toy(make(environment)));
        async move { Ok(function) }.boxed()
    })
}

/// A function that answers at once.
pub(crate) fn answering(
    answer: impl Fn(Value) -> Result<Value, Diagnostic> + Clone + Send + Sync + 'static,
) -> Factory {
    toy(move |_| {
        let answer = answer.clone();
        move |event: LambdaEvent<Value>| {
            let answered = answer(event.payload);
            async move { answered }
        }
    })
}

/// A function that tells what it was given, and succeeds.
pub(crate) fn telling() -> (Factory, tokio::sync::mpsc::UnboundedReceiver<Value>) {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    let factory = answering(move |payload| {
        tell.send(payload).unwrap();
        Ok(Value::Null)
    });
    (factory, told)
}

pub(crate) fn failing(error: &str) -> Diagnostic {
    Diagnostic {
        error_type: error.to_owned(),
        error_message: "as the test wants it".to_owned(),
    }
}

pub(crate) fn functions<const N: usize>(functions: [(&str, Factory); N]) -> Functions {
    functions
        .map(|(name, factory)| (name.to_owned(), factory))
        .into()
}

pub(crate) fn options(template: &Path, functions: Functions) -> Options {
    Options {
        template: template.to_owned(),
        data: None,
        port: 0,
        clock: Clock::manual(1_700_000_000_000),
        functions,
        environment: BTreeMap::new(),
        lambda_url: None,
        schedules: false,
        supervisor: None,
        parameters: BTreeMap::new(),
        secrets: BTreeMap::new(),
        objects: BTreeMap::new(),
    }
}

/// The small cloud, or one of another text.
pub(crate) async fn cloud_of(
    text: &str,
    functions: Functions,
) -> Result<Cloud, towpath_local::Error> {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("template.yaml");
    std::fs::write(&template, text).unwrap();
    Cloud::start(options(&template, functions)).await
}

/// Sends a request and reads the whole answer.
pub(crate) async fn send(request: Request<Vec<u8>>) -> Response<Vec<u8>> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = request.map(|body| Full::new(Bytes::from(body)));
    let (parts, body) = client.request(request).await.unwrap().into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes().to_vec())
}

fn credentials(environment: &Environment) -> aws_sdk_dynamodb::config::Credentials {
    let variable = |name: &str| environment[name].clone();
    aws_sdk_dynamodb::config::Credentials::new(
        variable("AWS_ACCESS_KEY_ID"),
        variable("AWS_SECRET_ACCESS_KEY"),
        None,
        None,
        "test",
    )
}

/// The real DynamoDB client, as a function would build it.
pub(crate) fn dynamodb(environment: &Environment) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version_latest()
        .region(aws_sdk_dynamodb::config::Region::new(
            environment["AWS_REGION"].clone(),
        ))
        .endpoint_url(environment["AWS_ENDPOINT_URL_DYNAMODB"].clone())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .retry_config(aws_sdk_dynamodb::config::retry::RetryConfig::disabled())
        .credentials_provider(credentials(environment));
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

/// The real Step Functions client.
pub(crate) fn states(environment: &Environment) -> aws_sdk_sfn::Client {
    let config = aws_sdk_sfn::Config::builder()
        .behavior_version_latest()
        .region(aws_sdk_sfn::config::Region::new(
            environment["AWS_REGION"].clone(),
        ))
        .endpoint_url(environment["AWS_ENDPOINT_URL_SFN"].clone())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .retry_config(aws_sdk_sfn::config::retry::RetryConfig::disabled())
        .credentials_provider(credentials(environment));
    aws_sdk_sfn::Client::from_conf(config.build())
}

/// A call of an operation that there is no client for here, signed as an SDK signs it.
pub(crate) fn signed(
    environment: &Environment,
    service: &str,
    target: &str,
    body: &str,
) -> Request<Vec<u8>> {
    signed_at(environment, service, target, body, SystemTime::now())
}

/// A request that was signed at `time`.
pub(crate) fn signed_at(
    environment: &Environment,
    service: &str,
    target: &str,
    body: &str,
    time: SystemTime,
) -> Request<Vec<u8>> {
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
    let url = environment["AWS_ENDPOINT_URL"].clone() + "/";
    let identity = credentials(environment).into();
    let params = aws_sigv4::sign::v4::SigningParams::builder()
        .identity(&identity)
        .region(&environment["AWS_REGION"])
        .name(service)
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let headers = [("x-amz-target", target)].into_iter();
    let request = SignableRequest::new("POST", &url, headers, SignableBody::Bytes(body.as_bytes()));
    let (instructions, _) = sign(request.unwrap(), &params).unwrap().into_parts();
    let mut request = Request::post(&url)
        .header("x-amz-target", target)
        .body(body.as_bytes().to_vec())
        .unwrap();
    instructions.apply_to_request_http1x(&mut request);
    request
}
