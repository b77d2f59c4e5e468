//! Hearing of ends.

use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use towpath_engine::JobId;
use towpath_jobs::Runtime;

use crate::bench::{Bench, elsewhere, job, script, trials};

trials![
    each_end_is_told_once_whoever_started_the_job,
    a_dropped_watcher_is_silent,
    nobody_waits_for_what_never_was
];

const HANG: Duration = Duration::from_secs(120);

fn listen(bench: &Bench) -> (towpath_jobs_process::Watcher, mpsc::Receiver<JobId>) {
    let (tell, told) = mpsc::channel();
    let watcher = bench.runtime.watch(move |job| {
        let _ = tell.send(job);
    });
    (watcher.unwrap(), told)
}

async fn each_end_is_told_once_whoever_started_the_job() {
    let bench = Bench::new();
    let before = script("true");
    bench.run(&before).await;
    let (_watcher, told) = listen(&bench);
    assert_eq!(
        told.recv_timeout(HANG),
        Ok(before.job),
        "ended before anybody watched"
    );

    let here = script("true");
    bench.start(&here).await;
    assert_eq!(told.recv_timeout(HANG), Ok(here.job.clone()));

    let other = script("true");
    assert!(elsewhere(&bench.root(), &other).status().unwrap().success());
    assert_eq!(told.recv_timeout(HANG), Ok(other.job));

    let lost = script("sleep 1000");
    bench.start(&lost).await;
    kill_process(bench.supervisor(&lost.job), Signal::KILL).unwrap();
    assert_eq!(told.recv_timeout(HANG), Ok(lost.job));

    let never = job();
    bench.runtime.stop(&never, Duration::ZERO).await.unwrap();
    assert_eq!(told.recv_timeout(HANG), Ok(never));

    // A second word on any of them would come before this one.
    bench.start(&here).await;
    let last = script("true");
    bench.start(&last).await;
    assert_eq!(told.recv_timeout(HANG), Ok(last.job));
}

async fn a_dropped_watcher_is_silent() {
    let bench = Bench::new();
    let (watcher, told) = listen(&bench);
    let request = script("sleep 1000");
    bench.start(&request).await;
    drop(watcher);
    // The sender lives in the watcher's thread: that it is gone means that the thread is, though the job is not.
    assert_eq!(
        told.recv_timeout(HANG),
        Err(mpsc::RecvTimeoutError::Disconnected)
    );
    bench
        .runtime
        .stop(&request.job, Duration::ZERO)
        .await
        .unwrap();
    bench.end_of(&request.job).await;
}

async fn nobody_waits_for_what_never_was() {
    let bench = Bench::new();
    assert_eq!(bench.runtime.ended(&job()).await.unwrap(), None);
}
