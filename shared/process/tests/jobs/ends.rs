//! How jobs begin, what they are given, and how they end.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use towpath_process::{ANSWER_REFUSED, ProcessSubstrate};
use towpath_runtime::{Answer, JobSpec, JobStatus, Substrate, SubstrateError, error_class};

use crate::bench::{Bench, class, command, elsewhere, job, message, script, trials};

trials![
    sixteen_starts_at_once_from_many_processes_run_the_command_once,
    a_supervisor_that_comes_late_runs_nothing,
    a_start_that_was_cut_short_is_finished_by_the_next,
    a_launcher_that_loses_its_supervisor_runs_nothing,
    a_job_is_found_with_its_exit_code_after_a_restart,
    an_answer_file_goes_before_what_was_printed,
    an_answer_that_cannot_be_taken_fails_the_job,
    the_end_of_a_long_output_is_the_answer,
    an_exit_code_is_told_with_the_last_words,
    a_command_killed_by_another_failed_by_signal,
    a_command_that_cannot_be_started_is_a_failed_job,
    a_command_sees_its_contract_and_little_else,
    a_secret_is_never_on_disk,
    a_job_may_not_run_longer_than_it_may,
    what_a_command_leaves_running_is_ended,
    a_daemon_that_left_the_group_does_not_hold_the_job_up,
    the_last_lines_can_be_read_while_the_job_runs,
    a_removed_job_is_forgotten_and_a_live_one_stays,
    on_aws_it_is_refused_with_a_reason,
];

async fn sixteen_starts_at_once_from_many_processes_run_the_command_once() {
    let bench = Bench::new();
    let spec = script(&format!("echo ran >> {}", bench.path("runs")));
    let processes: Vec<_> = (0..8)
        .map(|_| elsewhere(&bench.root(), &spec).spawn().unwrap())
        .collect();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (substrate, spec) = (bench.restarted(), spec.clone());
            tokio::spawn(async move { substrate.start(&spec).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
        assert!(
            bench.status(&spec.job).await.is_some(),
            "a start returned before the job was known"
        );
    }
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    assert_eq!(bench.end_of(&spec.job).await.status, JobStatus::Terminated);
    bench.start(&spec).await;
    assert_eq!(fs::read_to_string(bench.path("runs")).unwrap(), "ran\n");
}

async fn a_supervisor_that_comes_late_runs_nothing() {
    let bench = Bench::new();
    let spec = script(&format!("echo ran >> {}", bench.path("runs")));
    // What a supervisor is told, kept by one that only listens.
    let (listener, order) = (bench.path("listener"), bench.path("order"));
    fs::write(&listener, format!("#!/bin/sh\ncat > {order}\necho known\n")).unwrap();
    fs::set_permissions(&listener, fs::Permissions::from_mode(0o700)).unwrap();
    ProcessSubstrate::new(bench.root(), listener.into())
        .start(&spec)
        .await
        .unwrap();
    for expected in ["taken\n", "known\n"] {
        let mut late = Command::new(std::env::current_exe().unwrap());
        late.args(["supervise", "--dir"])
            .arg(bench.folder(&spec.job));
        let said = late
            .stdin(fs::File::open(&order).unwrap())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), expected);
    }
    assert_eq!(bench.status(&spec.job).await, Some(JobStatus::Terminated));
    assert_eq!(fs::read_to_string(bench.path("runs")).unwrap(), "ran\n");
}

async fn a_start_that_was_cut_short_is_finished_by_the_next() {
    let bench = Bench::new();
    let spec = script("true");
    // The folder was made, and then the power went.
    fs::create_dir_all(bench.folder(&spec.job)).unwrap();
    fs::write(bench.folder(&spec.job).join("lock"), "").unwrap();
    assert_eq!(bench.status(&spec.job).await, None);
    // A supervisor that ends before it has taken the job, and one that is not there.
    for broken in ["false", "/nowhere/towpath"] {
        let error = ProcessSubstrate::new(bench.root(), broken.into())
            .start(&spec)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, SubstrateError::Unavailable(why) if why.contains("supervisor")),
            "{error}"
        );
        assert_eq!(bench.status(&spec.job).await, None);
    }
    // A caller that dies in the middle of the specification.
    let mut supervisor = Command::new(std::env::current_exe().unwrap());
    supervisor
        .args(["supervise", "--dir"])
        .arg(bench.folder(&spec.job));
    let mut child = supervisor
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"{\"job\":\"job_")
        .unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(bench.status(&spec.job).await, None);

    assert_eq!(bench.run(&spec).await.status, JobStatus::Terminated);
}

