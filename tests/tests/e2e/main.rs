//! Towpath from end to end: the real API, the real functions and the real state machine on the local cloud, with real
//! processes for jobs.

mod again;
mod artifacts;
mod builds;
mod costs;
mod doctor;
mod drivers;
mod executors;
mod forms;
mod gates;
mod human;
mod input;
mod jobs;
mod listings;
mod looked_after;
mod models;
mod python;
mod races;
mod runner;
mod security;
mod stops;
mod ticks;
mod told;
mod workers;

use towpath_api_types::RunView;
use towpath_engine::{FailureKind, Status, StepState};
use towpath_tests::{World, Worlds};

fn worlds() -> Worlds {
    Worlds::new(env!("CARGO_BIN_EXE_towpath-under-test"))
}

async fn world() -> World {
    worlds().start().await
}

/// The kind and the message of a run's failure.
#[track_caller]
fn failure(view: &RunView) -> (FailureKind, String) {
    assert_eq!(view.summary.status, Status::Failed, "{view:#?}");
    let failure = view.summary.failure.clone().unwrap();
    let detail = failure.detail.unwrap_or_default();
    (failure.kind, format!("{}\n{detail}", failure.message))
}

/// Asserts that a run ended well, each of its steps included.
#[track_caller]
fn done(view: &RunView) {
    assert_eq!(view.summary.status, Status::Done, "{view:#?}");
    let done = |step: &towpath_api_types::StepView| step.state == StepState::Done;
    assert!(view.steps.iter().all(done), "{view:#?}");
}

/// The number of lines of a file; 0 if there is no file.
fn lines(path: &std::path::Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}
