//! The runtime `fly` against a server that speaks as the machines API does, on good days and on bad ones.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use towpath_aws::{Clients, Settings as Aws};
use towpath_clock::Clock;
use towpath_engine::JobId;
use towpath_jobs::StartError;
use towpath_jobs_fly::{Machines, Settings};
use towpath_jobs_remote::{Cause, Order, Over, Seen, Substrate};

/// How one call goes that does not go well.
enum Bad {
    /// It is refused with this status, reason and `Retry-After`, and nothing is done.
    Error(u16, &'static str, Option<&'static str>),
    /// It is done, and the reply is an error of the server.
    LostReply,
    /// It is done, and there is never a reply.
    Silence,
}

struct Fly {
    token: &'static str,
    /// The machines by id: what was asked for, and the machine.
    machines: BTreeMap<String, (Value, Value)>,
    calls: Vec<String>,
    /// How the next calls of a method and path go, by the beginning of these. After these, all go well.
    bad: Vec<(&'static str, Bad)>,
    /// Whether the server says which machine has a name that is taken.
    names_owner: bool,
}

type Shared = Arc<Mutex<Fly>>;

impl Fly {
    fn call(&mut self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        let rest = path.strip_prefix("/v1/apps/jobs/machines").unwrap();
        let mut parts = rest.trim_start_matches('/').splitn(2, '/');
        let (id, then) = (parts.next().unwrap_or_default(), parts.next());
        match (method.as_str(), id, then) {
            ("POST", "", None) => self.create(body),
            ("GET", "", None) => {
                let all = self.machines.values().map(|(_, machine)| machine.clone());
                (200, all.collect())
            }
            (_, id, _) if !self.machines.contains_key(id) => {
                (404, json!({ "error": "machine not found" }))
            }
            ("GET", id, None) => (200, self.machines[id].1.clone()),
            ("POST", _, Some("stop")) => (200, json!({ "ok": true })),
            ("GET", _, Some("wait")) => (408, json!({ "error": "deadline exceeded" })),
            ("DELETE", id, None) => {
                self.machines.remove(id);
                (200, json!({ "ok": true }))
            }
            other => panic!("{other:?}"),
        }
    }

