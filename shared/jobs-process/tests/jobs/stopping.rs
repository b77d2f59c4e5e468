//! Ending jobs from outside, on purpose and by accident.

use std::time::Duration;

use rustix::process::{Signal, kill_process};
use towpath_jobs::{JobStatus, Runtime, error_class};

use crate::bench::{Bench, class, elsewhere, job, script, stop_elsewhere, trials};

trials![
    a_stopped_job_may_tidy_up,
    a_job_that_will_not_stop_is_killed_with_all_its_descendants,
    a_job_stopped_before_its_start_never_runs,
    a_stop_beats_every_start_that_comes_after_it_from_whatever_process,
    a_stop_waits_for_a_supervisor_that_is_about_to_accept_the_job,
    stopping_what_has_ended_changes_nothing,
    a_job_whose_supervisor_was_killed_is_evicted_and_leaves_nobody,
    stopping_a_job_without_supervisor_ends_what_is_left_of_it,
];

const LONG: Duration = Duration::from_secs(3600);

async fn a_stopped_job_may_tidy_up() {
    let bench = Bench::new();
    let (pipe, told) = bench.pipe("told");
    let (go, _) = (
        bench.path("go"),
        std::process::Command::new("mkfifo")
            .arg(bench.path("go"))
            .status()
            .unwrap(),
    );
    let tidy = format!("echo tidying >&9; read go < {go}; echo tidied >&9; exit 0");
    let request = script(&format!(
        "exec 9> {pipe}; trap '{tidy}' TERM; echo up >&9; sleep 1000 & wait"
    ));
    bench.start(&request).await;
    assert_eq!(told.next(), "up");
    assert_eq!(bench.status(&request.job).await, Some(JobStatus::Running));
    bench.runtime.stop(&request.job, LONG).await.unwrap();
    bench.runtime.stop(&request.job, LONG).await.unwrap();
    assert_eq!(told.next(), "tidying");
    assert_eq!(bench.status(&request.job).await, Some(JobStatus::Stopping));
    std::fs::write(&go, "go\n").unwrap();
    assert_eq!(told.next(), "tidied");
    let end = bench.end_of(&request.job).await;
    assert_eq!(
        (end.status, class(&end)),
        (JobStatus::Terminated, Some(error_class::STOPPED))
    );
    told.is_abandoned();
}

/// Two generations that ignore a polite request, each with the pipe open.
fn stubborn(pipe: &str) -> String {
    format!(
        "trap '' TERM; exec 9> {pipe}; (sh -c 'echo grandchild >&9; while :; do sleep 1000; done') & \
         echo child >&9; while :; do sleep 1000; done"
    )
}

async fn a_job_that_will_not_stop_is_killed_with_all_its_descendants() {
    let bench = Bench::new();
    let (pipe, living) = bench.pipe("living");
    let request = script(&stubborn(&pipe));
    bench.start(&request).await;
    for _ in 0..2 {
        living.next();
    }
    bench
        .runtime
        .stop(&request.job, Duration::from_millis(100))
        .await
        .unwrap();
    let end = bench.end_of(&request.job).await;
    assert_eq!(
        (end.status, class(&end)),
        (JobStatus::Terminated, Some(error_class::STOPPED))
    );
    living.is_abandoned();
}

async fn a_job_stopped_before_its_start_never_runs() {
    let bench = Bench::new();
    let request = script(&format!("touch {}", bench.path("ran")));
    bench.runtime.stop(&request.job, LONG).await.unwrap();
    let end = bench.run(&request).await;
    assert_eq!(
        (end.status, class(&end)),
        (JobStatus::Terminated, Some(error_class::STOPPED))
    );
    assert!(!std::path::Path::new(&bench.path("ran")).exists());

    // Whoever stopped it died before the end was written.
    let request = script(&format!("touch {}", bench.path("ran")));
    std::fs::create_dir_all(bench.folder(&request.job)).unwrap();
    std::fs::write(
        bench.folder(&request.job).join("stop"),
        r#"{"grace":{"secs":0,"nanos":0}}"#,
    )
    .unwrap();
    let end = bench.run(&request).await;
    assert_eq!(class(&end), Some(error_class::STOPPED));
    assert!(!std::path::Path::new(&bench.path("ran")).exists());
}

async fn stopping_what_has_ended_changes_nothing() {
    let bench = Bench::new();
    let request = script("echo done");
    let end = bench.run(&request).await;
    bench.runtime.stop(&request.job, LONG).await.unwrap();
    assert_eq!(bench.runtime.status(&request.job).await.unwrap(), Some(end));
    assert_eq!(bench.status(&job()).await, None);
}

