//! A cloud with a WebSocket API, and clients of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Clippy does not see that these are tests.

use std::future::Future;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use lambda_runtime::{Diagnostic, LambdaEvent};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use towpath_aws::{Clients, Connections, Settings};
use towpath_clock::Clock;
use towpath_local::Cloud;

use super::{functions, options, toy};

/// A template with the WebSocket API of a function, behind a front and by itself. Another function may not push.
pub(crate) const SOCKETS: &str = "
Transform: AWS::Serverless-2016-10-31
Globals: { Function: { Timeout: 20 } }
Resources:
  Api: { Type: AWS::Serverless::HttpApi }
  Sockets:
    Type: AWS::ApiGatewayV2::Api
    Properties: { Name: any, ProtocolType: WEBSOCKET, RouteSelectionExpression: $request.body.event }
  Stage:
    Type: AWS::ApiGatewayV2::Stage
    Properties: { ApiId: !Ref Sockets, StageName: live, AutoDeploy: true }
  Integration:
    Type: AWS::ApiGatewayV2::Integration
    Properties:
      ApiId: !Ref Sockets
      IntegrationType: AWS_PROXY
      IntegrationUri: !Sub arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Socket.Arn}/invocations
  ConnectRoute:
    Type: AWS::ApiGatewayV2::Route
    Properties: { ApiId: !Ref Sockets, RouteKey: $connect, Target: !Sub 'integrations/${Integration}' }
  DisconnectRoute:
    Type: AWS::ApiGatewayV2::Route
    Properties: { ApiId: !Ref Sockets, RouteKey: $disconnect, Target: !Sub 'integrations/${Integration}' }
  MessageRoute:
    Type: AWS::ApiGatewayV2::Route
    Properties: { ApiId: !Ref Sockets, RouteKey: $default, Target: !Sub 'integrations/${Integration}' }
  Permission:
    Type: AWS::Lambda::Permission
    Properties:
      FunctionName: !GetAtt Socket.Arn
      Action: lambda:InvokeFunction
      Principal: apigateway.amazonaws.com
      SourceArn: !Sub arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${Sockets}/live/*
  Push:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      PolicyDocument:
        Statement:
          - Effect: Allow
            Action: execute-api:ManageConnections
            Resource: !Sub arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${Sockets}/live/*/@connections/*
  Socket:
    Type: AWS::Serverless::Function
    Properties:
      Environment: { Variables: { EXECUTOR_SOCKETS: !Sub 'https://${Sockets}.execute-api.${AWS::Region}.${AWS::URLSuffix}/live' } }
      Policies: [!Ref Push]
  Stranger: { Type: AWS::Serverless::Function, Properties: {} }
  FrontFunction: { Type: AWS::CloudFront::Function, Properties: {} }
  Front:
    Type: AWS::CloudFront::Distribution
    Properties:
      DistributionConfig:
        Enabled: true
        Origins:
          - { Id: api, DomainName: !Sub '${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}' }
          - { Id: sockets, DomainName: !Sub '${Sockets}.execute-api.${AWS::Region}.${AWS::URLSuffix}', OriginPath: /live }
        DefaultCacheBehavior:
          TargetOriginId: api
          FunctionAssociations: [{ EventType: viewer-request, FunctionARN: !GetAtt FrontFunction.FunctionARN }]
        CacheBehaviors:
          - PathPattern: /ws/executors/*
            TargetOriginId: sockets
            FunctionAssociations: [{ EventType: viewer-request, FunctionARN: !GetAtt FrontFunction.FunctionARN }]
Outputs:
  Front: { Value: !Sub 'wss://${Front.DomainName}/ws/executors/' }
  Direct: { Value: !Sub 'wss://${Sockets}.execute-api.${AWS::Region}.${AWS::URLSuffix}/live?executor=' }
  Management: { Value: !Sub 'https://${Sockets}.execute-api.${AWS::Region}.${AWS::URLSuffix}/live' }
";

pub(crate) type Ws = WebSocketStream<TcpStream>;

/// A cloud with sockets, its time, and the events that its function was given.
pub(crate) struct Bench {
    pub(crate) cloud: Cloud,
    pub(crate) clock: Clock,
    pub(crate) told: UnboundedReceiver<Value>,
}

impl Bench {
    /// A cloud whose function admits everybody and answers every message at once.
    pub(crate) async fn new() -> Self {
        Self::answering(|_| async { Ok(json!({ "statusCode": 200, "body": "nobody sees this" })) })
            .await
    }

    /// A cloud whose function answers so.
    pub(crate) async fn answering<R>(
        answer: impl Fn(Value) -> R + Clone + Send + Sync + 'static,
    ) -> Self
    where
        R: Future<Output = Result<Value, Diagnostic>> + Send + 'static,
    {
        Self::of(SOCKETS, answer).await
    }

    /// A cloud of this template whose function answers so.
    pub(crate) async fn of<R>(
        template: &str,
        answer: impl Fn(Value) -> R + Clone + Send + Sync + 'static,
    ) -> Self
    where
        R: Future<Output = Result<Value, Diagnostic>> + Send + 'static,
    {
        let (tell, told) = unbounded_channel();
        let function = toy(move |_| {
            let (answer, tell) = (answer.clone(), tell.clone());
            move |event: LambdaEvent<Value>| {
                let _ = tell.send(event.payload.clone());
                answer(event.payload)
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("template.yaml");
        std::fs::write(&path, template).unwrap();
        let options = options(&path, functions([("Socket", function)]));
        let clock = options.clock.clone();
        let cloud = Cloud::start(options).await.unwrap();
        Self { cloud, clock, told }
    }

    /// Connects through the front.
    pub(crate) async fn dial(&self, target: &str) -> Result<Ws, StatusCode> {
        dial(&format!("{}{target}", self.cloud.output("Front").unwrap())).await
    }

    /// Connects an executor, and returns the id of its connection too.
    pub(crate) async fn connected(&mut self) -> (Ws, String) {
        let socket = self.dial("e-1").await.unwrap();
        let event = self.next("CONNECT").await;
        (socket, connection(&event))
    }

    /// The next event of a kind; others before it are passed over.
    pub(crate) async fn next(&mut self, kind: &str) -> Value {
        let next = async {
            loop {
                let event = self.told.recv().await.unwrap();
                if event["requestContext"]["eventType"] == kind {
                    return event;
                }
            }
        };
        patiently(next).await
    }

    /// The management API, as a function calls it.
    pub(crate) fn connections(&self, identity: &str) -> Connections {
        connections(&self.cloud, identity)
    }

    pub(crate) fn minutes(&self, minutes: u64) {
        self.clock.advance(Duration::from_secs(60 * minutes));
    }
}

/// Waits for what must come. The limit is for a test that would wait for ever; no machine is so slow.
pub(crate) async fn patiently<T>(what: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(300);
    tokio::time::timeout(limit, what)
        .await
        .expect("it never came")
}

/// The management API of a cloud, as a function calls it.
pub(crate) fn connections(cloud: &Cloud, identity: &str) -> Connections {
    let environment = cloud.aws_environment(identity);
    let settings = Settings::from_lookup(|name| environment.get(name).cloned()).unwrap();
    let clients = Clients::connect(&settings, None);
    clients.connections(&cloud.output("Management").unwrap())
}

/// The id of the connection that an event is about.
pub(crate) fn connection(event: &Value) -> String {
    event["requestContext"]["connectionId"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Connects to a URL, or returns the status of the refusal.
pub(crate) async fn dial(url: &str) -> Result<Ws, StatusCode> {
    dial_with(url, &[]).await
}

/// Connects with these headers.
pub(crate) async fn dial_with(
    url: &str,
    headers: &[(&'static str, &str)],
) -> Result<Ws, StatusCode> {
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(authority(&request)).await.unwrap();
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status()),
        Err(other) => panic!("{other}"),
    }
}

fn authority(request: &Request<()>) -> String {
    request.uri().authority().unwrap().to_string()
}

pub(crate) async fn say(socket: &mut Ws, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
}

/// The next text that a client is sent.
pub(crate) async fn heard(socket: &mut Ws) -> String {
    match patiently(socket.next()).await {
        Some(Ok(Message::Text(text))) => text.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The code and the reason with which a client's connection is closed.
pub(crate) async fn closed(socket: &mut Ws) -> (u16, String) {
    loop {
        match patiently(socket.next()).await {
            Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                return (code.into(), reason.to_string());
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("{other:?}"),
        }
    }
}
