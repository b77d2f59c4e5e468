//! Asking the API: any request, and whatever comes back.

use http::Method;
use serde_json::{Value, json};
use towpath_api_types::Problem;
use towpath_auth::Key;
use towpath_client::Client;
use towpath_engine::{Audit, RunId, StepIndex, WorkspaceId};
use towpath_store::{ApiKey, Scope};

use crate::World;

/// An answer of the API.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The document.
    pub body: Value,
}

impl Answer {
    /// The document of a request that was done.
    ///
    /// # Panics
    /// If the API said no.
    pub fn done(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.body
    }

    /// The run that the document is about.
    ///
    /// # Panics
    /// If the API said no.
    pub fn run(self) -> RunId {
        serde_json::from_value(self.done()["id"].take()).unwrap()
    }

    /// Status, code and field of a request that was refused, as they stand in the documentation of the API.
    ///
    /// # Panics
    /// If the answer is no problem document.
    pub fn no(&self) -> (u16, String, Option<String>) {
        let problem = self.problem();
        let code = serde_json::to_value(problem.code).unwrap();
        assert_eq!(problem.code.status(), self.status, "{self:?}");
        assert!(!problem.message.is_empty(), "{self:?}");
        (
            self.status,
            code.as_str().unwrap().to_owned(),
            problem.field,
        )
    }

    /// The problem of a request that was refused.
    ///
    /// # Panics
    /// If the answer is no problem document.
    pub fn problem(&self) -> Problem {
        assert!(self.status >= 400, "{self:?}");
        serde_json::from_value(self.body.clone()).unwrap()
    }
}

impl World {
    /// Sends a document, and returns whatever comes back.
    pub async fn ask(&self, method: Method, path: &str, body: &Value) -> Answer {
        ask(&self.client, method, path, &[], body.to_string().into()).await
    }

    /// `POST`s a document, and returns whatever comes back.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask(Method::POST, path, body).await
    }

    /// `POST`s a document under an `Idempotency-Key`.
    pub async fn post_once(&self, path: &str, name: &str, body: &Value) -> Answer {
        let headers = [("idempotency-key", name)];
        let body = body.to_string().into();
        ask(&self.client, Method::POST, path, &headers, body).await
    }

    /// Says something to an approval: `approve`, `request-changes`, `reject`.
    pub async fn say(&self, run: &RunId, approval: &str, verb: &str, body: &Value) -> Answer {
        self.post(&format!("/runs/{run}/approvals/{approval}/{verb}"), body)
            .await
    }

    /// Decides what an agent asked.
    pub async fn decide(&self, run: &RunId, decision: &str, choice: &str) -> Answer {
        let path = format!("/runs/{run}/decisions/{decision}");
        self.post(&path, &json!({ "choice": choice })).await
    }

    /// Stops a run.
    pub async fn stop(&self, run: &RunId) -> Answer {
        self.post(&format!("/runs/{run}/stop"), &json!({})).await
    }

    /// The text of a step's output, as a reader of the API sees it.
    pub async fn output(&self, run: &RunId, step: u16) -> String {
        let path = format!("/runs/{run}/steps/{}/output", StepIndex(step));
        let text = self
            .ask(Method::GET, &path, &Value::Null)
            .await
            .done()
            .get("text")
            .cloned();
        text.unwrap().as_str().unwrap().to_owned()
    }

    /// The answers that humans gave to a run.
    pub async fn audit(&self, run: &RunId) -> Vec<Audit> {
        self.view(run).await.audit
    }

    /// A client with a key of its own.
    pub async fn client_of(&self, workspace: &str, name: &str, scope: Scope) -> Client {
        let key = Key::generate().unwrap();
        let workspace: WorkspaceId = workspace.parse().unwrap();
        let record = ApiKey {
            workspace,
            scope,
            name: name.to_owned(),
            created_at: self.standing.operator.now(),
            revoked_at: None,
        };
        let store = &self.standing.operator.store;
        store.put_api_key(&key.hash(), &record).await.unwrap();
        Client::new(self.standing.cloud.url(), Some(key))
    }
}

/// Sends anything as anybody, and returns whatever comes back.
///
/// # Panics
/// If nothing does.
pub async fn ask(
    client: &Client,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answer {
    let (status, bytes) = client.raw(method, path, headers, body).await.unwrap();
    Answer {
        status: status.as_u16(),
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    }
}