async fn a_job_whose_supervisor_was_killed_is_evicted_and_leaves_nobody() {
    let bench = Bench::new();
    let (pipe, living) = bench.pipe("living");
    let request = script(&format!(
        "echo ran >> {}; {}",
        bench.path("runs"),
        stubborn(&pipe)
    ));
    bench.start(&request).await;
    for _ in 0..2 {
        living.next();
    }
    kill_process(bench.supervisor(&request.job), Signal::KILL).unwrap();
    // Returns only because the command does not hold the lock.
    let end = bench.end_of(&request.job).await;
    assert_eq!(
        (end.status, class(&end)),
        (JobStatus::Failed, Some(error_class::EVICTED))
    );
    living.is_abandoned();
    bench.start(&request).await;
    assert_eq!(
        bench.restarted().status(&request.job).await.unwrap(),
        Some(end)
    );
    assert_eq!(
        std::fs::read_to_string(bench.path("runs")).unwrap(),
        "ran\n"
    );
}

async fn stopping_a_job_without_supervisor_ends_what_is_left_of_it() {
    let bench = Bench::new();
    let (pipe, living) = bench.pipe("living");
    // The leader ends with its supervisor; the group lives on without it.
    let text = format!("{} & read never < {}", stubborn(&pipe), bench.path("never"));
    assert!(
        std::process::Command::new("mkfifo")
            .arg(bench.path("never"))
            .status()
            .unwrap()
            .success()
    );
    let request = script(&format!("({text})"));
    bench.start(&request).await;
    for _ in 0..2 {
        living.next();
    }
    let supervisor = bench.supervisor(&request.job);
    let leader = bench.record(&request.job, "state.json")["group"]["pgid"]
        .as_i64()
        .unwrap();
    let leader = rustix::process::Pid::from_raw(i32::try_from(leader).unwrap()).unwrap();
    // Stopped, it cannot see its child's end and write the job's.
    kill_process(supervisor, Signal::STOP).unwrap();
    kill_process(leader, Signal::KILL).unwrap();
    kill_process(supervisor, Signal::KILL).unwrap();
    bench.runtime.stop(&request.job, LONG).await.unwrap();
    let end = bench.end_of(&request.job).await;
    assert_eq!(
        (end.status, class(&end)),
        (JobStatus::Failed, Some(error_class::EVICTED))
    );
    living.is_abandoned();
}

async fn a_stop_beats_every_start_that_comes_after_it_from_whatever_process() {
    let bench = Bench::new();
    for round in 0..8 {
        let runs = bench.path(&format!("runs{round}"));
        let times = || std::fs::read_to_string(&runs).unwrap_or_default();
        let request = script(&format!("echo ran >> {runs}; exec sleep 1000"));
        let start = || elsewhere(&bench.root(), &request).spawn().unwrap();
        // In every other round a start is on its way first.
        let mut starts: Vec<_> = (0..round % 2).map(|_| start()).collect();
        let mut stop = stop_elsewhere(&bench.root(), &request.job).spawn().unwrap();
        starts.extend((0..3).map(|_| start()));
        assert!(stop.wait().unwrap().success());
        let left = bench.status(&request.job).await;
        let when_gone = left.is_none_or(JobStatus::is_final).then(times);
        for mut start in starts {
            assert!(start.wait().unwrap().success());
        }
        let end = bench.run(&request).await;
        assert_eq!(class(&end), Some(error_class::STOPPED), "{end:?}");
        assert!(["", "ran\n"].contains(&times().as_str()), "{}", times());
        if let Some(when_gone) = when_gone {
            assert_eq!(times(), when_gone, "it began after it was gone");
        }
    }
}

async fn a_stop_waits_for_a_supervisor_that_is_about_to_accept_the_job() {
    let bench = Bench::new();
    let job = job();
    let lock = bench.hold_lock(&job);
    let runtime = bench.restarted();
    let stopped = job.clone();
    let mut stop = tokio::spawn(async move { runtime.stop(&stopped, LONG).await });
    // The tombstone is there, and the supervisor has not seen it.
    while !bench.folder(&job).join("stop").exists() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.status(&job).await, None);
    // However long one waits: it cannot return before the lock is free.
    let early = tokio::time::timeout(Duration::from_millis(200), &mut stop).await;
    assert!(early.is_err(), "it returned before the supervisor decided");
    lock.unlock().unwrap();
    stop.await.unwrap().unwrap();
    assert_eq!(bench.status(&job).await, Some(JobStatus::Terminated));
}