async fn a_launcher_that_loses_its_supervisor_runs_nothing() {
    let bench = Bench::new();
    let ran = bench.path("ran");
    let word = serde_json::json!({"program": "touch", "args": [ran], "env": {"PATH": "/usr/bin:/bin"}, "dir": "/"});
    let word = word.to_string();
    let launch = |word: &str| {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["supervise", "--dir", "/"])
            .env("TOWPATH_LAUNCHER", "1")
            .stdin(std::os::fd::OwnedFd::from(theirs));
        let mut child = command.spawn().unwrap();
        ours.write_all(word.as_bytes()).unwrap();
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        child.wait().unwrap().success()
    };
    assert!(!launch(""));
    assert!(!launch(&word[..word.len() - 1]));
    assert!(!Path::new(&ran).exists());
    assert!(launch(&word));
    assert!(Path::new(&ran).exists());
}

async fn a_job_is_found_with_its_exit_code_after_a_restart() {
    let bench = Bench::new();
    let (gate, up) = bench.pipe("up");
    let spec = script(&format!(
        "echo up > {gate}; read go < {}; exit 7",
        bench.path("go")
    ));
    assert!(
        Command::new("mkfifo")
            .arg(bench.path("go"))
            .status()
            .unwrap()
            .success()
    );
    bench.start(&spec).await;
    up.next();
    let after = bench.restarted();
    assert_eq!(
        after.status(&spec.job).await.unwrap().unwrap().status,
        JobStatus::Running
    );
    let supervisor = bench.supervisor(&spec.job);
    assert_eq!(
        rustix::process::getsid(Some(supervisor)).unwrap(),
        supervisor,
        "in reach of the caller's Ctrl-C"
    );
    fs::write(bench.path("go"), "go\n").unwrap();
    let end = after.ended(&spec.job).await.unwrap().unwrap();
    assert_eq!((end.status, end.exit_code), (JobStatus::Failed, Some(7)));
    assert_eq!(
        bench.restarted().status(&spec.job).await.unwrap(),
        Some(end)
    );
}

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
    ] {
        let end = bench.run(&script(what)).await;
        assert_eq!(
            (end.status, class(&end)),
            (JobStatus::Failed, Some(ANSWER_REFUSED)),
            "{what}"
        );
        assert!(message(&end).contains(why), "{end:?}");
    }
    let end = bench
        .run(&script("head -c 4194304 /dev/zero > $TOWPATH_OUTPUT"))
        .await;
    assert!(matches!(end.answer, Some(Answer::File(text)) if text.len() == 4 << 20));
}

