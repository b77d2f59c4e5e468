//! The worker's side of the executor contract.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use towpath_auth::Secret;
use towpath_client::Client;
use towpath_executors::{Instant, RegisterResponse};

use crate::identity::{Identity, new_uuid};
use crate::inbox::Pause;
use crate::socket::Line;
use crate::{Error, Options, note};

/// The longest time that a poll waits for messages, in seconds.
const POLL: u64 = 20;
/// The time after which a request that has no answer is given up.
const PATIENCE: Duration = Duration::from_secs(35);

/// The link to a deployment. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    client: Client,
    executor: String,
    token: RwLock<Secret>,
    /// What speaks over the socket that is open.
    line: RwLock<Option<Line>>,
}

/// What became of a message of the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The deployment has it.
    Taken,
    /// It does not count, for this reason.
    Refused(String),
}

/// The reason a request brought nothing.
#[derive(Debug)]
pub(crate) enum Lost {
    /// There was no answer, or the deployment cannot answer now.
    NoAnswer(String),
    /// The deployment does not take it.
    Refused(String),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    message: String,
}

impl Link {
    /// Registers the worker: with its token if it has one, else with the enrolment key.
    pub(crate) async fn register(options: &Options, mut identity: Identity) -> Result<Self, Error> {
        let client = Client::new(&options.server, None);
        let said = registration(options, &identity.executor);
        let mut pause = Pause::default();
        loop {
            let proof = identity.token.as_ref().or(options.enrolment.as_ref());
            let Some(proof) = proof else {
                let why = "the worker is not enrolled; give it a key of scope enrol with --enrolment-key-file, or in TOWPATH_ENROLMENT_KEY";
                return Err(Error::Refused(why.to_owned()));
            };
            let path = "/api/v1/executors/register";
            let answer = send(&client, Method::POST, path, proof, &said).await;
            match answer {
                Ok(answer) => {
                    let read = serde_json::from_value::<RegisterResponse>(answer);
                    let read = read.map_err(|error| Error::Refused(error.to_string()))?;
                    identity.set_token(&read.token)?;
                    return Ok(Self(Arc::new(Inner {
                        client,
                        executor: identity.executor,
                        token: RwLock::new(Secret::new(read.token)),
                        line: RwLock::new(None),
                    })));
                }
                Err(Lost::Refused(why)) => return Err(Error::Refused(why)),
                Err(Lost::NoAnswer(why)) => note(&format!("{why}; it is tried again")),
            }
            tokio::time::sleep(pause.next()).await;
        }
    }

    /// Speaks over this socket from now on; without one, over HTTP.
    pub(crate) fn set_line(&self, line: Option<Line>) {
        let mut held = self.0.line.write().unwrap_or_else(PoisonError::into_inner);
        *held = line;
    }

    fn line(&self) -> Option<Line> {
        let held = self.0.line.read().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }

    /// The identity of the worker.
    pub(crate) fn executor(&self) -> &str {
        &self.0.executor
    }

    /// The worker's token.
    pub(crate) fn token(&self) -> Secret {
        let held = self.0.token.read().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }

    /// Asks for messages, waits at most so many seconds for one, and says which of those before the worker has.
    pub(crate) async fn claim(&self, kept: &[String], wait: u64) -> Result<Vec<Value>, Lost> {
        let (executor, wait) = (&self.0.executor, wait.min(POLL));
        let path = format!("/api/v1/executors/{executor}/claim?wait={wait}");
        let body = json!({ "ack": kept });
        let answer = send(&self.0.client, Method::POST, &path, &self.token(), &body).await?;
        let messages = answer.get("messages").and_then(Value::as_array);
        Ok(messages.cloned().unwrap_or_default())
    }

    /// Sends a message over the socket. `None`: there is no socket, or no answer.
    pub(crate) async fn say(&self, message: &Value) -> Option<Verdict> {
        let line = self.line()?;
        let id = message.get("id").and_then(Value::as_str)?;
        line.tell(id, message).await
    }

    /// A message of the worker, with an id: told twice, by whatever way, it is the same message.
    pub(crate) fn message(&self, event: &str) -> Map<String, Value> {
        let mut message = Map::from_iter([
            ("event".to_owned(), json!(event)),
            ("executor_id".to_owned(), json!(self.0.executor)),
        ]);
        // Without one it is told over HTTP, which needs none.
        if let Ok(id) = new_uuid() {
            message.insert("id".to_owned(), json!(id));
        }
        message
    }

