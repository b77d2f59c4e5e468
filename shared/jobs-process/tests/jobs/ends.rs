//! How jobs end, and what is kept of them.

use std::fs;
use std::process::Command;
use std::time::Duration;

use towpath_jobs::{Answer, JobRequest, JobStatus, Runtime, error_class};

use crate::bench::{Bench, class, job, message, script, trials};

trials![
    an_answer_file_goes_before_what_was_printed,
    an_answer_that_cannot_be_taken_fails_the_job,
    what_was_printed_is_the_answer_whole_or_not_at_all,
    an_exit_code_is_told_with_the_last_words,
    a_command_killed_by_another_failed_by_signal,
    a_job_may_not_run_longer_than_it_may,
    what_a_command_leaves_running_is_ended,
    a_daemon_that_left_the_group_is_ended_with_the_job,
    a_daemon_does_not_outlive_a_job_that_lost_its_supervisor,
    a_print_that_could_not_be_kept_whole_is_no_answer,
    a_job_that_deletes_its_own_folder_fails_and_is_not_run_again,
    a_job_that_ends_its_supervisor_too_is_evicted_and_not_run_again,
    an_end_that_cannot_be_written_is_written_later,
    a_job_ends_with_the_owner_of_its_root,
    the_last_lines_can_be_read_while_the_job_runs,
    a_removed_job_is_forgotten_and_a_live_one_stays,
];

async fn an_answer_file_goes_before_what_was_printed() {
    let bench = Bench::new();
    let end = bench
        .run(&script(
            "echo printed; printf 'written: é' > $TOWPATH_OUTPUT",
        ))
        .await;
    assert_eq!(end.answer, Some(Answer::File("written: é".to_owned())));
    let end = bench.run(&script("echo printed; echo muttered >&2")).await;
    assert_eq!(
        (end.status, class(&end), end.exit_code),
        (JobStatus::Terminated, None, Some(0))
    );
    assert_eq!(end.answer, Some(Answer::Stdout("printed\n".to_owned())));
}

async fn an_answer_that_cannot_be_taken_fails_the_job() {
    let bench = Bench::new();
    for (what, why) in [
        ("head -c 4194305 /dev/zero > $TOWPATH_OUTPUT", "4 MiB"),
        ("printf '\\377' > $TOWPATH_OUTPUT", "UTF-8"),
        ("mkfifo $TOWPATH_OUTPUT", "not a file"),
        ("ln -s /etc/hostname $TOWPATH_OUTPUT", "not a file"),
    ] {
        let end = bench.run(&script(what)).await;
        assert_eq!(
            (end.status, class(&end)),
            (JobStatus::Failed, Some(error_class::ANSWER_REFUSED)),
            "{what}"
        );
        assert!(message(&end).contains(why), "{end:?}");
    }
    let end = bench
        .run(&script("head -c 4194304 /dev/zero > $TOWPATH_OUTPUT"))
        .await;
    assert!(matches!(end.answer, Some(Answer::File(text)) if text.len() == 4 << 20));
}

async fn what_was_printed_is_the_answer_whole_or_not_at_all() {
    let bench = Bench::new();
    let end = bench
        .run(&script("yes é | head -n 20000; printf last"))
        .await;
    let Some(Answer::Stdout(text)) = end.answer else {
        panic!("{end:?}")
    };
    assert_eq!(text, "é\n".repeat(20_000) + "last");
    let end = bench.run(&script("head -c 4194305 /dev/zero")).await;
    let Some(Answer::Stdout(text)) = end.answer else {
        panic!("{end:?}")
    };
    assert!(text.contains("printed 4194305 bytes"), "{text}");
}

async fn an_exit_code_is_told_with_the_last_words() {
    let bench = Bench::new();
    let end = bench
        .run(&script(
            "printf '\\033[31mno such\\007 thing\\033[0m\\n' >&2; exit 3",
        ))
        .await;
    assert_eq!(
        (end.status, class(&end), end.exit_code),
        (JobStatus::Failed, Some(error_class::EXIT_CODE), Some(3))
    );
    assert_eq!(
        message(&end),
        "the command ended with exit code 3: no such thing"
    );
    let end = bench
        .run(&script("yes complaint | head -n 10000 >&2; exit 1"))
        .await;
    assert!(
        message(&end).len() < 2200 && message(&end).ends_with("complaint"),
        "{}",
        message(&end)
    );
    let end = bench
        .run(&script("echo 2 tests failed; echo make: error >&2; exit 2"))
        .await;
    assert_eq!(
        end.printed.as_deref(),
        Some("2 tests failed\nmake: error"),
        "from both outputs"
    );
    let end = bench
        .run(&script("echo a finding > $TOWPATH_OUTPUT; exit 1"))
        .await;
    assert_eq!(
        (end.printed.as_deref(), end.answer),
        (Some("a finding"), None)
    );
    let end = bench.run(&script("yes line | head -n 10000; exit 1")).await;
    let printed = end.printed.unwrap();
    assert!(printed.len() <= 4096 && printed.starts_with("line\nline"));
}

