//! The contract against the reference it comes from, message by message: each is taken and refused alike, but for the
//! differences that are listed here with their reasons.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;

use jsonschema::Validator;
use serde_json::{Map, Value, json};
use towpath_executors::{
    EventType, Validity, schema, validate_dispatch_payload, validate_event_envelope,
    validate_register_payload,
};

const EXECUTOR: &str = "6f1e2a52-6d0a-4f0e-9a53-0c5b2f3a7d11";
const TIME: &str = "2026-01-02T03:04:05.678Z";

fn register() -> Value {
    json!({
        "executor_id": EXECUTOR, "name": "laptop", "version": "1.2.3", "spec_version": "1.0.0",
        "transport_endpoints": { "rest": "http://127.0.0.1:8122", "ws": "ws://127.0.0.1:8121", "grpc": "http://a" },
        "capabilities": ["isolation:container", "runtime:claude-code", "runtime:custom:a", "platform:linux/x64",
            "resumable", "hitl", "multi-tenant", "x-gpu:a100"],
    })
}

fn dispatch() -> Value {
    json!({
        "mission_id": "m-1", "objective": "Mend it.", "completion": "cargo test passes", "long_running": true,
        "executor_filter": { "executor_id": EXECUTOR, "capabilities": ["hitl"] }, "metadata": { "run": "r" },
    })
}

/// The data of an event of this type, with every field that it may have.
fn data(event: EventType) -> Value {
    match event {
        EventType::ExecutorRegistered => json!({
            "name": "laptop", "capabilities": ["hitl"],
            "transport_endpoints": { "rest": "http://a", "ws": "ws://a" },
        }),
        EventType::ExecutorDeregistered => json!({ "reason": "timeout" }),
        EventType::ExecutorResync => {
            json!({ "owned_mission_ids": ["m-1"], "protocol_version": "1.0.0" })
        }
        EventType::MissionAssigned => json!({ "state": "assigned", "estimated_start": TIME }),
        EventType::MissionStarted => {
            json!({ "state": "running", "agent_runtime": "codex", "pty_session_id": "p" })
        }
        EventType::MissionProgress => json!({
            "phase": "testing", "iteration": 2, "tokens_used": 10, "summary": "half", "pct_complete": 50.5,
        }),
        EventType::MissionHitlRequired => json!({
            "hitl_id": "h", "prompt": "Which?", "context": "src/a.rs", "expires_at": TIME,
        }),
        EventType::MissionHitlResponded => {
            json!({ "hitl_id": "h", "response": "this", "responded_at": TIME })
        }
        EventType::MissionPaused => json!({ "state": "paused", "reason": "lunch" }),
        EventType::MissionResumed => json!({ "state": "running", "resumed_from": "suspended" }),
        EventType::MissionSuspended => {
            json!({ "state": "suspended", "checkpoint_id": "c", "reason": "executor_shutdown" })
        }
        EventType::MissionReconnected => json!({ "checkpoint_id": "c" }),
        EventType::MissionCompleted => json!({
            "state": "done", "exit_code": 0, "tokens_total": 10, "summary": "made",
            "artifacts": [{ "path": "a.txt", "description": "a text" }],
        }),
        EventType::MissionFailed => json!({
            "state": "failed", "reason": "timeout", "error": "too slow", "exit_code": 1, "tokens_total": 10,
        }),
        EventType::MissionAborted => {
            json!({ "state": "aborted", "aborted_by": "operator", "reason": "wrong branch" })
        }
    }
}

fn envelope(event: EventType) -> Value {
    let mut envelope = json!({
        "event": event.as_str(), "executor_id": EXECUTOR, "ts": TIME, "data": data(event),
    });
    if event.is_of_mission() {
        envelope["mission_id"] = "m-1".into();
    }
    envelope
}

/// Values that stand in place of others.
fn strange() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(1.0),
        json!(1.5),
        json!(101),
        json!(""),
        json!("x"),
        json!("1.0.0"),
        json!("1.7.0"),
        json!("2.0.0"),
        json!("1.0"),
        json!(TIME),
        json!("2026-01-02"),
        json!(EXECUTOR),
        json!("runtime:other"),
        json!("isolation:none"),
        json!("a".repeat(129)),
        json!("a b"),
        json!([]),
        json!(["hitl"]),
        json!(["hitl", "hitl"]),
        json!(["Hitl"]),
        json!([7]),
        json!({}),
        json!({ "path": "a" }),
    ]
}

