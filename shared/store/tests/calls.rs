//! Calls that are made inline: counted before they are made, by whoever makes them.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use towpath_engine::{Simulated, StepIndex, Timestamp};
use towpath_jobs::{JobRequest, JobSnapshot, JobStatus, Work};
use towpath_store::{JobRecords, JobStop, MemoryObjects, Store};
use towpath_table::MemoryTable;

fn records() -> JobRecords {
    let table = || Arc::new(MemoryTable::default());
    Store::new(table(), table(), Arc::new(MemoryObjects::default())).jobs()
}

fn request() -> JobRequest {
    JobRequest {
        job: "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-7".parse().unwrap(),
        workspace: "acme".parse().unwrap(),
        work: Work::Simulated(Simulated::default()),
        step: StepIndex(3),
        attempt: 2,
        context: serde_json::Value::Null,
        inputs: Vec::new(),
        artifacts: Vec::new(),
        max_run: Duration::from_secs(60),
        grace: Duration::from_secs(1),
    }
}

#[tokio::test]
async fn each_call_has_a_number_of_its_own_whoever_else_begins_one() {
    let (records, request) = (records(), request());
    let begun = join_all((0..8).map(|_| records.begin_call(&request))).await;
    let mut numbers: Vec<_> = begun
        .into_iter()
        .map(|record| record.unwrap().calls.unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=8).collect::<Vec<_>>());
    records.take_call_back(&request.job).await.unwrap();
    let record = records.count_call(&request.job).await.unwrap();
    assert_eq!(record.calls, Some(8));
    let kept = records.get(&request.job).await.unwrap().unwrap();
    assert_eq!((kept.calls, kept.step), (Some(8), Some(StepIndex(3))));
}

#[tokio::test]
async fn no_call_is_counted_for_a_job_that_is_to_stop_or_is_over() {
    let (records, request) = (records(), request());
    let stop = JobStop {
        at: Timestamp(1),
        grace_ms: 0,
    };
    // A tombstone, of which nothing else is known.
    records.ask_stop(&request.job, &stop).await.unwrap();
    let stopped = records.begin_call(&request).await.unwrap();
    assert_eq!((stopped.calls, stopped.stop), (None, Some(stop)));

    let (records, request) = (self::records(), self::request());
    let record = records.begin_call(&request).await.unwrap();
    let end = JobSnapshot::of(JobStatus::Terminated);
    assert!(records.end(&record, &end, 1).await.unwrap());
    let over = records.begin_call(&request).await.unwrap();
    assert_eq!((over.calls, over.end), (Some(1), Some(end)));
}
