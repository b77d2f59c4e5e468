//! The runner's side of the API: each request is repeated until it is answered.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use towpath_auth::Secret;
use towpath_client::Client;
use towpath_engine::{Artifact, JobId};
use towpath_jobs::{Answer, EventBatch, JobRequest};

use crate::Options;
use crate::print::note;

/// The time after which a request that has no answer is sent again.
const PATIENCE: Duration = Duration::from_secs(35);
/// The time after which a file that is not stored yet is sent again.
const STORING: Duration = Duration::from_secs(300);
/// The pause before a request is sent again; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// The time for which a runner tries to begin.
const BEGINNING: Duration = Duration::from_secs(900);

/// The API, as the runner of one job sees it.
pub(crate) struct Api {
    client: Client,
    /// The client of the bucket, once a file was stored.
    files: OnceLock<Client>,
    job: JobId,
    code: Secret,
    token: Secret,
    name: String,
}

/// The reason a runner does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The job is another's, or over: there is nothing to do, and nothing to tell.
    #[error("{0}")]
    NotOurs(String),
    /// The job cannot be told what to do.
    #[error("{0}")]
    NoWork(String),
    /// The API does not take the request.
    #[error("{0}")]
    Refused(String),
}

/// What the API tells a runner with each answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Told {
    pub(crate) stop: Option<StopTold>,
    pub(crate) over: bool,
}

/// A request to stop.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StopTold {
    pub(crate) grace_ms: u64,
}

/// The place where a file is to be put.
#[derive(Deserialize)]
struct StoreAt {
    url: String,
    headers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    code: String,
    message: String,
}

impl Api {
    /// The API, with a token of this runner's own making.
    pub(crate) fn new(options: &Options) -> Result<Self, Ended> {
        Ok(Self::with_token(options, new_token()?))
    }

    /// The API, with the token that the runner of the job has made before.
    pub(crate) fn with_token(options: &Options, token: Secret) -> Self {
        Self {
            client: Client::new(&options.api, None),
            files: OnceLock::new(),
            job: options.job.clone(),
            code: options.code.clone(),
            token,
            name: options.name.clone(),
        }
    }

    /// Takes the job, unless another runner has it.
    pub(crate) async fn claim(&self) -> Result<(), Ended> {
        let path = format!("/jobs/{}/claim", self.job);
        let body = json!({ "by": self.name, "token": self.token.expose() }).to_string();
        let until = Instant::now() + BEGINNING;
        let asked = self.ask(
            Method::POST,
            &path,
            &self.code,
            JSON,
            body.into(),
            Some(until),
        );
        asked.await.map(|_| ())
    }

    /// What the job is to do.
    pub(crate) async fn manifest(&self) -> Result<JobRequest, Ended> {
        let path = format!("/jobs/{}/manifest", self.job);
        let until = Instant::now() + BEGINNING;
        let asked = self.ask(
            Method::GET,
            &path,
            &self.token,
            JSON,
            Bytes::new(),
            Some(until),
        );
        let bytes = asked.await?;
        JobRequest::from_manifest(&bytes).map_err(|error| Ended::NoWork(error.to_string()))
    }

    /// Asks whether the job is to stop.
    pub(crate) async fn look(&self) -> Result<Told, Ended> {
        let path = format!("/jobs/{}", self.job);
        let asked = self.ask(Method::GET, &path, &self.token, JSON, Bytes::new(), None);
        read(&asked.await?)
    }

    /// Hands in the answer of the command.
    pub(crate) async fn answer(&self, answer: &Answer) -> Result<(), Ended> {
        let (from, text) = match answer {
            Answer::File(text) => ("file", text),
            Answer::Stdout(text) => ("stdout", text),
        };
        let path = format!("/jobs/{}/answer?from={from}", self.job);
        let body = Bytes::copy_from_slice(text.as_bytes());
        let asked = self.ask(Method::PUT, &path, &self.token, BYTES, body, None);
        asked.await.map(|_| ())
    }

