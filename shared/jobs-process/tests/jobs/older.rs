//! Folders as release 0.1.0 left them, to the letter.

use std::fs;
use std::time::Duration;

use towpath_engine::{FailureKind, JobId};
use towpath_jobs::{CallResult, JobStatus, LossCause, Runtime, call_result};

use crate::bench::{Bench, job, script, trials};

trials![
    an_end_of_the_previous_release_is_read,
    a_job_under_a_supervisor_of_the_previous_release_is_followed_and_stopped,
    a_job_that_lost_its_supervisor_under_the_previous_release_is_evicted,
    a_tombstone_of_the_previous_release_holds,
];

const STATE: &str = r#"{"supervisor":4242,"acceptedMs":1767225601000,"running":true,"group":{"pgid":4243,"session":4242,"started":1000,"boot":"another boot"}}"#;
const DONE: &str = r#"{"status":"terminated","terminalErrorClass":null,"terminalErrorMessage":null,"exitCode":0,"answer":{"stdout":"done\n"},"resourceStats":null}"#;
const FAILED: &str = r#"{"status":"failed","terminalErrorClass":"exit_code","terminalErrorMessage":"the command ended with exit code 3: no such thing","exitCode":3,"answer":{"stdout":"2 tests failed\n"},"resourceStats":null}"#;
const STOP: &str = r#"{"grace":{"secs":10,"nanos":0}}"#;

fn write(bench: &Bench, job: &JobId, name: &str, text: &str) {
    fs::create_dir_all(bench.folder(job)).unwrap();
    fs::write(bench.folder(job).join(name), text).unwrap();
}

async fn result(bench: &Bench, job: &JobId) -> CallResult {
    let end = bench.runtime.status(job).await.unwrap();
    call_result(end.unwrap()).expect("the job has ended")
}

async fn an_end_of_the_previous_release_is_read() {
    let bench = Bench::new();
    let (done, failed) = (job(), job());
    for (job, end) in [(&done, DONE), (&failed, FAILED)] {
        write(&bench, job, "state.json", STATE);
        write(&bench, job, "exit.json", end);
    }
    assert!(
        matches!(result(&bench, &done).await, CallResult::Done(answer) if answer.output == "done\n")
    );
    let CallResult::Failed(failure) = result(&bench, &failed).await else {
        panic!()
    };
    assert_eq!(
        (failure.kind, failure.exit_code, failure.printed.as_deref()),
        (FailureKind::JobFailed, Some(3), Some("2 tests failed"))
    );
}

async fn a_job_under_a_supervisor_of_the_previous_release_is_followed_and_stopped() {
    let bench = Bench::new();
    let mut request = script("true");
    request.job = job();
    // This test is the supervisor.
    let lock = bench.hold_lock(&request.job);
    write(&bench, &request.job, "state.json", STATE);
    bench.start(&request).await;
    assert_eq!(bench.status(&request.job).await, Some(JobStatus::Running));
    let grace = Duration::from_secs(10);
    bench.runtime.stop(&request.job, grace).await.unwrap();
    let asked = fs::read_to_string(bench.folder(&request.job).join("stop")).unwrap();
    assert_eq!(asked, STOP);
    write(&bench, &request.job, "exit.json", DONE);
    lock.unlock().unwrap();
    let end = bench.end_of(&request.job).await;
    assert_eq!(
        (end.status, end.exit_code),
        (JobStatus::Terminated, Some(0))
    );
}

async fn a_job_that_lost_its_supervisor_under_the_previous_release_is_evicted() {
    let bench = Bench::new();
    let job = job();
    write(&bench, &job, "state.json", STATE);
    let result = result(&bench, &job).await;
    assert!(matches!(result, CallResult::Lost(loss) if loss.cause == LossCause::Crashed));
}

async fn a_tombstone_of_the_previous_release_holds() {
    let bench = Bench::new();
    let request = script(&format!("touch {}", bench.path("ran")));
    write(&bench, &request.job, "stop", STOP);
    bench.run(&request).await;
    let result = result(&bench, &request.job).await;
    assert!(matches!(result, CallResult::Lost(loss) if loss.cause == LossCause::Killed));
    assert!(!fs::exists(bench.path("ran")).unwrap());
}