async fn a_command_killed_by_another_failed_by_signal() {
    let bench = Bench::new();
    let end = bench.run(&script("kill -9 $$")).await;
    assert_eq!(
        (end.status, class(&end), end.exit_code),
        (JobStatus::Failed, Some(error_class::SIGNAL), None)
    );
    assert!(message(&end).contains("signal 9"), "{end:?}");
}

async fn a_job_may_not_run_longer_than_it_may() {
    let bench = Bench::new();
    let (pipe, living) = bench.pipe("living");
    let text = format!("trap '' TERM; exec 9> {pipe}; sleep 1000 & sleep 1000");
    let short = Duration::from_millis(300);
    let end = bench
        .run(&JobRequest {
            max_run: short,
            grace: short,
            ..script(&text)
        })
        .await;
    assert_eq!(
        (end.status, class(&end)),
        (JobStatus::Failed, Some(error_class::TIMED_OUT))
    );
    assert!(message(&end).contains("300ms"), "{end:?}");
    living.is_abandoned();
}

async fn what_a_command_leaves_running_is_ended() {
    let bench = Bench::new();
    let (pipe, living) = bench.pipe("living");
    // The child holds the job's standard output, too.
    let end = bench
        .run(&script(&format!("exec 9> {pipe}; sleep 1000 & echo done")))
        .await;
    assert_eq!(
        (end.status, end.answer),
        (
            JobStatus::Terminated,
            Some(Answer::Stdout("done\n".to_owned()))
        )
    );
    living.is_abandoned();
}

#[cfg(target_os = "linux")]
async fn a_daemon_that_left_the_group_is_ended_with_the_job() {
    let bench = Bench::new();
    let (pipe, living) = bench.pipe("living");
    let out = bench.path("out");
    assert!(Command::new("mkfifo").arg(&out).status().unwrap().success());
    // `setsid` ends the group membership; the script waits so that the daemon is out before it ends itself.
    let daemon =
        format!("exec 9> {pipe} 0<&- 1<&- 2<&-; trap \"\" TERM; echo out > {out}; sleep 1000");
    let text = format!("setsid sh -c '{daemon}' & read out < {out}; echo done");
    let end = bench
        .run(&JobRequest {
            grace: Duration::ZERO,
            ..script(&text)
        })
        .await;
    assert_eq!(end.answer, Some(Answer::Stdout("done\n".to_owned())));
    living.is_abandoned();
}

#[cfg(target_os = "linux")]
async fn a_daemon_does_not_outlive_a_job_that_lost_its_supervisor() {
    let bench = Bench::new();
    let (pipe, living) = bench.pipe("living");
    let (gate, up) = bench.pipe("up");
    let text = format!("setsid sh -c 'exec 9> {pipe}; echo up > {gate}; sleep 1000' & sleep 1000");
    let request = script(&text);
    bench.start(&request).await;
    up.next();
    let supervisor = bench.supervisor(&request.job);
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    let end = bench.end_of(&request.job).await;
    assert_eq!(class(&end), Some(error_class::EVICTED));
    living.is_abandoned();
}

#[cfg(not(target_os = "linux"))]
async fn a_daemon_that_left_the_group_is_ended_with_the_job() {}
#[cfg(not(target_os = "linux"))]
async fn a_daemon_does_not_outlive_a_job_that_lost_its_supervisor() {}

async fn a_print_that_could_not_be_kept_whole_is_no_answer() {
    let bench = Bench::new();
    let full = |request: &JobRequest| {
        let folder = bench.folder(&request.job);
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.join("stdout.log")).unwrap();
    };
    let request = script("echo words");
    full(&request);
    let end = bench.run(&request).await;
    assert_eq!(class(&end), Some(error_class::ANSWER_REFUSED), "{end:?}");
    assert!(message(&end).contains("No space left"), "{end:?}");
    let request = script("echo words; echo answer > $TOWPATH_OUTPUT");
    full(&request);
    let end = bench.run(&request).await;
    assert_eq!(end.answer, Some(Answer::File("answer\n".to_owned())));
}

async fn a_job_that_deletes_its_own_folder_fails_and_is_not_run_again() {
    let bench = Bench::new();
    let ran = bench.path("ran");
    let delete = format!("echo ran >> {ran}; rm -rf \"${{TOWPATH_OUTPUT%/*}}\"");
    for text in [delete.clone(), format!("{delete}; sleep 1000")] {
        fs::write(&ran, "").unwrap();
        let request = script(&text);
        let end = bench.run(&request).await;
        assert_eq!(class(&end), Some(error_class::ANSWER_REFUSED), "{end:?}");
        assert!(message(&end).contains("deleted the folder"), "{end:?}");
        bench.start(&request).await;
        assert_eq!(fs::read_to_string(&ran).unwrap(), "ran\n");
    }
}

