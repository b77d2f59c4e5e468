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
use aws_sdk_sfn::types::{ExecutionStatus, HistoryEventType};
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

#[tokio::test]
async fn an_sdk_client_runs_an_execution_and_reads_the_refusals() {
    let (token, mut tokens) = mpsc::unbounded_channel();
    let (end, mut ends) = mpsc::unbounded_channel();
    let clock = Clock::manual(1_700_000_000_500);
    let sfn = StepFunctions::open(Options {
        file: None,
        clock,
        invoker: Arc::new(Tokens(token)),
        listener: Arc::new(Ends(end)),
        region: "eu-central-1".to_owned(),
        account: "123456789012".to_owned(),
    })
    .unwrap();
    let machine = sfn
        .create_state_machine(
            "m",
            &json!({ "QueryLanguage": "JSONata", "StartAt": "Wait", "States": { "Wait": {
                "Type": "Task",
                "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
                "Arguments": { "FunctionName": "f", "Payload": { "token": "{% $states.context.Task.Token %}" } },
                "End": true,
            } } }),
        )
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = sfn.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = aws_sdk_sfn::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(format!("http://{address}"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .credentials_provider(
            Credentials::builder()
                .access_key_id("local")
                .secret_access_key("local")
                .provider_name("test")
                .build(),
        )
        .build();
    let client = Client::from_conf(config);

    let start = client
        .start_execution()
        .state_machine_arn(&machine)
        .name("e")
        .input("{}");
    let started = start.clone().send().await.unwrap();
    assert_eq!(started.start_date().to_millis().unwrap(), 1_700_000_000_500);
    let execution = started.execution_arn();
    assert_eq!(
        start.clone().send().await.unwrap().execution_arn(),
        execution
    );
    let token = tokens.recv().await.unwrap();
    client
        .send_task_heartbeat()
        .task_token(&token)
        .send()
        .await
        .unwrap();
    client
        .send_task_success()
        .task_token(&token)
        .output(r#"{"x":1}"#)
        .send()
        .await
        .unwrap();
    ends.recv().await.unwrap();

    let described = client
        .describe_execution()
        .execution_arn(execution)
        .send()
        .await
        .unwrap();
    assert_eq!(described.status(), &ExecutionStatus::Succeeded);
    assert_eq!(described.output(), Some(r#"{"x":1}"#));
    assert!(described.stop_date().is_some());
    let history = client
        .get_execution_history()
        .execution_arn(execution)
        .send()
        .await
        .unwrap();
    let scheduled = history
        .events()
        .iter()
        .find(|e| e.r#type() == &HistoryEventType::TaskScheduled);
    let details = scheduled.unwrap().task_scheduled_event_details().unwrap();
    assert_eq!(details.resource(), "invoke.waitForTaskToken");
    assert!(
        history
            .events()
            .iter()
            .all(|e| e.r#type().as_str() != "unknown")
    );
    let listed = client
        .list_executions()
        .state_machine_arn(&machine)
        .send()
        .await
        .unwrap();
    assert_eq!(listed.executions()[0].name(), "e");
    let machines = client.list_state_machines().send().await.unwrap();
    assert_eq!(machines.state_machines()[0].state_machine_arn(), machine);
    let machine = client
        .describe_state_machine()
        .state_machine_arn(&machine)
        .send()
        .await
        .unwrap();
    assert!(machine.definition().contains("waitForTaskToken"));

    let late = client
        .send_task_success()
        .task_token(&token)
        .output("1")
        .send()
        .await;
    assert!(late.unwrap_err().into_service_error().is_task_timed_out());
    let nonsense = client
        .send_task_failure()
        .task_token("nonsense")
        .send()
        .await;
    assert!(
        nonsense
            .unwrap_err()
            .into_service_error()
            .is_invalid_token()
    );
    let again = start.send().await.unwrap_err().into_service_error();
    assert!(again.is_execution_already_exists(), "{again:?}");
    let none = client
        .describe_execution()
        .execution_arn(format!("{execution}x"))
        .send()
        .await;
    assert!(
        none.unwrap_err()
            .into_service_error()
            .is_execution_does_not_exist()
    );
    let stop = client.stop_execution().execution_arn("e").send().await;
    assert!(stop.unwrap_err().into_service_error().is_invalid_arn());
}
