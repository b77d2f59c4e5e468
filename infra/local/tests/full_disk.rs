//! A cloud whose disk is full: it goes on when there is room again, or says that it cannot.
#![allow(clippy::unwrap_used)] // Clippy does not see that the helpers are tests, too.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::json;
use support::{functions, options, real_template, states, telling};
use tokio::sync::mpsc::UnboundedReceiver;
use towpath_clock::Clock;
use towpath_local::Cloud;

/// A cloud that keeps its records in this directory, its clock, and what its function `advance` is told.
async fn cloud(data: &Path) -> (Cloud, Clock, UnboundedReceiver<serde_json::Value>) {
    let (advance, told) = telling();
    let mut options = options(&real_template(), functions([("AdvanceFunction", advance)]));
    options.data = Some(data.to_owned());
    let clock = options.clock.clone();
    (Cloud::start(options).await.unwrap(), clock, told)
}

/// Refuses new executions as a full disk does, until [`make_room`]; SQLite rolls the write back in both cases.
fn fill(data: &Path) {
    let full = "CREATE TRIGGER full BEFORE INSERT ON executions
                BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END";
    let connection = Connection::open(data.join("executions.db")).unwrap();
    connection.execute_batch(full).unwrap();
}

fn make_room(data: &Path) {
    let connection = Connection::open(data.join("executions.db")).unwrap();
    connection.execute_batch("DROP TRIGGER full").unwrap();
}

/// Starts the execution of a run, and says whether that worked.
async fn start(cloud: &Cloud, run: &str) -> bool {
    let started = states(&cloud.aws_environment("operator"))
        .start_execution()
        .state_machine_arn(cloud.output("StateMachineArn").unwrap())
        .name(format!("{run}-1"))
        .input(json!({"run": run, "generation": 1}).to_string());
    started.send().await.is_ok()
}

#[tokio::test]
async fn runs_are_driven_again_once_the_disk_has_room() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (cloud, clock, mut told) = cloud(&data).await;
    fill(&data);
    for _ in 0..3 {
        assert!(!start(&cloud, "run_1").await);
        clock.advance(Duration::from_secs(1));
    }
    make_room(&data);
    let mut tries = 0;
    while !start(&cloud, "run_1").await {
        tries += 1;
        assert!(
            tries < 100,
            "the store of the executions is not opened again"
        );
        clock.advance(Duration::from_secs(1));
    }
    assert_eq!(told.recv().await.unwrap()["run"], "run_1");
}

#[tokio::test]
async fn a_cloud_that_cannot_drive_runs_any_more_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (cloud, clock, _told) = cloud(&data).await;
    fill(&data);
    fs::rename(data.join("executions.db"), data.join("away")).unwrap();
    assert!(!start(&cloud, "run_1").await);
    let mut failed = std::pin::pin!(cloud.failed());
    let mut seconds = 0;
    let reason = loop {
        let next = tokio::time::timeout(Duration::ZERO, &mut failed).await;
        match next {
            Ok(reason) => break reason.to_string(),
            Err(_) => clock.advance(Duration::from_secs(1)),
        }
        seconds += 1;
        assert!(seconds < 1_000, "nobody is told");
    };
    assert!(
        reason.starts_with("the local cloud drives nothing any more: "),
        "{reason}"
    );
}