/// The message, and every message that differs from it in one place.
fn variations(message: &Value) -> Vec<Value> {
    let mut all = vec![message.clone()];
    vary(message, &mut |varied| all.push(varied));
    all
}

fn vary(value: &Value, emit: &mut dyn FnMut(Value)) {
    match value {
        Value::Object(fields) => {
            for name in fields.keys() {
                let mut fewer = fields.clone();
                fewer.remove(name);
                emit(Value::Object(fewer));
                let within = |field: Value| {
                    let mut other: Map<String, Value> = fields.clone();
                    other.insert(name.clone(), field);
                    Value::Object(other)
                };
                strange().into_iter().for_each(|field| emit(within(field)));
                vary(&fields[name], &mut |field| emit(within(field)));
            }
            for unknown in ["unknown", "a2a_instance_id", "id", "seq", "checkpoint_id"] {
                if !fields.contains_key(unknown) {
                    for field in [json!("x"), json!(1)] {
                        let mut more = fields.clone();
                        more.insert(unknown.to_owned(), field);
                        emit(Value::Object(more));
                    }
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                let within = |item: Value| {
                    let mut other = items.clone();
                    other[at] = item;
                    Value::Array(other)
                };
                strange().into_iter().for_each(|item| emit(within(item)));
                vary(item, &mut |item| emit(within(item)));
            }
        }
        _ => {}
    }
}

fn validator(definitions: &Value, name: &str) -> Validator {
    let schema = json!({ "$ref": format!("#/$defs/{name}"), "$defs": definitions["$defs"] });
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    options.build(&schema).unwrap()
}

/// A schema of events that judges the data by the event's own definition.
struct Events {
    envelope: Validator,
    data: Vec<Validator>,
}

impl Events {
    fn of(definitions: &Value) -> Self {
        let mut open = definitions.clone();
        open["$defs"]["event_envelope"]["properties"]["data"] = json!({ "type": "object" });
        let data = EventType::ALL.iter().map(|event| {
            let name = format!("data_{}", event.as_str().replace('.', "_"));
            validator(definitions, &name)
        });
        Self {
            envelope: validator(&open, "event_envelope"),
            data: data.collect(),
        }
    }

    fn is_valid(&self, message: &Value) -> bool {
        if !self.envelope.is_valid(message) {
            return false;
        }
        let Some(data) = message.get("data") else {
            return true;
        };
        let event = EventType::ALL
            .iter()
            .position(|it| message["event"] == it.as_str());
        self.data[event.unwrap()].is_valid(data)
    }
}

/// The reason for which we judge a message otherwise than the reference does.
fn difference(message: &Value) -> Option<&'static str> {
    let has = |name: &str| message.get(name).is_some();
    let version = message.get("spec_version").and_then(Value::as_str);
    if version.is_some_and(|it| it.starts_with("1.") && it != "1.0.0") {
        return Some("any 1.x is taken");
    }
    if has("a2a_instance_id") {
        return Some("the reference's own executor sends it");
    }
    if has("id") || has("seq") {
        return Some("events may be numbered and named");
    }
    if let Some(event) = message.get("event").and_then(Value::as_str) {
        if event.starts_with("mission.") != has("mission_id") {
            return Some("events of missions name theirs, and others none");
        }
        if !has("data") {
            return Some("data may be left out only where nothing in it is needed");
        }
        if event == "mission.resumed" && message["data"].get("checkpoint_id").is_some() {
            return Some("the deployment tells where to go on");
        }
        if message["data"].get("hitl_id").is_some_and(|id| id != "h") {
            return Some("ids are bounded");
        }
    }
    let id = message
        .get("mission_id")
        .or_else(|| message["data"]["owned_mission_ids"].get(0));
    if id
        .and_then(Value::as_str)
        .is_some_and(|id| id.contains(' ') || id.len() > 128)
    {
        return Some("mission ids are bounded, and have no spaces");
    }
    for text in ["rest", "ws", "grpc"] {
        let within = [
            &message["transport_endpoints"],
            &message["data"]["transport_endpoints"],
        ];
        if within
            .iter()
            .any(|it| it.get(text).is_some_and(Value::is_string))
        {
            let valid = |uri: &Value| uri.as_str().is_none_or(|it| it.contains("://"));
            if within
                .iter()
                .any(|it| it.get(text).is_some_and(|uri| !valid(uri)))
            {
                return Some("addresses are judged when they are dialled");
            }
        }
    }
    None
}

