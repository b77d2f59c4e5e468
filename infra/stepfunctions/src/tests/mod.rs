//! Behaviour, as a user of the API sees it. Functions are played by the test: each call waits for the test's answer.

mod api;
mod durable;
mod full_disk;
mod language;
mod machine;
mod old_machine;
mod refused;
mod tasks;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tower::ServiceExt as _;
use towpath_clock::Clock;

use crate::drive::Driver;
use crate::store::Store;
use crate::{Invoke, InvokeError, Options, StatusChange, StatusListener, StepFunctions};

const NOW: u64 = 1_700_000_000_000;

/// A call of a function, which the test is to answer.
struct Call {
    function: String,
    payload: Value,
    reply: oneshot::Sender<Result<Value, InvokeError>>,
}

impl Call {
    fn token(&self) -> String {
        self.payload["token"]
            .as_str()
            .expect("the payload has the token")
            .to_owned()
    }

    fn returns(self, value: Value) {
        self.reply.send(Ok(value)).ok();
    }

    fn fails(self, error: &str) {
        self.reply
            .send(Err(InvokeError {
                error: error.to_owned(),
                cause: "on purpose".to_owned(),
            }))
            .ok();
    }
}

struct Functions(mpsc::UnboundedSender<Call>);

#[async_trait]
impl Invoke for Functions {
    async fn invoke(&self, function: &str, payload: Value) -> Result<Value, InvokeError> {
        let (reply, answer) = oneshot::channel();
        let lost = || InvokeError {
            error: "Test.Gone".to_owned(),
            cause: String::new(),
        };
        self.0
            .send(Call {
                function: function.to_owned(),
                payload,
                reply,
            })
            .map_err(|_| lost())?;
        // A call that the test never answers hangs, as a function may.
        match answer.await {
            Ok(answer) => answer,
            Err(_) => std::future::pending().await,
        }
    }
}

struct Listener(mpsc::UnboundedSender<StatusChange>);

impl StatusListener for Listener {
    fn status_changed(&self, change: StatusChange) {
        self.0.send(change).ok();
    }
}

/// A Step Functions, the functions it calls and who hears of its executions.
struct World {
    clock: Clock,
    sfn: StepFunctions,
    calls: mpsc::UnboundedReceiver<Call>,
    changes: mpsc::UnboundedReceiver<StatusChange>,
}

impl World {
    fn new() -> Self {
        Self::open(None, Clock::manual(NOW))
    }

    fn open(file: Option<&Path>, clock: Clock) -> Self {
        Self::open_store(Store::open(file).expect("the store opens"), clock)
    }

    fn open_store(store: Store, clock: Clock) -> Self {
        let (call, calls) = mpsc::unbounded_channel();
        let (change, changes) = mpsc::unbounded_channel();
        let options = Options {
            file: None,
            clock: clock.clone(),
            invoker: Arc::new(Functions(call)),
            listener: Arc::new(Listener(change)),
            region: "eu-central-1".to_owned(),
            account: "123456789012".to_owned(),
        };
        let driver = Driver::with_store(options, store).expect("the driver starts");
        Self {
            clock,
            sfn: StepFunctions { driver },
            calls,
            changes,
        }
    }

    /// A world with one machine, `m`.
    fn with(definition: Value) -> Self {
        let world = Self::new();
        world.define(definition);
        world
    }

    fn define(&self, definition: Value) -> String {
        self.sfn
            .create_state_machine("m", &definition)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// A request to the API: its HTTP status and body.
    async fn ask(&self, operation: &str, body: Value) -> (u16, Value) {
        let request = Request::post("/")
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", format!("AWSStepFunctions.{operation}"))
            .body(Body::from(body.to_string()))
            .unwrap();
        let response = self.sfn.router().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    /// A request that is to succeed.
    async fn api(&self, operation: &str, body: Value) -> Value {
        let (status, answer) = self.ask(operation, body).await;
        assert_eq!(status, 200, "{operation}: {answer}");
        answer
    }

    /// The `__type` of a refusal.
    async fn refused(&self, operation: &str, body: Value) -> String {
        let (status, answer) = self.ask(operation, body).await;
        assert_eq!(status, 400, "{operation}: {answer}");
        assert!(answer["message"].is_string(), "{answer}");
        answer["__type"].as_str().unwrap().to_owned()
    }

    /// Starts an execution of `m` and returns its ARN.
    async fn start(&self, name: &str, input: Value) -> String {
        let body = json!({ "stateMachineArn": MACHINE, "name": name, "input": input.to_string() });
        let answer = self.api("StartExecution", body).await;
        answer["executionArn"].as_str().unwrap().to_owned()
    }

    async fn call(&mut self) -> Call {
        self.calls.recv().await.expect("a function is called")
    }

    async fn describe(&self, execution: &str) -> Value {
        self.api("DescribeExecution", json!({ "executionArn": execution }))
            .await
    }

    /// Waits until an execution is closed, and describes it.
    async fn closed(&mut self, execution: &str) -> Value {
        loop {
            let change = self.changes.recv().await.expect("the listener lives");
            if change.execution_arn == execution && change.status != "RUNNING" {
                return self.describe(execution).await;
            }
        }
    }

    async fn succeed(&self, token: &str, output: Value) {
        self.api(
            "SendTaskSuccess",
            json!({ "taskToken": token, "output": output.to_string() }),
        )
        .await;
    }

    /// The types of the events so far.
    async fn events(&self, execution: &str) -> Vec<String> {
        let history = self
            .api(
                "GetExecutionHistory",
                json!({ "executionArn": execution, "maxResults": 1000 }),
            )
            .await;
        let events = history["events"].as_array().unwrap();
        events
            .iter()
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Lets everything else run until the last event is of this type for the `count`th time.
    async fn until_event(&self, execution: &str, kind: &str, count: usize) {
        while self
            .events(execution)
            .await
            .iter()
            .filter(|event| *event == kind)
            .count()
            < count
        {
            tokio::task::yield_now().await;
        }
    }

    fn advance_ms(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }

    /// Runs an execution of states that need no function, and describes it closed.
    async fn result(definition: Value, input: Value) -> Value {
        let mut world = Self::with(definition);
        let execution = world.start("e", input).await;
        world.closed(&execution).await
    }
}

const MACHINE: &str = "arn:aws:states:eu-central-1:123456789012:stateMachine:m";

/// A machine with a task `Work` and whatever else the test adds to it.
fn work(resource: &str, fields: Value) -> Value {
    let mut state = json!({
        "Type": "Task",
        "Resource": format!("arn:aws:states:::lambda:{resource}"),
        "Arguments": { "FunctionName": "work", "Payload": {
            "token": if resource == "invoke" { Value::Null } else { json!("{% $states.context.Task.Token %}") },
            "entered": "{% $states.context.State.EnteredTime %}",
            "retry": "{% $states.context.State.RetryCount %}",
        } },
        "End": true,
    });
    state
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    if state.get("Next").is_some() {
        state.as_object_mut().unwrap().remove("End");
    }
    json!({ "QueryLanguage": "JSONata", "StartAt": "Work", "States": { "Work": state } })
}

/// A machine of these states, beginning with the one named `A`.
fn states(states: Value) -> Value {
    json!({ "QueryLanguage": "JSONata", "StartAt": "A", "States": states })
}

/// The output of a closed execution.
fn output(described: &Value) -> Value {
    assert_eq!(described["status"], "SUCCEEDED", "{described}");
    serde_json::from_str(described["output"].as_str().unwrap()).unwrap()
}
