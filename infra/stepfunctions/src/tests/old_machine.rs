//! Executions that the release 0.1.0 left on disk. Their machine had `Choice` and variables, which are not run any more.
//! The release after this one deletes this file and the definition beside it.

use serde_json::{Value, json};
use tempfile::TempDir;
use towpath_clock::Clock;

use super::machine::machine;
use super::{MACHINE, NOW, World};
use crate::token::Token;
use crate::{Definition, time};

const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
const EXECUTION: &str = "arn:aws:states:eu-central-1:123456789012:execution:m:run_1-1";

/// The tables as 0.1.0 made them.
const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE definitions (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL);
CREATE TABLE machines (arn TEXT PRIMARY KEY, name TEXT NOT NULL, definition INTEGER NOT NULL, created INTEGER NOT NULL);
CREATE TABLE executions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, arn TEXT NOT NULL UNIQUE, machine_arn TEXT NOT NULL,
    machine_name TEXT NOT NULL, name TEXT NOT NULL, definition INTEGER NOT NULL, status TEXT NOT NULL,
    started INTEGER NOT NULL, stopped INTEGER, input TEXT NOT NULL, output TEXT, failure TEXT, timeout INTEGER,
    position TEXT NOT NULL, transitions INTEGER NOT NULL, invocations INTEGER NOT NULL, last_event INTEGER NOT NULL,
    due INTEGER
);
CREATE INDEX executions_due ON executions (due) WHERE due IS NOT NULL;
CREATE INDEX executions_machine ON executions (machine_arn, seq);
CREATE TABLE events (
    execution INTEGER NOT NULL, id INTEGER NOT NULL, previous INTEGER NOT NULL, at INTEGER NOT NULL,
    kind TEXT NOT NULL, member TEXT, details TEXT, PRIMARY KEY (execution, id)
) WITHOUT ROWID;
CREATE TABLE notices (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
PRAGMA user_version = 1;
";

fn old_machine() -> Value {
    serde_json::from_str(include_str!("machine-0.1.0.asl.json")).unwrap()
}

/// A file with one execution that waits in `PollJob`, or whose function was called and had not answered. Returns the
/// token that it waits for.
fn left_by_0_1_0(file: &std::path::Path, parked: bool) -> String {
    let token = Token {
        store: STORE.to_owned(),
        execution: 1,
        task: 2,
    }
    .encode(ulid::Ulid::new());
    let position = json!({
        "state": "PollJob", "entered_ms": NOW - 5_000, "input": { "next": "PollJob" },
        "variables": { "next": "PollJob" }, "retries": 0, "attempts": [], "tasks": 2,
        "phase": { "Task": {
            "number": 2, "token": token, "parked": parked, "timeout_ms": NOW + 80_000_000, "heartbeat": null,
        } },
    });
    let file = rusqlite::Connection::open(file).unwrap();
    file.execute_batch(TABLES).unwrap();
    file.execute("INSERT INTO meta VALUES ('id', ?1)", [STORE])
        .unwrap();
    file.execute(
        "INSERT INTO definitions (text) VALUES (?1)",
        [old_machine().to_string()],
    )
    .unwrap();
    file.execute("INSERT INTO machines VALUES (?1, 'm', 1, 0)", [MACHINE])
        .unwrap();
    file.execute(
        "INSERT INTO executions VALUES (1, ?1, ?2, 'm', 'run_1-1', 1, 'RUNNING', ?3, NULL, ?4, NULL, NULL, NULL, ?5,
         6, 2, 14, ?6)",
        rusqlite::params![
            EXECUTION,
            MACHINE,
            (NOW - 60_000) as i64,
            r#"{"run":"run_1","generation":1}"#,
            position.to_string(),
            (NOW + 80_000_000) as i64,
        ],
    )
    .unwrap();
    token
}

#[test]
fn the_old_machine_is_refused_for_what_is_not_run_any_more() {
    let problems = Definition::parse(&old_machine()).unwrap_err().to_string();
    for named in [
        "/States/Advance/Assign",
        "/States/Route/Type",
        "/States/Fail/Error",
    ] {
        assert!(problems.contains(named), "{named}: {problems}");
    }
}

#[tokio::test]
async fn an_execution_of_the_old_machine_ends_aborted_so_that_its_run_gets_the_next() {
    for parked in [true, false] {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("executions.db");
        let token = left_by_0_1_0(&file, parked);
        let mut world = World::open(Some(&file), Clock::manual(NOW));
        world.define(machine());
        assert_eq!(world.describe(EXECUTION).await["status"], "RUNNING");

        world.sfn.resume();
        let change = world.changes.recv().await.unwrap();
        assert_eq!(
            (change.status.as_str(), change.error.as_deref()),
            ("ABORTED", Some("Towpath.MachineReplaced"))
        );
        assert_eq!(change.execution_arn, EXECUTION);
        assert_eq!(change.input, r#"{"run":"run_1","generation":1}"#);
        assert_eq!(world.describe(EXECUTION).await["status"], "ABORTED");
        assert_eq!(world.events(EXECUTION).await, ["ExecutionAborted"]);
        let answer = json!({ "taskToken": token, "output": r#"{"next":"PollJob"}"# });
        assert_eq!(
            world.refused("SendTaskSuccess", answer).await,
            "TaskTimedOut"
        );

        world
            .start("run_1-2", json!({ "run": "run_1", "generation": 2 }))
            .await;
        let call = world.call().await;
        assert_eq!(
            (call.function.as_str(), &call.payload["entered"]),
            ("advance", &json!(time::iso(NOW)))
        );
    }
}
