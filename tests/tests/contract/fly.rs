//! A server that speaks as the machines API of Fly.io does, and whose machines are processes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::machines::{Machine, Machines};

/// An app.
#[derive(Clone)]
pub(crate) struct FlyApp {
    pub(crate) url: String,
    pub(crate) machines: Machines,
    /// Whether the reply to each first request for a machine is lost.
    pub(crate) loses_replies: Arc<AtomicBool>,
    replied: Arc<Mutex<BTreeSet<String>>>,
    /// Held while a machine is made: of two requests at once, the second finds it.
    making: Arc<Mutex<()>>,
}

impl FlyApp {
    pub(crate) async fn start(machines: Machines) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            machines,
            loses_replies: Arc::default(),
            replied: Arc::default(),
            making: Arc::default(),
        };
        let router = axum::Router::new().fallback(answer).with_state(app.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        app
    }

    /// The environment of a function that runs machines here. `token_in` is a secret, whatever it holds.
    pub(crate) fn environment(&self, token_in: String) -> Vec<(&'static str, String)> {
        vec![
            ("FLY_API_URL", self.url.clone()),
            ("FLY_APP", "jobs".to_owned()),
            ("FLY_TOKEN_SECRET", token_in),
        ]
    }

    /// Runs another machine like that of a job, as if its name had been free.
    pub(crate) fn run_again(&self, of: &Machine) -> usize {
        let mut variables = of.environment.clone();
        variables.insert("FLY_MACHINE_ID".to_owned(), id("again"));
        self.machines.start("again", &of.script, variables)
    }

    fn create(&self, asked: &Value) -> (u16, Value) {
        let _held = self.making.lock().unwrap();
        let name = asked["name"].as_str().unwrap();
        if !self.machines.of(name).is_empty() {
            let why = format!(
                "already_exists: unique machine name violation, machine ID {} already exists with name \"{name}\"",
                id(name)
            );
            return (409, json!({ "error": why }));
        }
        let variables = asked["config"]["env"].as_object().unwrap().iter();
        let variables = variables.map(|(name, value)| {
            let value = value.as_str().unwrap();
            (name.clone(), value.to_owned())
        });
        let own = ("FLY_MACHINE_ID".to_owned(), id(name));
        let script = asked["config"]["init"]["exec"][2].as_str().unwrap();
        self.machines
            .start(name, script, variables.chain([own]).collect());
        (
            200,
            json!({ "id": id(name), "name": name, "state": "created" }),
        )
    }

    fn call(&self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        let rest = path.strip_prefix("/v1/apps/jobs/machines").unwrap();
        if rest.is_empty() {
            assert_eq!(method, Method::POST);
            return self.create(body);
        }
        let (of, then) = rest[1..].split_once('/').unwrap_or((&rest[1..], ""));
        let Some((number, machine)) = self.machines.of(&key(of)).into_iter().next() else {
            return (404, json!({ "error": "machine not found" }));
        };
        match (method.as_str(), then) {
            ("GET", "") => (200, shown(&machine)),
            ("POST", "stop") => {
                self.machines.stop(number);
                (200, json!({ "ok": true }))
            }
            ("GET", "wait") => (200, json!({ "ok": true })),
            ("DELETE", "") => {
                self.machines.kill(number);
                (200, json!({ "ok": true }))
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The id of a machine: its name in hexadecimal digits.
fn id(name: &str) -> String {
    name.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of a machine, by its id.
fn key(id: &str) -> String {
    let digits: Vec<char> = id.chars().collect();
    let bytes = digits.chunks(2).map(|two| {
        let two: String = two.iter().collect();
        u8::from_str_radix(&two, 16).unwrap_or_default()
    });
    String::from_utf8(bytes.collect()).unwrap_or_default()
}

fn shown(machine: &Machine) -> Value {
    match machine.ended {
        None => json!({ "state": "started", "events": [] }),
        Some(code) => {
            let exit = json!({ "exit_code": code, "requested_stop": machine.stopped });
            let exit = json!({ "type": "exit", "timestamp": 1, "request": { "exit_event": exit } });
            json!({ "state": "destroyed", "events": [exit] })
        }
    }
}

async fn answer(
    State(app): State<FlyApp>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let token = headers["authorization"].to_str().unwrap();
    assert!(token.len() > "Bearer ".len(), "the token is read");
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (status, body) = app.call(&method, uri.path(), &request);
    let first = method == Method::POST
        && request.get("config").is_some()
        && app
            .replied
            .lock()
            .unwrap()
            .insert(request["name"].to_string());
    if first && app.loses_replies.load(Ordering::SeqCst) {
        return (StatusCode::BAD_GATEWAY, "").into_response();
    }
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}