    fn create(&mut self, body: &Value) -> (u16, Value) {
        let taken = self.machines.values().map(|(_, machine)| machine);
        let taken = taken.clone().find(|it| it["name"] == body["name"]);
        if let Some(taken) = taken {
            let whose = match self.names_owner {
                true => format!(
                    ", machine ID {} already exists",
                    taken["id"].as_str().unwrap()
                ),
                false => String::new(),
            };
            let error = format!("already_exists: unique machine name violation{whose}");
            return (409, json!({ "error": error }));
        }
        let id = format!("9185{}", self.machines.len());
        let machine = json!({ "id": id, "name": body["name"], "state": "created", "events": [] });
        let kept = (body.clone(), machine.clone());
        self.machines.insert(id, kept);
        (200, machine)
    }
}

async fn answer(
    State(fly): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if headers.contains_key("x-amz-target") {
        let token = format!("{}\n", fly.lock().unwrap().token);
        return json!({ "SecretString": token }).to_string().into_response();
    }
    let mut retry = None;
    let (status, body) = {
        let mut fly = fly.lock().unwrap();
        let call = format!("{method} {}", uri.path_and_query().unwrap());
        fly.calls.push(call.clone());
        let expected = format!("Bearer {}", fly.token);
        if headers["authorization"] != expected.as_str() {
            let body = json!({ "error": "token validation error" });
            return (StatusCode::UNAUTHORIZED, body.to_string()).into_response();
        }
        let bad = fly.bad.iter().position(|(of, _)| call.starts_with(of));
        match bad.map(|at| fly.bad.remove(at).1) {
            None => fly.call(&method, uri.path(), &body),
            Some(Bad::Error(status, why, after)) => {
                retry = after;
                (status, json!({ "error": why }))
            }
            Some(Bad::LostReply) => {
                fly.call(&method, uri.path(), &body);
                (502, Value::Null)
            }
            Some(Bad::Silence) => {
                fly.call(&method, uri.path(), &body);
                (0, Value::Null)
            }
        }
    };
    if status == 0 {
        return pending().await;
    }
    let mut response = (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response();
    if let Some(seconds) = retry {
        response
            .headers_mut()
            .insert("retry-after", seconds.parse().unwrap());
    }
    response
}

/// A server, and the runtime's machines on it.
async fn bench() -> (Shared, Machines) {
    let fly = Arc::new(Mutex::new(Fly {
        token: "swordfish",
        machines: BTreeMap::new(),
        calls: Vec::new(),
        bad: Vec::new(),
        names_owner: true,
    }));
    let router = axum::Router::new()
        .fallback(answer)
        .with_state(Arc::clone(&fly));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let aws = Aws::from_lookup(|name| {
        Some(match name {
            "AWS_REGION" => "us-east-1".to_owned(),
            "AWS_ENDPOINT_URL" => url.clone(),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => "key".to_owned(),
            _ => return None,
        })
    });
    let clients = Clients::connect(&aws.unwrap(), None);
    let settings = Settings {
        app: "jobs".to_owned(),
        region: Some("ams".to_owned()),
        token_in: "arn:token".to_owned(),
        image: None,
        api: Some("https://api.example".to_owned()),
    };
    let web = clients.web("Fly.io", &url);
    let machines = Machines::new(web, clients.secrets, settings, Clock::system());
    (fly, machines)
}

fn job() -> JobId {
    "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-7".parse().unwrap()
}

async fn start(machines: &Machines) -> Result<String, StartError> {
    let variables = [("TOWPATH_RUN_ID", job().to_string())];
    let guest = json!({ "cpu_kind": "shared", "cpus": 2, "memory_mb": 1024 });
    let order = Order {
        job: &job(),
        spec: &json!({ "image": "image@sha256:1", "guest": guest }),
        variables: variables
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
    };
    machines.start(&order).await
}

fn go_badly(fly: &Shared, of: &'static str, bad: Bad) {
    fly.lock().unwrap().bad.push((of, bad));
}

const CREATE: &str = "POST /v1/apps/jobs/machines";
const ID: &str = "91850";

#[tokio::test]
async fn a_machine_is_made_that_goes_when_its_runner_ends() {
    let (fly, machines) = bench().await;
    assert_eq!(start(&machines).await.unwrap(), ID);
    let fly = fly.lock().unwrap();
    let (asked, _) = &fly.machines[ID];
    assert_eq!(asked["name"], "job-01arz3ndektsv4rrffq69g5fav-7");
    assert_eq!(asked["region"], "ams");
    let config = &asked["config"];
    assert_eq!(config["auto_destroy"], true);
    assert_eq!(config["restart"]["policy"], "no");
    assert_eq!(config["image"], "image@sha256:1");
    let guest = json!({ "cpu_kind": "shared", "cpus": 2, "memory_mb": 1024 });
    assert_eq!(config["guest"], guest);
    let variables = json!({
        "TOWPATH_API_BASE": "https://api.example", "TOWPATH_RUN_ID": job(),
    });
    assert_eq!(config["env"], variables);
    assert!(!asked.to_string().contains("swordfish"));
    let console = machines.console(ID).unwrap();
    assert_eq!(console, "https://fly.io/apps/jobs/machines/91850");
}

#[tokio::test]
async fn a_machine_whose_reply_was_lost_is_found_by_its_name_and_not_made_twice() {
    for names_owner in [true, false] {
        let (fly, machines) = bench().await;
        fly.lock().unwrap().names_owner = names_owner;
        go_badly(&fly, CREATE, Bad::LostReply);
        assert_eq!(start(&machines).await.unwrap(), ID);
        assert_eq!(start(&machines).await.unwrap(), ID);
        assert_eq!(fly.lock().unwrap().machines.len(), 1);
    }
}

#[tokio::test]
async fn a_start_without_a_reply_is_not_known_to_have_happened_and_is_safe_to_repeat() {
    let (fly, machines) = bench().await;
    go_badly(&fly, CREATE, Bad::Silence);
    let started = start(&machines).await;
    assert!(
        matches!(started, Err(StartError::Unavailable(_))),
        "{started:?}"
    );
    assert_eq!(start(&machines).await.unwrap(), ID);
    assert_eq!(fly.lock().unwrap().machines.len(), 1);
}

#[tokio::test]
async fn a_call_is_made_again_when_fly_says_so_unless_that_is_long() {
    let (fly, machines) = bench().await;
    go_badly(&fly, CREATE, Bad::Error(429, "rate limit", Some("0")));
    go_badly(&fly, CREATE, Bad::Error(503, "later", Some("0")));
    assert_eq!(start(&machines).await.unwrap(), ID);
    assert_eq!(fly.lock().unwrap().calls.len(), 3);

    let (fly, machines) = bench().await;
    go_badly(&fly, CREATE, Bad::Error(429, "rate limit", Some("60")));
    let started = start(&machines).await;
    let Err(StartError::NoRoom(why)) = started else {
        panic!("{started:?}");
    };
    assert!(why.contains("60 seconds"), "{why}");
    assert_eq!(fly.lock().unwrap().calls.len(), 1);

    let (fly, machines) = bench().await;
    go_badly(&fly, CREATE, Bad::Error(503, "later", Some("0")));
    go_badly(&fly, CREATE, Bad::Error(429, "rate limit", Some("60")));
    let started = start(&machines).await;
    assert!(
        matches!(started, Err(StartError::Unavailable(_))),
        "what failed may have been done: {started:?}"
    );
}

#[tokio::test]
async fn what_is_full_is_no_room_and_starts_nothing() {
    for (status, why) in [
        (412, "insufficient resources to create new machine"),
        (422, "insufficient_capacity"),
        (
            409,
            "could not reserve resource for machine: insufficient CPUs",
        ),
    ] {
        let (fly, machines) = bench().await;
        go_badly(&fly, CREATE, Bad::Error(status, why, None));
        let started = start(&machines).await;
        assert!(matches!(started, Err(StartError::NoRoom(_))), "{started:?}");
        assert!(fly.lock().unwrap().machines.is_empty());
        assert_eq!(start(&machines).await.unwrap(), ID, "there is room later");
    }
}

#[tokio::test]
async fn what_fly_never_takes_is_refused_in_its_own_words() {
    for (status, why) in [(400, "invalid image"), (404, "app not found")] {
        let (fly, machines) = bench().await;
        go_badly(&fly, CREATE, Bad::Error(status, why, None));
        let started = start(&machines).await;
        let told = matches!(&started, Err(StartError::Refused(told)) if told.contains(why));
        assert!(told, "{started:?}");
    }
}

#[tokio::test]
async fn a_token_that_was_replaced_is_read_again_and_none_is_ever_told() {
    let (fly, machines) = bench().await;
    start(&machines).await.unwrap();
    fly.lock().unwrap().token = "halibut";
    assert_eq!(machines.look(ID).await, Ok(Some(Seen::Preparing)));
    assert!(!format!("{machines:?}").contains("halibut"));
    let unauthorized = Bad::Error(401, "token validation error", None);
    go_badly(&fly, "GET", unauthorized);
    let again = Bad::Error(401, "token validation error", None);
    go_badly(&fly, "GET", again);
    let why = machines.look(ID).await.unwrap_err().to_string();
    assert!(why.contains("token validation error"), "{why}");
    assert!(!why.contains("halibut"));
}

#[tokio::test]
async fn a_machine_is_looked_at_stopped_and_destroyed() {
    let (fly, machines) = bench().await;
    start(&machines).await.unwrap();
    let exit = json!({ "exit_event": { "exit_code": 1 } });
    let over = json!({
        "id": ID, "state": "stopped", "events": [{ "type": "exit", "timestamp": 1, "request": exit }],
    });
    fly.lock().unwrap().machines.get_mut(ID).unwrap().1 = over;
    let expected = Over {
        cause: Cause::Failed,
        why: " (exit code 1)".to_owned(),
    };
    assert_eq!(machines.look(ID).await, Ok(Some(Seen::Over(expected))));
    fly.lock().unwrap().calls.clear();
    machines.stop(ID).await.unwrap();
    let at = format!("/v1/apps/jobs/machines/{ID}");
    let calls = fly.lock().unwrap().calls.clone();
    assert_eq!(
        calls,
        [
            format!("POST {at}/stop"),
            format!("GET {at}/wait?state=stopped&timeout=5"),
            format!("DELETE {at}?force=true"),
        ]
    );
    assert_eq!(machines.look(ID).await, Ok(None), "it is gone");
    machines.stop(ID).await.unwrap();
    go_badly(&fly, "GET", Bad::Error(500, "oops", Some("60")));
    assert!(machines.look(ID).await.is_err(), "no answer is no loss");
}

#[tokio::test]
async fn a_machine_that_cannot_be_stopped_is_destroyed_all_the_same() {
    let (fly, machines) = bench().await;
    start(&machines).await.unwrap();
    let stop = "POST /v1/apps/jobs/machines/91850/stop";
    go_badly(&fly, stop, Bad::Error(400, "not started", None));
    machines.stop(ID).await.unwrap();
    assert!(fly.lock().unwrap().machines.is_empty());
}
