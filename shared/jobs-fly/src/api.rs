//! The machines API of Fly.io, as far as a job needs it: a machine is made, looked at, and ended.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use towpath_auth::Secret;
use towpath_aws::{Secrets, Web, WebAnswer};
use towpath_clock::Clock;

/// How often a call is made that Fly.io has no time for.
const ATTEMPTS: u32 = 3;
/// The pause before another attempt where Fly.io names none.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest `Retry-After` that a call waits for. A longer one ends the call with an error that says so.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The time that a machine has to stop before it is destroyed.
const STOPPING: Duration = Duration::from_secs(5);

/// The machines of an app. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    web: Web,
    app: String,
    secrets: Secrets,
    /// The ARN of the secret that holds the token.
    token_in: String,
    token: Arc<Mutex<Option<Secret>>>,
    clock: Clock,
}

/// The reason a call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// There is no capacity, or there are too many calls. Nothing was done.
    #[error("{0}")]
    NoRoom(String),
    /// There is a machine of this name: its id, if Fly.io says it.
    #[error("there is a machine of this name")]
    Exists(Option<String>),
    /// There is no such machine.
    #[error("{0}")]
    Missing(String),
    /// Fly.io does not take the request as it is. Nothing was done.
    #[error("{0}")]
    Refused(String),
    /// There was no usable answer. It may or may not have been done.
    #[error("{0}")]
    Unavailable(String),
}

/// A machine, as one look at it found.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Machine {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) events: Vec<Event>,
}

/// Something that happened to a machine.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Event {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// When it happened, in milliseconds since the epoch.
    pub(crate) timestamp: u64,
    pub(crate) request: Option<EventRequest>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EventRequest {
    pub(crate) exit_event: Option<Exit>,
}

/// How what ran in a machine ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Exit {
    pub(crate) exit_code: i32,
    pub(crate) oom_killed: bool,
    pub(crate) requested_stop: bool,
}

impl Machine {
    /// How what ran in the machine ended, if it did.
    pub(crate) fn exit(&self) -> Option<&Exit> {
        let exits = self.events.iter().filter(|event| event.kind == "exit");
        let last = exits.max_by_key(|event| event.timestamp)?;
        last.request.as_ref()?.exit_event.as_ref()
    }
}

impl Api {
    pub(crate) fn new(
        web: Web,
        app: String,
        secrets: Secrets,
        token_in: String,
        clock: Clock,
    ) -> Self {
        Self {
            web,
            app,
            secrets,
            token_in,
            token: Arc::default(),
            clock,
        }
    }

    /// Makes and starts a machine, or finds the one of this name, and returns its id.
    pub(crate) async fn create(&self, name: &str, machine: &Value) -> Result<String, ApiError> {
        match self.call(Method::POST, "", Some(machine)).await {
            Ok(body) => {
                let id = body.get("id").and_then(Value::as_str);
                let nameless = || ApiError::Unavailable("Fly.io's answer has no machine".into());
                id.map(str::to_owned).ok_or_else(nameless)
            }
            Err(ApiError::Exists(Some(id))) => Ok(id),
            Err(ApiError::Exists(None)) => self.find(name).await,
            Err(error) => Err(error),
        }
    }

    /// The id of the machine of this name.
    async fn find(&self, name: &str) -> Result<String, ApiError> {
        let all = self.call(Method::GET, "", None).await?;
        let machines: Vec<Machine> = read(all)?;
        let found = machines.into_iter().find(|machine| machine.name == name);
        // It was there a moment ago, and has been destroyed since.
        let gone = || ApiError::Unavailable(format!("the machine {name} is not listed"));
        found.map(|machine| machine.id).ok_or_else(gone)
    }

