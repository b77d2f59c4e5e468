//! The runtime `model` against a server that speaks the chat completions API, well and badly. Time is tokio's and stands
//! still while anything is at work.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod answers;
mod contract;
mod journal;
mod retries;
mod server;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use towpath_auth::Secret;
use towpath_clock::Clock;
use towpath_engine::{CheckedAnswer, Model};
use towpath_jobs::{
    CallFailure, CallResult, JobRequest, Runtime, StartError, Started, Work, call_result,
};
use towpath_jobs_model::{Base, ModelRuntime};
use towpath_store::{JobRecords, MemoryObjects, Store};
use towpath_table::MemoryTable;

use server::Server;

/// The time at which the tests begin, 2026-01-01T00:00:00Z, in milliseconds since the epoch.
const NEW_YEAR: u64 = 1_767_225_600_000;
/// The longest time of a call, tries and all.
const WHOLE: Duration = Duration::from_secs(250);
const KEY: &str = "sk-swordfish-0123";

fn runtime(server: &Arc<Server>) -> ModelRuntime {
    let base = Base::parse("https://gateway.example.com/v1").unwrap();
    let keys = Arc::new(Some(Secret::new(KEY)));
    let clock = Clock::manual(NEW_YEAR);
    ModelRuntime::new(base, keys, server.records.clone(), WHOLE, clock)
        .over(Arc::clone(server) as _)
}

/// Records of jobs, in memory.
fn records() -> JobRecords {
    let table = || Arc::new(MemoryTable::default());
    Store::new(table(), table(), Arc::new(MemoryObjects::default())).jobs()
}

fn model() -> Model {
    Model {
        model: "large".to_owned(),
        prompt: Some("Say hello.".to_owned()),
        ..Model::default()
    }
}

fn request(work: Work) -> JobRequest {
    JobRequest {
        job: format!("job_{}-1", ulid::Ulid::new()).parse().unwrap(),
        workspace: "acme".parse().unwrap(),
        work,
        step: towpath_engine::StepIndex(0),
        attempt: 1,
        context: json!({"decisions": []}),
        inputs: Vec::new(),
        artifacts: Vec::new(),
        max_run: Duration::from_secs(3600),
        grace: Duration::from_secs(10),
    }
}

async fn start(server: &Arc<Server>) -> Result<CallResult, StartError> {
    within(server, Duration::from_secs(3600)).await
}

/// What a call comes to that may run for this long.
async fn within(server: &Arc<Server>, max_run: Duration) -> Result<CallResult, StartError> {
    let request = JobRequest {
        max_run,
        ..request(Work::Model(model()))
    };
    match runtime(server).start(&request).await? {
        Started::Answered(end) => Ok(call_result(*end).unwrap()),
        Started::Accepted => panic!("a model's job is over at once"),
    }
}

async fn answer(server: &Arc<Server>) -> CheckedAnswer {
    match start(server).await {
        Ok(CallResult::Done(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

async fn failure(server: &Arc<Server>) -> CallFailure {
    match start(server).await {
        Ok(CallResult::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}
