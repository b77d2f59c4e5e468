//! A server that speaks as ECS does, and whose tasks are processes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::machines::{Machine, Machines};

/// An ECS cluster, behind a local server that speaks its API.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) url: String,
    pub(crate) machines: Machines,
    definitions: Arc<Mutex<BTreeMap<String, Value>>>,
    /// Whether the reply to each first request for a task is lost.
    pub(crate) loses_replies: Arc<AtomicBool>,
    replied: Arc<Mutex<BTreeSet<String>>>,
}

const ARN: &str = "arn:aws:ecs:us-east-1:000000000000:task/jobs/";

impl Cluster {
    pub(crate) async fn start(machines: Machines) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cluster = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            machines,
            definitions: Arc::default(),
            loses_replies: Arc::default(),
            replied: Arc::default(),
        };
        let router = axum::Router::new()
            .fallback(answer)
            .with_state(cluster.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        cluster
    }

    /// The environment of a function that runs tasks here.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL_ECS", self.url.clone()),
            ("ECS_CLUSTER", "jobs".to_owned()),
            ("ECS_SUBNETS", "subnet-1".to_owned()),
            ("ECS_TASK_ROLE", "arn:task".to_owned()),
            ("ECS_EXECUTION_ROLE", "arn:execution".to_owned()),
            ("ECS_LOG_GROUP", "/jobs".to_owned()),
        ]
    }

    /// Runs another task like that of a job, as ECS would that has forgotten the token.
    pub(crate) fn run_again(&self, of: &Machine) -> usize {
        self.run("again", &of.script, of.environment.clone())
    }

    fn run(&self, token: &str, script: &str, mut variables: BTreeMap<String, String>) -> usize {
        // The number that the machine is going to have is not known yet: the address ends with a name of its own.
        let name = format!("{token}-{}", self.machines.of(token).len());
        let metadata = format!("{}/metadata/{name}", self.url);
        variables.insert("ECS_CONTAINER_METADATA_URI_V4".to_owned(), metadata);
        self.machines.start(token, script, variables)
    }

    fn call(&self, operation: &str, request: &Value) -> Result<Value, &'static str> {
        let text = |name: &str| request[name].as_str().unwrap();
        let number = |arn: &str| self.number(arn.strip_prefix(ARN)?);
        match operation {
            "DescribeTaskDefinition" => {
                let definitions = self.definitions.lock().unwrap();
                let found = definitions.contains_key(text("taskDefinition"));
                let found = found.then(|| json!({ "taskDefinition": { "status": "ACTIVE" } }));
                found.ok_or("ClientException")
            }
            "RegisterTaskDefinition" => {
                let mut definitions = self.definitions.lock().unwrap();
                definitions.insert(text("family").to_owned(), request.clone());
                Ok(json!({}))
            }
            "RunTask" => {
                let token = text("clientToken");
                // Held until the task is there: of two requests at once, the second finds it.
                let definitions = self.definitions.lock().unwrap();
                if self.machines.of(token).is_empty() {
                    let of = &definitions[text("taskDefinition")];
                    let script = of["containerDefinitions"][0]["entryPoint"][2].as_str();
                    let variables =
                        request["overrides"]["containerOverrides"][0]["environment"].as_array();
                    let variables = variables.unwrap().iter().map(|it| {
                        let part = |name: &str| it[name].as_str().unwrap().to_owned();
                        (part("name"), part("value"))
                    });
                    self.run(token, script.unwrap(), variables.collect());
                }
                Ok(json!({ "tasks": [{ "taskArn": format!("{ARN}{token}-0") }] }))
            }
            "DescribeTasks" => {
                let arn = request["tasks"][0].as_str().unwrap();
                let machine = number(arn).and_then(|number| self.machines.get(number));
                Ok(match machine {
                    Some(machine) => json!({ "tasks": [shown(&machine)] }),
                    None => json!({ "failures": [{ "arn": arn, "reason": "MISSING" }] }),
                })
            }
            "StopTask" => {
                let number = number(text("task")).ok_or("InvalidParameterException")?;
                self.machines.stop(number);
                Ok(json!({}))
            }
            other => panic!("{other}"),
        }
    }

    /// The number of the machine of this name: what it was asked for with, and how many of these were before it.
    fn number(&self, name: &str) -> Option<usize> {
        let (token, at) = name.rsplit_once('-')?;
        let of = self.machines.of(token);
        of.get(at.parse::<usize>().ok()?).map(|(number, _)| *number)
    }
}

fn shown(machine: &Machine) -> Value {
    match machine.ended {
        None => json!({ "lastStatus": "RUNNING" }),
        Some(code) => {
            let stop = match machine.stopped {
                true => "UserInitiated",
                false => "EssentialContainerExited",
            };
            json!({
                "lastStatus": "STOPPED", "stopCode": stop, "stoppedReason": "it has ended",
                "containers": [{ "exitCode": code }],
            })
        }
    }
}

async fn answer(
    State(cluster): State<Cluster>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(name) = uri.path().strip_prefix("/metadata/") {
        let name = name.strip_suffix("/task").unwrap();
        let task = json!({ "Cluster": "jobs", "TaskARN": format!("{ARN}{name}"), "Family": "f" });
        return task.to_string().into_response();
    }
    let target = headers["x-amz-target"].to_str().unwrap();
    let operation = target.split_once('.').unwrap().1;
    let request: Value = serde_json::from_slice(&body).unwrap();
    let answered = cluster.call(operation, &request);
    let first = operation == "RunTask"
        && cluster
            .replied
            .lock()
            .unwrap()
            .insert(request["clientToken"].to_string());
    if first && cluster.loses_replies.load(Ordering::SeqCst) {
        return (StatusCode::INTERNAL_SERVER_ERROR, "").into_response();
    }
    match answered {
        Ok(body) => body.to_string().into_response(),
        Err(code) => {
            let body = json!({ "__type": code, "message": "no" }).to_string();
            (StatusCode::BAD_REQUEST, body).into_response()
        }
    }
}
