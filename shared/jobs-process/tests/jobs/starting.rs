//! How jobs begin, exactly once, and what they are given.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use towpath_jobs::{Answer, JobRequest, JobStatus, Runtime, StartError, error_class};
use towpath_jobs_process::ProcessRuntime;

use crate::bench::{Bench, class, command, elsewhere, job, message, script, trials, work};

trials![
    sixteen_starts_at_once_from_many_processes_run_the_command_once,
    a_supervisor_that_comes_late_runs_nothing,
    a_supervisor_killed_at_any_moment_never_makes_the_command_run_twice,
    a_start_that_was_cut_short_is_finished_by_the_next,
    a_launcher_that_loses_its_supervisor_runs_nothing,
    a_job_inherits_no_secrets_and_no_descriptors,
    a_job_is_found_with_its_exit_code_after_a_restart,
    a_command_that_cannot_be_started_is_a_failed_job,
    a_command_sees_its_contract_and_little_else,
    a_secret_is_never_on_disk,
];

async fn sixteen_starts_at_once_from_many_processes_run_the_command_once() {
    let bench = Bench::new();
    let request = script(&format!("echo ran >> {}", bench.path("runs")));
    let processes: Vec<_> = (0..8)
        .map(|_| elsewhere(&bench.root(), &request).spawn().unwrap())
        .collect();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (runtime, request) = (bench.restarted(), request.clone());
            tokio::spawn(async move { runtime.start(&request).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
        assert!(
            bench.status(&request.job).await.is_some(),
            "a start returned before the job was known"
        );
    }
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    assert_eq!(
        bench.end_of(&request.job).await.status,
        JobStatus::Terminated
    );
    bench.start(&request).await;
    assert_eq!(fs::read_to_string(bench.path("runs")).unwrap(), "ran\n");
}

async fn a_supervisor_that_comes_late_runs_nothing() {
    let bench = Bench::new();
    let request = script(&format!("echo ran >> {}", bench.path("runs")));
    let order = overhear(&bench, &request).await;
    for expected in ["taken\n", "known\n"] {
        let mut late = Command::new(std::env::current_exe().unwrap());
        late.args(["supervise", "--dir"])
            .arg(bench.folder(&request.job));
        let said = late
            .stdin(fs::File::open(&order).unwrap())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), expected);
    }
    assert_eq!(
        bench.status(&request.job).await,
        Some(JobStatus::Terminated)
    );
    assert_eq!(fs::read_to_string(bench.path("runs")).unwrap(), "ran\n");
}

/// What a supervisor is told of this job, in a file, from one that only listens.
async fn overhear(bench: &Bench, request: &JobRequest) -> String {
    let (listener, order) = (bench.path("listener"), bench.path("order"));
    // Written by another process: a child that this one begins meanwhile would hold it open, and so keep it from running.
    let text = format!(
        "printf '#!/bin/sh\\ncat > {order}\\necho known\\n' > {listener}; chmod 700 {listener}"
    );
    let written = Command::new("sh").args(["-c", &text]).status().unwrap();
    assert!(written.success());
    let runtime = ProcessRuntime::new(bench.root(), listener.into());
    runtime.start(request).await.unwrap();
    order
}

async fn a_supervisor_killed_at_any_moment_never_makes_the_command_run_twice() {
    let bench = Bench::new();
    for moment in 0..60 {
        let (pipe, living) = bench.pipe(&format!("living{moment}"));
        // Held open here too, so that it counts as abandoned if the command never runs.
        let hold = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        let runs = bench.path(&format!("runs{moment}"));
        let request = script(&format!("exec 9> {pipe}; echo ran >> {runs}; sleep 0.02"));
        let order = overhear(&bench, &request).await;
        let mut supervisor = Command::new(std::env::current_exe().unwrap());
        supervisor
            .args(["supervise", "--dir"])
            .arg(bench.folder(&request.job));
        supervisor
            .stdin(fs::File::open(&order).unwrap())
            .stdout(Stdio::null());
        let mut supervisor = supervisor.spawn().unwrap();
        // Not to wait for anything: to hit another instruction each time.
        std::thread::sleep(Duration::from_micros(500 * moment));
        supervisor.kill().unwrap();
        supervisor.wait().unwrap();
        let end = bench.run(&request).await;
        let evicted = class(&end) == Some(error_class::EVICTED);
        assert!(evicted || end.status == JobStatus::Terminated, "{end:?}");
        let times = fs::read_to_string(&runs).unwrap_or_default();
        assert!(times.is_empty() || times == "ran\n", "{times}");
        assert!(
            evicted || !times.is_empty(),
            "ended well without having run"
        );
        drop(hold);
        living.is_abandoned();
    }
}

async fn a_start_that_was_cut_short_is_finished_by_the_next() {
    let bench = Bench::new();
    let request = script("true");
    // The folder was made, and then the power went.
    fs::create_dir_all(bench.folder(&request.job)).unwrap();
    fs::write(bench.folder(&request.job).join("lock"), "").unwrap();
    assert_eq!(bench.status(&request.job).await, None);
    // A supervisor that ends before it has taken the job, and one that is not there.
    for broken in ["false", "/nowhere/towpath"] {
        let error = ProcessRuntime::new(bench.root(), broken.into())
            .start(&request)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, StartError::Unavailable(why) if why.contains("supervisor")),
            "{error}"
        );
        assert_eq!(bench.status(&request.job).await, None);
    }
    // A caller that dies in the middle of the specification.
    let mut supervisor = Command::new(std::env::current_exe().unwrap());
    supervisor
        .args(["supervise", "--dir"])
        .arg(bench.folder(&request.job));
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
    assert_eq!(bench.status(&request.job).await, None);

    assert_eq!(bench.run(&request).await.status, JobStatus::Terminated);
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

