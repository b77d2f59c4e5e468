//! Executors by hand: programs that register, ask for their missions and tell how they go, over HTTP.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use towpath_store::Scope;

use crate::World;

/// An executor that dialled in.
pub struct Executor {
    /// The identity of the executor.
    pub id: String,
    /// The token of the executor.
    pub token: String,
}

/// A number for each executor, so that none is another.
pub fn uuid(number: u32) -> String {
    format!("6f1e2a52-6d0a-4f0e-9a53-{number:012}")
}

/// What an executor says of itself.
pub fn payload(id: &str, capabilities: &[&str]) -> Value {
    json!({
        "executor_id": id, "name": format!("executor {id}"), "version": "1.2.3", "spec_version": "1.0.0",
        "transport_endpoints": { "rest": "http://127.0.0.1:1/", "ws": "ws://127.0.0.1:1/" },
        "capabilities": capabilities,
    })
}

/// Asks with a bearer: the status, and what came back.
pub async fn ask(
    world: &World,
    method: Method,
    path: &str,
    bearer: &str,
    body: &Value,
) -> (u16, Value) {
    let bearer = format!("Bearer {bearer}");
    let headers = [
        ("authorization", &*bearer),
        ("content-type", "application/json"),
    ];
    let client = towpath_client::Client::new(world.standing.cloud.url(), None);
    let body = match body {
        Value::Null => Vec::new(),
        body => serde_json::to_vec(body).unwrap(),
    };
    let (status, bytes) = client.raw(method, path, &headers, body).await.unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let read = serde_json::from_slice(&bytes).unwrap_or(Value::String(text));
    (status.as_u16(), read)
}

/// The key of a workspace that enrols executors.
pub async fn enrolment(world: &World) -> String {
    let access = &world.standing.operator.access;
    let made = access.make_key(&world.standing.caller.workspace, "enrols", Scope::Enrol);
    made.await.unwrap().0.reveal().to_owned()
}

impl Executor {
    /// Registers one.
    pub async fn register(world: &World, number: u32, capabilities: &[&str]) -> Self {
        let key = enrolment(world).await;
        Self::register_with(world, &key, number, capabilities).await
    }

    /// Registers one with this key.
    pub async fn register_with(
        world: &World,
        key: &str,
        number: u32,
        capabilities: &[&str],
    ) -> Self {
        let id = uuid(number);
        let said = payload(&id, capabilities);
        let path = "/api/v1/executors/register";
        let (status, answer) = ask(world, Method::POST, path, key, &said).await;
        assert_eq!(status, 201, "{answer}");
        let token = answer["token"].as_str().unwrap().to_owned();
        Self { id, token }
    }

    /// Asks for the messages that wait, and acknowledges those before.
    pub async fn claim(&self, world: &World, ack: &[&str]) -> Vec<Value> {
        let path = format!("/api/v1/executors/{}/claim", self.id);
        let body = json!({ "ack": ack });
        let (status, answer) = ask(world, Method::POST, &path, &self.token, &body).await;
        assert_eq!(status, 200, "{answer}");
        answer["messages"].as_array().unwrap().clone()
    }

    /// Tells an event; returns why it was refused.
    pub async fn tell(
        &self,
        world: &World,
        event: &str,
        mission: &str,
        data: Value,
    ) -> Option<String> {
        let ts = towpath_executors::Instant::of_ms(world.clock.now_ms());
        let message = json!({
            "event": event, "executor_id": self.id, "mission_id": mission, "ts": ts, "data": data,
        });
        self.send(world, &message).await
    }

    /// Sends a message; returns why it was refused.
    pub async fn send(&self, world: &World, message: &Value) -> Option<String> {
        let path = format!("/api/v1/executors/{}/events", self.id);
        let body = json!({ "messages": [message] });
        let (status, answer) = ask(world, Method::POST, &path, &self.token, &body).await;
        assert_eq!(status, 200, "{answer}");
        let refused = answer["refused"][0]["code"].as_str();
        refused.map(str::to_owned)
    }

    /// Waits until a mission is dispatched to it.
    pub async fn dispatched(&self, world: &World) -> Value {
        loop {
            let mut messages = self.claim(world, &[]).await;
            messages.retain(|it| it["event"] == "mission.dispatch");
            if let Some(message) = messages.pop() {
                return message;
            }
            world.pass(Duration::from_secs(1)).await;
        }
    }
}