async fn the_end_of_a_long_output_is_the_answer() {
    let bench = Bench::new();
    let end = bench
        .run(&script("yes é | head -n 20000; printf last"))
        .await;
    let Some(Answer::Stdout(text)) = end.answer else {
        panic!("{end:?}")
    };
    assert!(
        text.len() <= 16 * 1024 && text.len() > 16 * 1024 - 4,
        "{}",
        text.len()
    );
    assert!(text.ends_with("é\nlast") && !text.contains('\u{FFFD}'));
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

async fn a_command_that_cannot_be_started_is_a_failed_job() {
    let bench = Bench::new();
    let plain = bench.path("plain");
    fs::write(&plain, "no program").unwrap();
    for program in ["no-such-program", "/no/such/program", plain.as_str(), "/"] {
        let mut spec = command(&[program, "--token=hunter2"]);
        spec.env.insert("TOKEN".to_owned(), "hunter2".to_owned());
        let end = bench.run(&spec).await;
        assert_eq!(
            (end.status, class(&end)),
            (JobStatus::Failed, Some(error_class::START_FAILED)),
            "{program}"
        );
        assert!(
            message(&end).contains(program) && !message(&end).contains("hunter2"),
            "{end:?}"
        );
    }
    let end = bench.run(&command(&[])).await;
    assert_eq!(class(&end), Some(error_class::START_FAILED));
}

async fn a_command_sees_its_contract_and_little_else() {
    let bench = Bench::new();
    let mut spec = script(
        "cat $TOWPATH_CONTEXT; echo; pwd -P; read line || echo no input; env | cut -d= -f1 | sort",
    );
    spec.env.extend([
        ("TOWPATH_STEP".to_owned(), "2".to_owned()),
        ("HOME".to_owned(), "/home/agent".to_owned()),
    ]);
    spec.env
        .insert("TOWPATH_JOB_ID".to_owned(), "forged".to_owned());
    let end = bench.run(&spec).await;
    let Some(Answer::Stdout(text)) = end.answer else {
        panic!("{end:?}")
    };
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(r#"{"objective":"mend it"}"#));
    let work = bench.folder(&spec.job).join("work").canonicalize().unwrap();
    assert_eq!(lines.next(), work.to_str());
    assert_eq!(lines.next(), Some("no input"));
    let known = [
        "GIT_CEILING_DIRECTORIES",
        "HOME",
        "LANG",
        "OLDPWD",
        "PATH",
        "PWD",
        "SHLVL",
        "TMPDIR",
        "TOWPATH_CONTEXT",
        "TOWPATH_JOB_ID",
        "TOWPATH_OUTPUT",
        "TOWPATH_RUN_ID",
        "TOWPATH_STEP",
        "USER",
        "_",
    ];
    for name in lines {
        assert!(
            known.contains(&name),
            "{name} leaked into the command's environment"
        );
    }
    let spec = JobSpec {
        env: spec.env,
        ..script("echo $HOME $TOWPATH_JOB_ID $TOWPATH_RUN_ID")
    };
    let told = format!("/home/agent {} {}\n", spec.job, spec.job.run());
    assert_eq!(bench.run(&spec).await.answer, Some(Answer::Stdout(told)));
}

async fn a_secret_is_never_on_disk() {
    let bench = Bench::new();
    let (gate, up) = bench.pipe("up");
    assert!(
        Command::new("mkfifo")
            .arg(bench.path("go"))
            .status()
            .unwrap()
            .success()
    );
    let mut spec = script(&format!(
        "echo $TOKEN > {gate}; read go < {}",
        bench.path("go")
    ));
    spec.env.insert("TOKEN".to_owned(), "hunter2".to_owned());
    bench.start(&spec).await;
    assert_eq!(up.next(), "hunter2");
    assert_eq!(holders(&bench.root(), "hunter2"), Vec::<String>::new());
    fs::write(bench.path("go"), "go\n").unwrap();
    assert_eq!(bench.end_of(&spec.job).await.status, JobStatus::Terminated);
    assert_eq!(holders(&bench.root(), "hunter2"), Vec::<String>::new());
    // The search does find things.
    assert_eq!(holders(&bench.root(), "objective").len(), 1);
}

/// The files under `dir` that contain `text`.
fn holders(dir: &Path, text: &str) -> Vec<String> {
    let found = Command::new("grep")
        .args(["-rlaF", "--", text])
        .arg(dir)
        .output()
        .unwrap();
    String::from_utf8(found.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

async fn a_job_may_not_run_longer_than_it_may() {
    let bench = Bench::new();
    let (pipe, living) = bench.pipe("living");
    let text = format!("trap '' TERM; exec 9> {pipe}; sleep 1000 & sleep 1000");
    let short = Duration::from_millis(300);
    let end = bench
        .run(&JobSpec {
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

async fn a_daemon_that_left_the_group_does_not_hold_the_job_up() {
    let bench = Bench::new();
    let (gate, up) = bench.pipe("up");
    let go = bench.path("go");
    assert!(Command::new("mkfifo").arg(&go).status().unwrap().success());
    // `setsid` ends the group membership; the script waits so that the daemon is out before it ends itself.
    let daemon = format!(
        "echo out > {}; read go < {go}; echo survived > {gate}",
        bench.path("out")
    );
    assert!(
        Command::new("mkfifo")
            .arg(bench.path("out"))
            .status()
            .unwrap()
            .success()
    );
    let text = format!(
        "setsid sh -c '{daemon}' & read out < {}; echo done",
        bench.path("out")
    );
    let end = bench.run(&script(&text)).await;
    assert_eq!(end.answer, Some(Answer::Stdout("done\n".to_owned())));
    fs::write(&go, "go\n").unwrap();
    assert_eq!(up.next(), "survived");
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
    let spec = script(&text);
    assert_eq!(bench.substrate.tail_logs(&spec.job, 3).await.unwrap(), None);
    bench.start(&spec).await;
    up.next();
    let snapshot = bench.substrate.status(&spec.job).await.unwrap().unwrap();
    assert_eq!(snapshot.status, JobStatus::Running);
    assert_eq!(snapshot.resource_stats.is_some(), cfg!(target_os = "linux"));
    fs::write(bench.path("go"), "go\n").unwrap();
    bench.end_of(&spec.job).await;
    let tail = bench.substrate.tail_logs(&spec.job, 3).await.unwrap();
    assert_eq!(tail.as_deref(), Some("99\n100\ntrouble\n"));
    assert_eq!(bench.substrate.console_url(&spec.job), None);
}

async fn a_removed_job_is_forgotten_and_a_live_one_stays() {
    let bench = Bench::new();
    let live = script("sleep 1000");
    let ended = script("true");
    bench.start(&live).await;
    bench.run(&ended).await;
    assert!(bench.substrate.remove(&live.job).await.is_err());
    bench.substrate.remove(&job()).await.unwrap();
    bench.substrate.remove(&ended.job).await.unwrap();
    assert_eq!(bench.status(&ended.job).await, None);
    assert_eq!(bench.status(&live.job).await, Some(JobStatus::Running));

    bench.run(&ended).await;
    assert_eq!(
        bench
            .substrate
            .sweep(Duration::from_secs(3600))
            .await
            .unwrap(),
        0
    );
    assert_eq!(bench.substrate.sweep(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(fs::read_dir(bench.root()).unwrap().count(), 1);
    bench
        .substrate
        .stop(&live.job, Duration::ZERO)
        .await
        .unwrap();
    bench.end_of(&live.job).await;
}

async fn on_aws_it_is_refused_with_a_reason() {
    let error = ProcessSubstrate::refuse_on_aws(true).unwrap_err();
    assert!(
        matches!(&error, SubstrateError::Refused(why) if why.contains("sandbox")),
        "{error}"
    );
    ProcessSubstrate::refuse_on_aws(false).unwrap();
}