type Judge = fn(&Value) -> Validity;

fn messages() -> Vec<(&'static str, Value, Judge)> {
    let events = EventType::ALL.iter();
    let events = events.map(|event| {
        (
            "event_envelope",
            envelope(*event),
            validate_event_envelope as Judge,
        )
    });
    let others = [
        (
            "register_payload",
            register(),
            validate_register_payload as Judge,
        ),
        (
            "dispatch_payload",
            dispatch(),
            validate_dispatch_payload as Judge,
        ),
    ];
    others.into_iter().chain(events).collect()
}

/// Judges every variation of every message by these definitions and by ours. Returns the reasons of all differences.
fn compare(
    definitions: &Value,
    explained: fn(&Value) -> Option<&'static str>,
) -> BTreeSet<&'static str> {
    let (events, mut reasons, mut judged) = (Events::of(definitions), BTreeSet::new(), [0, 0]);
    for (name, message, ours) in messages() {
        let other = validator(definitions, name);
        for varied in variations(&message) {
            let expected = match name {
                "event_envelope" => events.is_valid(&varied),
                _ => other.is_valid(&varied),
            };
            let validity = ours(&varied);
            judged[usize::from(validity.valid)] += 1;
            if validity.valid != expected {
                match explained(&varied) {
                    Some(reason) => reasons.insert(reason),
                    None => panic!("{name}: expected {expected}, found {validity:?}: {varied:#}"),
                };
            }
        }
        assert!(ours(&message).valid, "{message}: {:?}", ours(&message));
    }
    assert!(judged[0] > 1000 && judged[1] > 100, "{judged:?}");
    reasons
}

#[test]
fn messages_are_judged_as_the_reference_does_but_for_the_listed_differences() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/reference/executor-v1.schema.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("SKIPPED: {} is not there", path.display());
        return;
    };
    let reasons = compare(&serde_json::from_str(&text).unwrap(), difference);
    let listed = BTreeSet::from([
        "any 1.x is taken",
        "the reference's own executor sends it",
        "events may be numbered and named",
        "events of missions name theirs, and others none",
        "data may be left out only where nothing in it is needed",
        "the deployment tells where to go on",
        "mission ids are bounded, and have no spaces",
        "addresses are judged when they are dialled",
    ]);
    assert_eq!(reasons, listed, "a difference that is listed is there");
}

#[test]
fn the_schema_that_is_served_is_the_one_that_is_derived() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema.json");
    if std::env::var_os("TOWPATH_WRITE_SCHEMA").is_some() {
        let derived = serde_json::to_string_pretty(&schema()).unwrap();
        std::fs::write(path, derived + "\n").unwrap();
    }
    let served: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(
        served == schema() && serde_json::from_str::<Value>(towpath_executors::SCHEMA).is_ok(),
        "the messages have changed: write schema.json anew with TOWPATH_WRITE_SCHEMA=1, and look at the difference"
    );
}

#[test]
fn the_schema_that_is_published_says_what_the_validators_do() {
    let reasons = compare(&schema(), |message| {
        let event = message.get("event").and_then(Value::as_str)?;
        if event.starts_with("mission.") != message.get("mission_id").is_some() {
            return Some("mission");
        }
        message.get("data").is_none().then_some("data")
    });
    assert_eq!(reasons, BTreeSet::from(["data", "mission"]));
}

#[test]
fn an_error_names_the_field() {
    let mut wrong = register();
    wrong["transport_endpoints"]["rest"] = 7.into();
    let judged = validate_register_payload(&wrong);
    assert!(
        judged.errors[0].starts_with("transport_endpoints.rest: "),
        "{judged:?}"
    );
    let mut wrong = register();
    wrong["spec_version"] = "2.0.0".into();
    let judged = validate_register_payload(&wrong);
    assert!(
        judged.errors[0].starts_with("spec_version: \"2.0.0\" is not a version 1.x"),
        "{judged:?}"
    );
    let mut wrong = envelope(EventType::MissionFailed);
    wrong["data"]["reason"] = "".into();
    let judged = validate_event_envelope(&wrong);
    assert!(judged.errors[0].starts_with("data.reason: "), "{judged:?}");
}