    /// Stores a file that the answer names.
    pub(crate) async fn artifact(&self, artifact: &Artifact, bytes: Bytes) -> Result<(), Ended> {
        let mut pause = PAUSE;
        loop {
            // Asked for anew each time: a URL is good for some minutes.
            let path = format!("/jobs/{}/artifacts", self.job);
            let body = serde_json::to_vec(artifact);
            let body = body.map_err(|error| Ended::Refused(error.to_string()))?;
            let asked = self.ask(Method::POST, &path, &self.token, JSON, body.into(), None);
            let StoreAt { url, headers } = read(&asked.await?)?;
            let headers = headers.iter().map(|(name, value)| (&**name, &**value));
            let files = self.files.get_or_init(|| Client::for_files(&url));
            let stored = files.store(&url, headers, bytes.clone());
            match tokio::time::timeout(STORING, stored).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => note(&format!("{} is not stored yet: {error}", artifact.name)),
                Err(_) => note(&format!("{} is not stored yet: no answer", artifact.name)),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Sends a batch of events.
    pub(crate) async fn events(&self, batch: &EventBatch) -> Result<Told, Ended> {
        let path = format!("/runs/{}/runner/events", self.job);
        let body = serde_json::to_vec(batch);
        let body = body.map_err(|error| Ended::Refused(error.to_string()))?;
        let asked = self.ask(Method::POST, &path, &self.token, JSON, body.into(), None);
        read(&asked.await?)
    }

    /// Sends a request until it is answered, at the longest until the time given.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        bearer: &Secret,
        content_type: &str,
        body: Bytes,
        until: Option<Instant>,
    ) -> Result<Bytes, Ended> {
        let bearer = format!("Bearer {}", bearer.expose());
        let headers = [("authorization", &*bearer), ("content-type", content_type)];
        let mut pause = PAUSE;
        loop {
            let sent = self
                .client
                .raw(method.clone(), path, &headers, body.to_vec());
            let why = match tokio::time::timeout(PATIENCE, sent).await {
                Ok(Ok((status, answer))) if status.is_success() => return Ok(answer),
                Ok(Ok((status, answer))) => match refused(status, &answer) {
                    Some(ended) => return Err(ended),
                    None => format!("{path}: {status}"),
                },
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("{path}: no answer in time"),
            };
            if until.is_some_and(|until| Instant::now() + pause > until) {
                return Err(Ended::Refused(why));
            }
            note(&format!("{why}; it is tried again"));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// A token of this runner's own making.
pub(crate) fn new_token() -> Result<Secret, Ended> {
    let mut bits = [0_u8; 32];
    getrandom::fill(&mut bits)
        .map_err(|_| Ended::Refused("the system gives no random bits".to_owned()))?;
    let token: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Secret::new(token))
}

const JSON: &str = "application/json";
/// A type that API Gateway passes on as bytes: as a text, an answer could grow beyond what a function takes.
const BYTES: &str = "application/octet-stream";

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Ended> {
    let broken = |error| Ended::Refused(format!("an answer of the API cannot be read: {error}"));
    serde_json::from_slice(bytes).map_err(broken)
}

/// What a refusal means. `None`: the same may be asked again.
fn refused(status: StatusCode, answer: &[u8]) -> Option<Ended> {
    let refusal: Refusal = serde_json::from_slice(answer).unwrap_or_default();
    let Refusal { code, message } = refusal;
    match code.as_str() {
        "start_code_expired" => None,
        "job_claimed" | "job_over" => Some(Ended::NotOurs(message)),
        "no_work" => Some(Ended::NoWork(message)),
        _ if status.is_server_error()
            || status == StatusCode::TOO_MANY_REQUESTS
            || status == StatusCode::REQUEST_TIMEOUT =>
        {
            None
        }
        // Of a front: no function has said so.
        "" => Some(Ended::Refused(format!("the API answers {status}"))),
        code => Some(Ended::Refused(format!("{code}: {message}"))),
    }
}