    fn event(&self, event: &str, mission: Option<&str>, data: Value) -> Value {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0));
        let mut message = self.message(event);
        message.insert("ts".to_owned(), json!(Instant::of_ms(now)));
        message.insert("data".to_owned(), data);
        if let Some(mission) = mission {
            message.insert("mission_id".to_owned(), json!(mission));
        }
        Value::Object(message)
    }

    /// Tells an event once, over the socket or else over HTTP.
    pub(crate) async fn tell(
        &self,
        event: &str,
        mission: Option<&str>,
        data: Value,
    ) -> Result<Verdict, Lost> {
        self.deliver(&[self.event(event, mission, data)]).await
    }

    /// Tells events of a mission, in their order, until they are taken or do not count.
    pub(crate) async fn tell_surely(&self, mission: &str, events: &[(&str, Value)]) {
        let messages: Vec<Value> = events
            .iter()
            .map(|(event, data)| self.event(event, Some(mission), data.clone()))
            .collect();
        let mut pause = Pause::default();
        loop {
            match self.deliver(&messages).await {
                Ok(Verdict::Taken) => return,
                Ok(Verdict::Refused(why)) | Err(Lost::Refused(why)) => {
                    let names: Vec<_> = events.iter().map(|(event, _)| *event).collect();
                    let names = names.join(", ");
                    return note(&format!("{mission}: {names} does not count: {why}"));
                }
                Err(Lost::NoAnswer(_)) => tokio::time::sleep(pause.next()).await,
            }
        }
    }

    /// Delivers messages: one over the socket if there is one, several in one request.
    async fn deliver(&self, messages: &[Value]) -> Result<Verdict, Lost> {
        if let [message] = messages
            && let Some(verdict) = self.say(message).await
        {
            return Ok(verdict);
        }
        self.post(messages).await
    }

    async fn post(&self, messages: &[Value]) -> Result<Verdict, Lost> {
        let path = format!("/api/v1/executors/{}/events", self.0.executor);
        let body = json!({ "messages": messages });
        let answer = send(&self.0.client, Method::POST, &path, &self.token(), &body).await?;
        let refused = answer.pointer("/refused/0/message").and_then(Value::as_str);
        Ok(refused.map_or(Verdict::Taken, |why| Verdict::Refused(why.to_owned())))
    }
}

/// What the worker says of itself.
fn registration(options: &Options, executor: &str) -> Value {
    let mut capabilities = options.capabilities.clone();
    capabilities.insert("resumable".to_owned());
    capabilities.insert(format!("x-slots:{}", options.slots));
    json!({
        "executor_id": executor,
        "name": options.name,
        "version": env!("CARGO_PKG_VERSION"),
        "spec_version": towpath_executors::SpecVersion::OURS,
        // It dials in, and is never dialled.
        "transport_endpoints": { "rest": "about:blank", "ws": "about:blank" },
        "capabilities": capabilities,
    })
}

async fn send(
    client: &Client,
    method: Method,
    path: &str,
    bearer: &Secret,
    body: &Value,
) -> Result<Value, Lost> {
    let bearer = format!("Bearer {}", bearer.expose());
    let headers = [
        ("authorization", &*bearer),
        ("content-type", "application/json"),
    ];
    let body = serde_json::to_vec(body).map_err(|error| Lost::Refused(error.to_string()))?;
    let sent = client.raw(method, path, &headers, body);
    let (status, bytes) = match tokio::time::timeout(PATIENCE, sent).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(Lost::NoAnswer(error.to_string())),
        Err(_) => return Err(Lost::NoAnswer(format!("{path}: no answer in time"))),
    };
    if status.is_success() {
        let broken = |_| Lost::NoAnswer(format!("{path}: an answer that cannot be read"));
        return serde_json::from_slice(&bytes).map_err(broken);
    }
    let problem: Problem = serde_json::from_slice(&bytes).unwrap_or_default();
    let again = status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
        || problem.code == "busy";
    let why = match problem.message.as_str() {
        "" => format!("{path}: {status}"),
        message => message.to_owned(),
    };
    Err(match again {
        true => Lost::NoAnswer(why),
        false => Lost::Refused(why),
    })
}
