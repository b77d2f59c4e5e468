//! One mission, from its dispatch to its end that is told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use towpath_engine::{JobId, StepIndex};
use towpath_jobs::{
    Answer, CommandWork, JobRequest, JobSnapshot, Runtime, StartError, Work, error_class,
};
use towpath_jobs_process::ProcessRuntime;
use towpath_runner::{Ended, Orders, WorkersJob};

use crate::link::Link;
use crate::{Options, note};

/// The longest time that a caller's own mission may run.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The time that a command has to tidy up.
const GRACE: Duration = Duration::from_secs(10);
/// The most characters of a summary.
const SUMMARY: usize = 200 * 1024;

/// A mission that a worker has.
pub(crate) struct Mission {
    pub(crate) id: String,
    pub(crate) dispatch: Value,
    pub(crate) folder: PathBuf,
    pub(crate) options: Options,
    pub(crate) link: Link,
}

/// The name of a mission's folder: whatever is in the id.
pub(crate) fn folder_name(mission: &str) -> String {
    let hash = Sha256::digest(mission.as_bytes());
    hash.iter().take(16).map(|it| format!("{it:02x}")).collect()
}

impl Mission {
    /// Carries the mission out, or goes on with it, and tells how it ended.
    pub(crate) async fn carry_out(self, orders: watch::Receiver<Orders>) {
        let began = self.folder.join("began");
        if !began.exists() {
            // The contract wants each of them, once at least; together they are one request.
            let begun = [
                ("mission.assigned", json!({ "state": "assigned" })),
                ("mission.started", json!({ "state": "running" })),
                ("mission.progress", json!({ "phase": "running" })),
            ];
            self.link.tell_surely(&self.id, &begun).await;
            let _ = std::fs::write(&began, b"");
        }
        let job = self.dispatch.pointer("/metadata/towpath/job");
        let job = job.and_then(Value::as_str);
        let job = job.and_then(|job| job.parse::<JobId>().ok());
        let (event, data) = match job.filter(|job| job.as_str() == self.id) {
            Some(job) => self.of_run(job, orders).await,
            None => self.of_caller(orders).await,
        };
        note(&format!("{} has ended: {event}", self.id));
        self.tell(event, data).await;
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            note(&format!("{}: {error}", self.folder.display()));
        }
    }

    async fn tell(&self, event: &str, data: Value) {
        self.link.tell_surely(&self.id, &[(event, data)]).await;
    }

    fn runtime(&self) -> ProcessRuntime {
        let jobs = self.options.folder.join("jobs");
        ProcessRuntime::new(jobs, self.options.supervisor.clone())
    }

    /// A mission of a run: its job is carried out as a runner does it.
    async fn of_run(&self, job: JobId, orders: watch::Receiver<Orders>) -> (&'static str, Value) {
        let work = WorkersJob {
            options: towpath_runner::Options {
                job: job.clone(),
                api: self.options.server.clone(),
                code: self.link.token(),
                name: self.link.executor().to_owned(),
                supervisor: self.options.supervisor.clone(),
            },
            folder: self.folder.clone(),
            root: self.options.folder.join("jobs"),
            command: self.options.command.clone(),
        };
        let end = work.carry_out(orders).await;
        let runtime = self.runtime();
        let told = match end {
            // The answer was handed in with the job.
            Ok(end) => end_event(&end, None),
            Err(error) => {
                // Nothing that its command does counts any more.
                let stopped = runtime.stop(&job, GRACE).await;
                if let Err(error) = stopped {
                    note(&format!("{job} could not be stopped: {error}"));
                }
                let _ = runtime.ended(&job).await;
                match error {
                    Ended::NotOurs(why) => aborted(&why),
                    Ended::NoWork(why) | Ended::Refused(why) => failed("no_work", &why, None),
                }
            }
        };
        self.clean(&runtime, &job).await;
        told
    }

    /// A caller's own mission: the worker's command is all that there is.
    async fn of_caller(&self, mut orders: watch::Receiver<Orders>) -> (&'static str, Value) {
        let Some(command) = &self.options.command else {
            let why = "this worker carries out the commands of runs only; start it with a command of its own";
            return failed("no_command", why, None);
        };
        let Some(request) = self.request(command) else {
            return failed("no_work", "the dispatch cannot be read", None);
        };
        let (runtime, job) = (self.runtime(), request.job.clone());
        let begun = match runtime.start(&request).await {
            Ok(_) => Ok(()),
            Err(StartError::Refused(why)) => Err(why),
            Err(other) => Err(other.to_string()),
        };
        if let Err(why) = begun {
            return failed("start_failed", &why, None);
        }
        let (waiting, id) = (runtime.clone(), job.clone());
        let mut ended = std::pin::pin!(async move { waiting.ended(&id).await });
        let mut open = true;
        let end = loop {
            tokio::select! {
                end = &mut ended => break end,
                changed = orders.changed(), if open => {
                    open = changed.is_ok();
                    let order = *orders.borrow_and_update();
                    let still = order == Orders::Pause;
                    let _ = runtime.freeze(&job, still).await;
                    if let Orders::Stop(grace) = order {
                        let _ = runtime.stop(&job, grace).await;
                    }
                }
            }
        };
        let end = match end {
            Ok(Some(end)) => end,
            Ok(None) => JobSnapshot::ended_badly(error_class::EVICTED, "the folder is gone"),
            Err(error) => JobSnapshot::ended_badly(error_class::EVICTED, error.to_string()),
        };
        let summary = end.answer.clone().map(|answer| match answer {
            Answer::File(text) | Answer::Stdout(text) => text,
        });
        let told = match summary {
            Some(text) if text.chars().count() > SUMMARY => failed(
                "answer_too_large",
                "the answer is longer than a summary may be",
                None,
            ),
            summary => end_event(&end, summary),
        };
        self.clean(&runtime, &job).await;
        told
    }

    /// Removes the folder of a command that has ended.
    async fn clean(&self, runtime: &ProcessRuntime, job: &JobId) {
        if let Err(error) = runtime.remove(job).await {
            note(&format!("{job}: {error}"));
        }
    }

    /// What the worker's command is given for a caller's own mission.
    fn request(&self, command: &[String]) -> Option<JobRequest> {
        let word = |name: &str| self.dispatch.get(name).and_then(Value::as_str);
        let facts = [
            ("TOWPATH_MISSION_ID", Some(&*self.id)),
            ("TOWPATH_OBJECTIVE", word("objective")),
            ("TOWPATH_COMPLETION", word("completion")),
        ];
        let env: BTreeMap<_, _> = facts
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.replace('\0', " "))))
            .collect();
        let hash = Sha256::digest(self.id.as_bytes());
        let number = hash
            .iter()
            .take(16)
            .fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
        // The first digit of a ULID is at most 7.
        let ulid = ulid::Ulid::from(number >> 1);
        Some(JobRequest {
            job: format!("job_{ulid}-1").parse().ok()?,
            workspace: "worker".parse().ok()?,
            work: Work::Command(CommandWork {
                command: command.to_vec(),
                env,
                secrets: Vec::new(),
                checkout: None,
                events: None,
                image: None,
                resources: None,
                executor: None,
            }),
            step: StepIndex(0),
            attempt: 1,
            context: self.dispatch.clone(),
            inputs: Vec::new(),
            artifacts: Vec::new(),
            max_run: LONGEST,
            grace: GRACE,
        })
    }
}