/// What the user's shell has in its environment and left open is nothing to a job, nor to who looks at its supervisor.
#[cfg(target_os = "linux")]
async fn a_job_inherits_no_secrets_and_no_descriptors() {
    let bench = Bench::new();
    let request =
        script("cat /proc/$PPID/environ /proc/self/environ; echo; ls /proc/self/fd | tr '\n' ' '");
    let start = elsewhere(&bench.root(), &request);
    // A descriptor that the starter inherits and hands on, as one of a shell is.
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec 9< /dev/null; exec \"$@\"", "sh"]);
    shell.arg(start.get_program()).args(start.get_args());
    shell.env("AWS_SECRET_ACCESS_KEY", "hunter2");
    assert!(shell.status().unwrap().success());
    let end = bench.end_of(&request.job).await;
    let Some(Answer::Stdout(text)) = end.answer else {
        panic!("{end:?}")
    };
    assert!(!text.contains("hunter2"), "{text}");
    // 3 is the directory itself.
    assert!(text.ends_with("\n0 1 2 3 "), "{text}");
}

#[cfg(not(target_os = "linux"))]
async fn a_job_inherits_no_secrets_and_no_descriptors() {}

async fn a_job_is_found_with_its_exit_code_after_a_restart() {
    let bench = Bench::new();
    let (gate, up) = bench.pipe("up");
    let request = script(&format!(
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
    bench.start(&request).await;
    up.next();
    let after = bench.restarted();
    assert_eq!(
        after.status(&request.job).await.unwrap().unwrap().status,
        JobStatus::Running
    );
    let supervisor = bench.supervisor(&request.job);
    assert_eq!(
        rustix::process::getsid(Some(supervisor)).unwrap(),
        supervisor,
        "in reach of the caller's Ctrl-C"
    );
    fs::write(bench.path("go"), "go\n").unwrap();
    let end = after.ended(&request.job).await.unwrap().unwrap();
    assert_eq!((end.status, end.exit_code), (JobStatus::Failed, Some(7)));
    assert_eq!(
        bench.restarted().status(&request.job).await.unwrap(),
        Some(end)
    );
}

async fn a_command_that_cannot_be_started_is_a_failed_job() {
    let bench = Bench::new();
    let plain = bench.path("plain");
    fs::write(&plain, "no program").unwrap();
    for program in ["no-such-program", "/no/such/program", plain.as_str(), "/"] {
        let mut request = command(&[program, "--token=hunter2"]);
        work(&mut request)
            .env
            .insert("TOKEN".to_owned(), "hunter2".to_owned());
        let end = bench.run(&request).await;
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
    let mut request = script(
        "cat $TOWPATH_CONTEXT; echo; pwd -P; read line || echo no input; env | cut -d= -f1 | sort",
    );
    work(&mut request).env.extend([
        ("TOWPATH_STEP".to_owned(), "2".to_owned()),
        ("HOME".to_owned(), "/home/agent".to_owned()),
    ]);
    work(&mut request)
        .env
        .insert("TOWPATH_JOB_ID".to_owned(), "forged".to_owned());
    let end = bench.run(&request).await;
    let Some(Answer::Stdout(text)) = end.answer else {
        panic!("{end:?}")
    };
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(r#"{"objective":"mend it"}"#));
    let dir = bench
        .folder(&request.job)
        .join("work")
        .canonicalize()
        .unwrap();
    assert_eq!(lines.next(), dir.to_str());
    assert_eq!(lines.next(), Some("no input"));
    let known = [
        "ALL_PROXY",
        "GIT_CEILING_DIRECTORIES",
        "HOME",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "LANG",
        "LC_ALL",
        "NO_PROXY",
        "OLDPWD",
        "PATH",
        "PWD",
        "SHLVL",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "TMPDIR",
        "TOWPATH_CONTEXT",
        "TOWPATH_INPUTS",
        "TOWPATH_JOB_ID",
        "TOWPATH_OUTPUT",
        "TOWPATH_STEP",
        "TZ",
        "USER",
        "_",
        "all_proxy",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    ];
    for name in lines {
        assert!(
            known.contains(&name),
            "{name} leaked into the command's environment"
        );
    }
    work(&mut request).command = ["sh", "-c", "echo $HOME $TOWPATH_JOB_ID"]
        .map(str::to_owned)
        .to_vec();
    request.job = job();
    let told = format!("/home/agent {}\n", request.job);
    assert_eq!(bench.run(&request).await.answer, Some(Answer::Stdout(told)));
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
    let mut request = script(&format!(
        "echo $TOKEN > {gate}; read go < {}",
        bench.path("go")
    ));
    work(&mut request)
        .env
        .insert("TOKEN".to_owned(), "hunter2".to_owned());
    bench.start(&request).await;
    assert_eq!(up.next(), "hunter2");
    assert_eq!(holders(&bench.root(), "hunter2"), Vec::<String>::new());
    fs::write(bench.path("go"), "go\n").unwrap();
    assert_eq!(
        bench.end_of(&request.job).await.status,
        JobStatus::Terminated
    );
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