#[cfg(target_os = "linux")]
async fn a_job_that_ends_its_supervisor_too_is_evicted_and_not_run_again() {
    let bench = Bench::new();
    let (pipe, living) = bench.pipe("living");
    let (gate, up) = bench.pipe("up");
    let text = format!(
        "exec 9> {pipe}; rm -rf \"${{TOWPATH_OUTPUT%/*}}\"; kill -9 $PPID; echo up > {gate}; sleep 1000"
    );
    let request = script(&text);
    bench.start(&request).await;
    up.next();
    bench.start(&request).await;
    bench
        .runtime
        .stop(&request.job, Duration::ZERO)
        .await
        .unwrap();
    let end = bench.end_of(&request.job).await;
    assert_eq!(class(&end), Some(error_class::EVICTED), "{end:?}");
    living.is_abandoned();
}

#[cfg(not(target_os = "linux"))]
async fn a_job_that_ends_its_supervisor_too_is_evicted_and_not_run_again() {}

async fn an_end_that_cannot_be_written_is_written_later() {
    let bench = Bench::new();
    let request = script("mkdir -p \"${TOWPATH_OUTPUT%/*}/exit.json/in-the-way\"; echo done");
    bench.start(&request).await;
    let folder = bench.folder(&request.job);
    let said = || fs::read_to_string(folder.join("supervisor.log")).unwrap_or_default();
    while !said().contains("cannot be recorded yet") {
        tokio::task::yield_now().await;
    }
    fs::remove_dir_all(folder.join("exit.json")).unwrap();
    let end = bench.end_of(&request.job).await;
    assert_eq!(end.answer, Some(Answer::Stdout("done\n".to_owned())));
}

async fn a_job_ends_with_the_owner_of_its_root() {
    let bench = Bench::new();
    let owner = towpath_jobs_process::Ownership::take(&bench.root()).unwrap();
    let (pipe, living) = bench.pipe("living");
    let (gate, up) = bench.pipe("up");
    let request = script(&format!("exec 9> {pipe}; echo up > {gate}; sleep 1000"));
    bench.start(&request).await;
    up.next();
    assert_eq!(bench.status(&request.job).await, Some(JobStatus::Running));
    drop(owner);
    living.is_abandoned();
    while bench.root().exists() {
        tokio::task::yield_now().await;
    }
}

async fn the_last_lines_can_be_read_while_the_job_runs() {
    let bench = Bench::new();
    let (gate, up) = bench.pipe("up");
    assert!(
        Command::new("mkfifo")
            .arg(bench.path("go"))
            .status()
            .unwrap()
            .success()
    );
    let text = format!(
        "seq 1 100; echo trouble >&2; echo up > {gate}; read go < {}",
        bench.path("go")
    );
    let request = script(&text);
    assert_eq!(
        bench.runtime.tail_logs(&request.job, 3).await.unwrap(),
        None
    );
    bench.start(&request).await;
    up.next();
    let snapshot = bench.runtime.status(&request.job).await.unwrap().unwrap();
    assert_eq!(snapshot.status, JobStatus::Running);
    assert_eq!(snapshot.resource_stats.is_some(), cfg!(target_os = "linux"));
    fs::write(bench.path("go"), "go\n").unwrap();
    bench.end_of(&request.job).await;
    let tail = bench.runtime.tail_logs(&request.job, 3).await.unwrap();
    assert_eq!(tail.as_deref(), Some("99\n100\ntrouble\n"));
}

async fn a_removed_job_is_forgotten_and_a_live_one_stays() {
    let bench = Bench::new();
    let live = script("sleep 1000");
    let ended = script("true");
    bench.start(&live).await;
    bench.run(&ended).await;
    assert!(bench.runtime.remove(&live.job).await.is_err());
    bench.runtime.remove(&job()).await.unwrap();
    bench.runtime.remove(&ended.job).await.unwrap();
    assert_eq!(bench.status(&ended.job).await, None);
    assert_eq!(bench.status(&live.job).await, Some(JobStatus::Running));

    bench.run(&ended).await;
    assert_eq!(
        bench
            .runtime
            .sweep(Duration::from_secs(3600))
            .await
            .unwrap(),
        0
    );
    assert_eq!(bench.runtime.sweep(Duration::ZERO).await.unwrap(), 1);
    assert!(!bench.folder(&ended.job).exists() && bench.folder(&live.job).exists());
    bench.runtime.stop(&live.job, Duration::ZERO).await.unwrap();
    bench.end_of(&live.job).await;
}
