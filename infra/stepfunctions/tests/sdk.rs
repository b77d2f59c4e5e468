//! The real AWS SDK talks to it, over a socket, and understands its answers and its refusals.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic, its helpers too"
)]

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_sfn::Client;
use aws_sdk_sfn::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sfn::types::{ExecutionStatus, HistoryEvent, HistoryEventType};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use towpath_clock::Clock;
use towpath_stepfunctions::{
    Invoke, InvokeError, Options, StatusChange, StatusListener, StepFunctions,
};

struct Tokens(mpsc::UnboundedSender<String>);

#[async_trait]
impl Invoke for Tokens {
    async fn invoke(&self, _: &str, payload: Value) -> Result<Value, InvokeError> {
        self.0
            .send(payload["token"].as_str().unwrap().to_owned())
            .unwrap();
        Ok(Value::Null)
    }
}

struct Ends(mpsc::UnboundedSender<StatusChange>);

impl StatusListener for Ends {
    fn status_changed(&self, change: StatusChange) {
        if change.status != "RUNNING" {
            self.0.send(change).ok();
        }
    }
}

/// A service with a machine `m` of one wait, behind a socket.
struct World {
    client: Client,
    machine: String,
    tokens: mpsc::UnboundedReceiver<String>,
    ends: mpsc::UnboundedReceiver<StatusChange>,
    _sfn: StepFunctions,
}

impl World {
    async fn new() -> Self {
        let (token, tokens) = mpsc::unbounded_channel();
        let (end, ends) = mpsc::unbounded_channel();
        let sfn = StepFunctions::open(Options {
            file: None,
            clock: Clock::manual(1_700_000_000_500),
            invoker: Arc::new(Tokens(token)),
            listener: Arc::new(Ends(end)),
            region: "eu-central-1".to_owned(),
            account: "123456789012".to_owned(),
        })
        .unwrap();
        let definition = json!({ "QueryLanguage": "JSONata", "StartAt": "Wait", "States": { "Wait": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
            "Arguments": { "FunctionName": "f", "Payload": { "token": "{% $states.context.Task.Token %}" } },
            "End": true,
        } } });
        let machine = sfn.create_state_machine("m", &definition).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = client(&format!("http://{}", listener.local_addr().unwrap()));
        let router = sfn.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            client,
            machine,
            tokens,
            ends,
            _sfn: sfn,
        }
    }

    /// Starts the execution `e`: its ARN and the token that it waits for.
    async fn start(&mut self) -> (String, String) {
        let start = self.client.start_execution();
        let start = start.state_machine_arn(&self.machine).name("e").input("{}");
        let started = start.clone().send().await.unwrap();
        assert_eq!(started.start_date().to_millis().unwrap(), 1_700_000_000_500);
        let again = start.send().await.unwrap();
        assert_eq!(again.execution_arn(), started.execution_arn());
        (
            started.execution_arn().to_owned(),
            self.tokens.recv().await.unwrap(),
        )
    }
}

fn client(url: &str) -> Client {
    let credentials = Credentials::builder()
        .access_key_id("local")
        .secret_access_key("local")
        .provider_name("test")
        .build();
    let config = aws_sdk_sfn::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(url)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .credentials_provider(credentials)
        .build();
    Client::from_conf(config)
}

#[tokio::test]
async fn an_sdk_client_runs_an_execution_and_looks_at_it() {
    let mut world = World::new().await;
    let (execution, token) = world.start().await;
    let client = &world.client;
    let beat = client.send_task_heartbeat().task_token(&token);
    beat.send().await.unwrap();
    let success = client.send_task_success().task_token(&token);
    success.output(r#"{"x":1}"#).send().await.unwrap();
    world.ends.recv().await.unwrap();

    let describe = client.describe_execution().execution_arn(&execution);
    let described = describe.send().await.unwrap();
    assert_eq!(described.status(), &ExecutionStatus::Succeeded);
    assert_eq!(described.output(), Some(r#"{"x":1}"#));
    assert!(described.stop_date().is_some());
    let history = client.get_execution_history().execution_arn(&execution);
    let history = history.send().await.unwrap();
    let mut events = history.events().iter();
    let scheduled = events.find(|e| e.r#type() == &HistoryEventType::TaskScheduled);
    let details = scheduled.unwrap().task_scheduled_event_details().unwrap();
    assert_eq!(details.resource(), "invoke.waitForTaskToken");
    let known = |e: &HistoryEvent| e.r#type().as_str() != "unknown";
    assert!(history.events().iter().all(known));
    let list = client.list_executions().state_machine_arn(&world.machine);
    assert_eq!(list.send().await.unwrap().executions()[0].name(), "e");
    let machines = client.list_state_machines().send().await.unwrap();
    assert_eq!(
        machines.state_machines()[0].state_machine_arn(),
        world.machine
    );
    let machine = client
        .describe_state_machine()
        .state_machine_arn(&world.machine);
    let machine = machine.send().await.unwrap();
    assert!(machine.definition().contains("waitForTaskToken"));
}

#[tokio::test]
async fn an_sdk_client_fails_a_task_with_an_error_and_a_cause() {
    let mut world = World::new().await;
    let (execution, token) = world.start().await;
    let failure = world.client.send_task_failure().task_token(&token);
    let failure = failure.error("Towpath.Over").cause("the end");
    failure.clone().send().await.unwrap();
    world.ends.recv().await.unwrap();
    let describe = world.client.describe_execution().execution_arn(&execution);
    let described = describe.send().await.unwrap();
    assert_eq!(described.status(), &ExecutionStatus::Failed);
    assert_eq!(
        (described.error(), described.cause()),
        (Some("Towpath.Over"), Some("the end"))
    );
    let again = failure.send().await.unwrap_err().into_service_error();
    assert!(again.is_task_timed_out(), "{again:?}");
    let beat = world.client.send_task_heartbeat().task_token(&token);
    let beat = beat.send().await.unwrap_err().into_service_error();
    assert!(beat.is_task_timed_out(), "{beat:?}");
}

#[tokio::test]
async fn an_sdk_client_understands_the_refusals() {
    let mut world = World::new().await;
    let (execution, token) = world.start().await;
    let client = &world.client;
    let success = client.send_task_success().task_token(&token).output("1");
    success.clone().send().await.unwrap();
    world.ends.recv().await.unwrap();

    let late = success.send().await.unwrap_err().into_service_error();
    assert!(late.is_task_timed_out(), "{late:?}");
    let nonsense = client.send_task_failure().task_token("nonsense");
    let nonsense = nonsense.send().await.unwrap_err().into_service_error();
    assert!(nonsense.is_invalid_token(), "{nonsense:?}");
    let other = World::new().await.start().await.1;
    let other = client.send_task_heartbeat().task_token(other);
    let other = other.send().await.unwrap_err().into_service_error();
    assert!(other.is_task_does_not_exist(), "{other:?}");
    let again = client.start_execution().state_machine_arn(&world.machine);
    let again = again.name("e").input("{}").send().await;
    let again = again.unwrap_err().into_service_error();
    assert!(again.is_execution_already_exists(), "{again:?}");
    let none = client.describe_execution();
    let none = none.execution_arn(format!("{execution}x")).send().await;
    let none = none.unwrap_err().into_service_error();
    assert!(none.is_execution_does_not_exist(), "{none:?}");
    let stop = client.stop_execution().execution_arn("e").send().await;
    let stop = stop.unwrap_err().into_service_error();
    assert!(stop.is_invalid_arn(), "{stop:?}");
}
