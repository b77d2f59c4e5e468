//! The services over ports that a test holds in its hands: calls that meet each other in one certain order, or hang.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ports;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use towpath_api_types::StopRun;
use towpath_engine::{FailureKind, Next, Status};
use towpath_jobs::JobSnapshot;
use towpath_service::Stopped;

use crate::ports::{Bench, token};

/// A job ends, and is heard of, between the driver's look at it and the driver's park.
#[tokio::test]
async fn an_end_heard_during_the_drivers_own_look_is_taken_at_once() {
    let bench = Bench::new().await;
    let run = bench.start().await;
    bench.app.driver.drive(&bench.entry(&run, 0)).await.unwrap();
    assert!(bench.machine.answered().is_empty(), "the run waits");

    let (app, jobs) = (bench.app.clone(), Arc::clone(&bench.jobs));
    let id = run.clone();
    bench.jobs.at_next_look(Box::pin(async move {
        jobs.ends(JobSnapshot {
            exit_code: Some(0),
            ..JobSnapshot::of(towpath_jobs::JobStatus::Terminated)
        });
        let job = jobs.started().pop().unwrap();
        app.poll.look(&id, Some(&job)).await.unwrap();
    }));
    // The driver before this one died; the machine's retry looks at the job, as it was a moment ago.
    bench.app.driver.drive(&bench.entry(&run, 1)).await.unwrap();
    // Its park met the news, so it looked again: there was nothing left for a tick to do.
    let head = bench.app.store.head(&run).await.unwrap().unwrap();
    assert_eq!(head.status, Status::Done);
    assert_eq!(bench.machine.answered(), [(token(1), Next::Over)]);
}

/// A runtime that does not answer is no reason to let whoever stops a run wait.
#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_runtime_that_hangs() {
    let bench = Bench::new().await;
    let run = bench.start().await;
    bench.app.driver.drive(&bench.entry(&run, 0)).await.unwrap();
    bench.jobs.hangs.store(true, Ordering::Relaxed);

    let before = tokio::time::Instant::now();
    let ask = StopRun::default();
    let stopped = bench.app.runs.stop(&bench.caller, &run, &ask).await;
    assert!(before.elapsed() <= Duration::from_secs(4));
    assert_eq!(stopped.unwrap(), Stopped::Now);
    let head = bench.app.store.head(&run).await.unwrap().unwrap();
    assert_eq!(head.failure.unwrap().kind, FailureKind::Cancelled);
    let left = bench.app.store.reaps(&run).await.unwrap();
    assert_eq!(left.len(), 1, "the job is not forgotten");

    bench.jobs.hangs.store(false, Ordering::Relaxed);
    bench.ticks(Duration::from_secs(120)).await;
    assert_eq!(bench.app.store.reaps(&run).await.unwrap(), []);
}

/// A run whose head is never free for the mark: the stop is kept and marked later, by the tick.
#[tokio::test(start_paused = true)]
async fn a_stop_that_cannot_be_marked_is_kept() {
    let bench = Bench::new().await;
    let run = bench.start().await;
    bench.app.driver.drive(&bench.entry(&run, 0)).await.unwrap();
    bench.runs.busy.store(true, Ordering::Relaxed);
    let ask = StopRun {
        reason: Some("enough".to_owned()),
    };
    let stopped = bench.app.runs.stop(&bench.caller, &run, &ask).await;
    assert_eq!(stopped.unwrap(), Stopped::Soon);
    bench.ticks(Duration::from_secs(120)).await;
    let head = bench.app.store.head(&run).await.unwrap().unwrap();
    assert_eq!(
        (head.status, head.stop),
        (Status::Running, None),
        "it is still busy"
    );

    bench.runs.busy.store(false, Ordering::Relaxed);
    bench.ticks(Duration::from_secs(120)).await;
    let head = bench.app.store.head(&run).await.unwrap().unwrap();
    let failure = head.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Cancelled);
    assert!(failure.message.contains("enough"), "{}", failure.message);
    assert_eq!(bench.app.store.stop_request(&run).await.unwrap(), None);
    assert!(
        bench
            .machine
            .answered()
            .iter()
            .any(|(answered, _)| *answered == token(0)),
        "the driver is let go"
    );
}