/// The event that tells of the end of a command.
fn end_event(end: &JobSnapshot, summary: Option<String>) -> (&'static str, Value) {
    let why = end.terminal_error_message.clone().unwrap_or_default();
    match end.terminal_error_class.as_deref() {
        None => {
            let mut data = json!({ "state": "done" });
            if let Some(data) = data.as_object_mut() {
                if let Some(code) = end.exit_code {
                    data.insert("exit_code".to_owned(), json!(code));
                }
                if let Some(summary) = summary {
                    data.insert("summary".to_owned(), json!(summary));
                }
            }
            ("mission.completed", data)
        }
        Some(error_class::STOPPED) => aborted(&why),
        Some(error_class::TIMED_OUT) => failed("timeout", &why, None),
        Some(error_class::EXIT_CODE) => {
            let printed = end.printed.clone().unwrap_or_default();
            failed("exit_nonzero", &printed, end.exit_code)
        }
        Some(class) => failed(class, &why, end.exit_code),
    }
}

fn aborted(why: &str) -> (&'static str, Value) {
    let data = json!({ "state": "aborted", "aborted_by": "system", "reason": why });
    ("mission.aborted", data)
}

fn failed(reason: &str, error: &str, exit_code: Option<i32>) -> (&'static str, Value) {
    let mut data = json!({ "state": "failed", "reason": reason, "error": error });
    if let (Some(data), Some(code)) = (data.as_object_mut(), exit_code) {
        data.insert("exit_code".to_owned(), json!(code));
    }
    ("mission.failed", data)
}