    /// Looks at a machine. `None`: there is none, or none any more.
    pub(crate) async fn look(&self, id: &str) -> Result<Option<Machine>, ApiError> {
        let Some(path) = path_of(id) else {
            return Ok(None);
        };
        match self.call(Method::GET, &path, None).await {
            Ok(body) => read(body).map(Some),
            Err(ApiError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stops a machine, and destroys it: at once if it does not stop in time. One that is gone stays so.
    pub(crate) async fn end(&self, id: &str) -> Result<(), ApiError> {
        let Some(path) = path_of(id) else {
            return Ok(());
        };
        let seconds = STOPPING.as_secs();
        let stop = json!({ "signal": "SIGTERM", "timeout": format!("{seconds}s") });
        let at = format!("{path}/stop");
        match self.call(Method::POST, &at, Some(&stop)).await {
            Ok(_) => {
                let wait = format!("{path}/wait?state=stopped&timeout={seconds}");
                // Whether it stopped in time makes no difference: it is destroyed either way.
                let _ = self.call_once(Method::GET, &wait, None).await;
            }
            Err(ApiError::Missing(_)) => return Ok(()),
            // It cannot be stopped in the state that it is in, but it can be destroyed.
            Err(ApiError::Refused(why)) => tracing::debug!(id, why, "a machine is not stopped"),
            Err(error) => return Err(error),
        }
        let destroy = format!("{path}?force=true");
        match self.call(Method::DELETE, &destroy, None).await {
            Ok(_) | Err(ApiError::Missing(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes a call, and again where Fly.io has no time for it and says when it has, or fails.
    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let (mut attempt, mut unsure) = (1, false);
        loop {
            let answer = self.call_once(method.clone(), path, body).await?;
            let busy = answer.status == 429 || answer.status >= 500;
            let pause = answer.retry_after.unwrap_or(PAUSE);
            if !busy || attempt >= ATTEMPTS || pause > LONGEST_PAUSE {
                // An earlier attempt that failed may have been done all the same.
                return judged(answer).map_err(|error| match error {
                    ApiError::NoRoom(why) | ApiError::Refused(why) if unsure => {
                        ApiError::Unavailable(why)
                    }
                    error => error,
                });
            }
            attempt += 1;
            unsure |= answer.status >= 500;
            let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            let until = self.clock.now_ms().saturating_add(pause);
            self.clock.sleep_until(until).await;
        }
    }

    /// Makes a call, and once more if the token was replaced.
    async fn call_once(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<WebAnswer, ApiError> {
        let path = format!("/v1/apps/{}/machines{path}", self.app);
        let mut fresh = false;
        loop {
            let (token, read_now) = self.token().await?;
            let asked = self
                .web
                .call(method.clone(), path.clone(), &token, body.cloned());
            let answer = asked
                .await
                .map_err(|error| ApiError::Unavailable(error.to_string()))?;
            if answer.status != 401 || read_now || fresh {
                return Ok(answer);
            }
            fresh = true;
            *self.token.lock().await = None;
        }
    }

    /// The token, and whether it was read just now.
    async fn token(&self) -> Result<(Secret, bool), ApiError> {
        let mut known = self.token.lock().await;
        if let Some(token) = &*known {
            return Ok((token.clone(), false));
        }
        let read = self.secrets.read(&self.token_in).await.map_err(|error| {
            tracing::error!("the token of Fly.io cannot be read: {error}");
            let why = "the secret FlyTokenSecret, which holds the token of Fly.io, cannot be read";
            ApiError::Unavailable(why.to_owned())
        })?;
        let token = Secret::new(read.expose().trim());
        *known = Some(token.clone());
        Ok((token, true))
    }
}

/// The path of a machine. `None`: no machine has such an id.
fn path_of(id: &str) -> Option<String> {
    let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| format!("/{id}"))
}

fn read<T: serde::de::DeserializeOwned>(body: Value) -> Result<T, ApiError> {
    serde_json::from_value(body)
        .map_err(|error| ApiError::Unavailable(format!("Fly.io's answer cannot be read: {error}")))
}

/// What an answer means.
fn judged(answer: WebAnswer) -> Result<Value, ApiError> {
    if answer.is_success() {
        return Ok(answer.body);
    }
    let said = answer.body.get("error").or(answer.body.get("message"));
    let said = said.and_then(Value::as_str).unwrap_or("no reason given");
    let status = answer.status;
    let mut message = format!("Fly.io: {said} (HTTP {status})");
    if let Some(pause) = answer.retry_after {
        message.push_str(&format!("; it asks to wait {} seconds", pause.as_secs()));
    }
    Err(match status {
        400..=499 if said.contains("unique machine name violation") => {
            let id = said.split_once("machine ID ").map(|(_, rest)| rest);
            let id = id.and_then(|rest| rest.split_whitespace().next());
            ApiError::Exists(id.filter(|id| path_of(id).is_some()).map(str::to_owned))
        }
        429 => ApiError::NoRoom(message),
        400..=499 if is_full(said) => ApiError::NoRoom(message),
        404 => ApiError::Missing(message),
        // Another call works on the same machine.
        408 | 409 => ApiError::Unavailable(message),
        400..=499 => ApiError::Refused(message),
        _ => ApiError::Unavailable(message),
    })
}

/// Whether a text of Fly.io's says that there is no capacity. The status of such an answer is 412 or 422, and others.
fn is_full(said: &str) -> bool {
    let said = said.to_lowercase();
    let signs = [
        "insufficient",
        "no capacity",
        "over the allowed quota",
        "could not reserve resource",
    ];
    signs.iter().any(|sign| said.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(status: u16, said: &str) -> ApiError {
        let answer = WebAnswer {
            status,
            retry_after: None,
            body: json!({ "error": said }),
        };
        judged(answer).unwrap_err()
    }

    #[test]
    fn a_name_that_is_taken_tells_whose_it_is() {
        let said = "already_exists: unique machine name violation, machine ID 9185abc already exists with name \"job-1\"";
        for status in [409, 422] {
            let expected = ApiError::Exists(Some("9185abc".to_owned()));
            assert_eq!(judge(status, said), expected);
        }
        let said = "unique machine name violation";
        assert_eq!(judge(409, said), ApiError::Exists(None));
    }

    #[test]
    fn what_fly_cannot_place_waits_and_what_it_never_takes_is_refused() {
        for (status, said) in [
            (412, "insufficient resources to create new machine"),
            (422, "insufficient_capacity: no hosts"),
            (
                409,
                "could not reserve resource for machine: insufficient memory",
            ),
            (400, "no capacity"),
            (403, "over the allowed quota"),
            (429, "rate limit"),
        ] {
            let error = judge(status, said);
            assert!(matches!(error, ApiError::NoRoom(_)), "{error}");
        }
        for (status, said) in [
            (400, "invalid image"),
            (401, "unauthorized"),
            (422, "invalid guest"),
        ] {
            let error = judge(status, said);
            let told = matches!(&error, ApiError::Refused(why) if why.contains(said));
            assert!(told, "{error}");
        }
        assert!(matches!(judge(503, "later"), ApiError::Unavailable(_)));
    }

    #[test]
    fn no_path_is_made_of_what_is_no_id() {
        for id in ["", "../../apps", "a/b", "a?b", "arn:aws"] {
            assert_eq!(path_of(id), None, "{id}");
        }
        assert_eq!(path_of("9185abc").as_deref(), Some("/9185abc"));
    }
}
