//! A process that is killed while it works, for real: what it said is done is there afterwards.

#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt as _;
use towpath_clock::Clock;
use towpath_stepfunctions::{
    Invoke, InvokeError, Options, StatusChange, StatusListener, StepFunctions,
};

const FILE: &str = "TOWPATH_TEST_STORE";
const MACHINE: &str = "arn:aws:states:eu-central-1:123456789012:stateMachine:m";

struct Functions(mpsc::UnboundedSender<Value>);

#[async_trait]
impl Invoke for Functions {
    async fn invoke(&self, _: &str, payload: Value) -> Result<Value, InvokeError> {
        self.0.send(payload).ok();
        Ok(Value::Null)
    }
}

struct Deaf;

impl StatusListener for Deaf {
    fn status_changed(&self, _: StatusChange) {}
}

fn open(file: PathBuf) -> (StepFunctions, mpsc::UnboundedReceiver<Value>) {
    let (call, calls) = mpsc::unbounded_channel();
    let sfn = StepFunctions::open(Options {
        file: Some(file),
        clock: Clock::manual(1_700_000_000_000),
        invoker: Arc::new(Functions(call)),
        listener: Arc::new(Deaf),
        region: "eu-central-1".to_owned(),
        account: "123456789012".to_owned(),
    });
    (sfn.unwrap(), calls)
}

/// A request that is to succeed.
async fn api(sfn: &StepFunctions, operation: &str, body: Value) -> Value {
    let request = Request::post("/")
        .header("x-amz-target", format!("AWSStepFunctions.{operation}"))
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = sfn.router().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert!(status.is_success(), "{operation}: {bytes:?}");
    serde_json::from_slice(&bytes).unwrap()
}

/// Runs executions until it is killed, and says which have begun and which were answered. Does nothing unless the test
/// below calls for it.
#[tokio::test]
async fn works_until_killed() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let (sfn, mut calls) = open(file.into());
    sfn.create_state_machine(
        "m",
        &json!({ "QueryLanguage": "JSONata", "StartAt": "Wait", "States": { "Wait": {
            "Type": "Task",
            "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
            "Arguments": { "FunctionName": "f", "Payload": {
                "name": "{% $states.context.Execution.Name %}", "token": "{% $states.context.Task.Token %}" } },
            "End": true,
        } } }),
    )
    .unwrap();
    for i in 0.. {
        api(
            &sfn,
            "StartExecution",
            json!({ "stateMachineArn": MACHINE, "name": format!("e{i}") }),
        )
        .await;
        eprintln!("\nbegun e{i}");
        let call = calls.recv().await.unwrap();
        if i % 2 == 0 {
            api(
                &sfn,
                "SendTaskSuccess",
                json!({ "taskToken": call["token"], "output": "1" }),
            )
            .await;
            eprintln!("\nanswered e{i}");
        }
    }
}

#[tokio::test]
async fn what_a_killed_process_said_is_done_is_done() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("stepfunctions.sqlite");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "works_until_killed", "--nocapture"])
        .env(FILE, &file)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut begun, mut answered) = (HashSet::new(), HashSet::new());
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while answered.len() < 50 {
        let line = lines.next().expect("it works until it is killed").unwrap();
        match line.split_once(' ') {
            Some(("begun", name)) => begun.insert(name.to_owned()),
            Some(("answered", name)) => answered.insert(name.to_owned()),
            _ => continue,
        };
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines.map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("begun", name)) => begun.insert(name.to_owned()),
            Some(("answered", name)) => answered.insert(name.to_owned()),
            _ => continue,
        };
    }

    let (sfn, _calls) = open(file);
    sfn.resume();
    for name in &begun {
        let arn = format!("arn:aws:states:eu-central-1:123456789012:execution:m:{name}");
        let status =
            api(&sfn, "DescribeExecution", json!({ "executionArn": arn })).await["status"].clone();
        if answered.contains(name) {
            assert_eq!(status, "SUCCEEDED", "{name} was answered");
        } else if name != &format!("e{}", begun.len() - 1) {
            assert_eq!(status, "RUNNING", "{name} waits");
        }
    }
}
