//! One job, from the claim to the end that is told.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use towpath_engine::JobId;
use towpath_jobs::{
    EventKind, JobRequest, JobSnapshot, LogPosition, Runtime, StartError, Work, error_class,
};
use towpath_jobs_process::{Ownership, ProcessRuntime};

use crate::Options;
use crate::api::{Api, Ended, Told};
use crate::journal::Journal;
use crate::print::note;
use crate::tell::Telling;
use crate::work::Orders;

/// The pause between two looks at what the command has printed.
const LOOK: Duration = Duration::from_millis(500);
/// The longest time for which nothing is asked or told.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// The pause between two measurements of the command.
const MEASURE: Duration = Duration::from_secs(60);
/// The time that a command has to tidy up when the machine is taken away.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// Carries out the job. The exit code says whether the runner did its work, not how the command ended.
pub async fn run(options: &Options) -> ExitCode {
    match carry_out(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended::NotOurs(why)) => {
            note(&format!("nothing to do: {why}"));
            ExitCode::SUCCESS
        }
        Err(ended) => {
            note(&ended.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn carry_out(options: &Options) -> Result<(), Ended> {
    let api = Api::new(options)?;
    api.claim().await?;
    note(&format!("{} is ours", options.job));
    let folder = tempfile::Builder::new().prefix("towpath-job-").tempdir();
    let folder = folder
        .map_err(|error| Ended::Refused(format!("no folder for the job can be made: {error}")))?;
    // When this process is gone, however it ended, the supervisor ends the command.
    let root = folder.path().join("jobs");
    let owner = Ownership::take(&root).map_err(|error| Ended::Refused(error.to_string()))?;
    let work = OnMachine {
        options,
        api,
        root,
        journal: Journal::none(),
        orders: None,
        command: None,
    };
    let end = work.carry_out().await?;
    drop(owner);
    drop(folder);
    let class = end.terminal_error_class.as_deref();
    note(&format!("the job has ended: {}", class.unwrap_or("well")));
    Ok(())
}

/// A job that is claimed, to be carried out on this machine.
pub(crate) struct OnMachine<'a> {
    pub(crate) options: &'a Options,
    pub(crate) api: Api,
    /// The directory of the job's folder.
    pub(crate) root: PathBuf,
    pub(crate) journal: Journal,
    /// What else is asked of the job while it runs.
    pub(crate) orders: Option<watch::Receiver<Orders>>,
    /// The command that is run instead of the step's own.
    pub(crate) command: Option<Vec<String>>,
}

impl OnMachine<'_> {
    /// Carries the job out, or goes on with it, and tells how it went. Returns its end.
    pub(crate) async fn carry_out(mut self) -> Result<JobSnapshot, Ended> {
        let runtime = ProcessRuntime::new(self.root.clone(), self.options.supervisor.clone());
        let id = &self.options.job;
        let known = runtime.status(id).await.ok().flatten().is_some();
        let mut telling = match self.journal.kept() {
            Some((kept, format)) => Telling::go_on(id, kept, format),
            None => {
                let mut telling = Telling::new(id);
                telling.add(EventKind::RuntimeStarted, serde_json::json!({}));
                telling
            }
        };
        let begun = match known {
            true => Ok(()),
            false => match self.api.manifest().await {
                Ok(request) => self.begin(&runtime, request, &mut telling).await,
                Err(Ended::NoWork(why)) => Err(why),
                Err(other) => return Err(other),
            },
        };
        let end = match begun {
            Ok(()) => self.job(runtime.clone()).see_through(&mut telling).await?,
            Err(why) => JobSnapshot::ended_badly(error_class::START_FAILED, why),
        };
        let answer = end.answer.as_ref();
        if let Some(answer) = answer.filter(|_| end.terminal_error_class.is_none()) {
            self.api.answer(answer).await?;
        }
        if !self.journal.has_ended() {
            telling.end(&end);
            self.journal.ended(&telling).await;
        }
        while let Some(batch) = telling.batch() {
            self.api.events(&batch).await?;
            telling.sent(&batch);
        }
        Ok(end)
    }

    /// Starts the command. The error says why it cannot be, for people.
    async fn begin(
        &mut self,
        runtime: &ProcessRuntime,
        request: JobRequest,
        telling: &mut Telling,
    ) -> Result<(), String> {
        if let Some(missing) = missing(&request) {
            return Err(missing);
        }
        let mut request = JobRequest {
            job: self.options.job.clone(),
            ..request
        };
        if let Work::Command(work) = &mut request.work {
            if let Some(command) = &self.command {
                work.command.clone_from(command);
            }
            telling.reads(work.events);
            self.journal.begun(work.events, telling).await;
        }
        begin(runtime, &request).await.map_err(|error| match error {
            StartError::Refused(why) => why,
            other => other.to_string(),
        })
    }

    fn job(&mut self, runtime: ProcessRuntime) -> Job<'_> {
        Job {
            api: &self.api,
            id: self.options.job.clone(),
            runtime,
            read: self.journal.read(),
            journal: &mut self.journal,
            orders: self.orders.take(),
            heard: Instant::now(),
            measured: Instant::now(),
            stopped: None,
        }
    }
}

/// A job that is being carried out on this machine.
struct Job<'a> {
    api: &'a Api,
    id: JobId,
    runtime: ProcessRuntime,
    /// The place up to which the log was read. `None`: to its end.
    read: Option<LogPosition>,
    journal: &'a mut Journal,
    orders: Option<watch::Receiver<Orders>>,
    heard: Instant,
    measured: Instant,
    /// Why the job was stopped, if it was.
    stopped: Option<Stopped>,
}

#[derive(Clone, Copy, PartialEq)]
enum Stopped {
    /// The deployment asked the job to stop.
    Asked,
    /// The machine is taken away.
    Machine,
    /// Nobody waits for it any more.
    Over,
}

impl Job<'_> {
    async fn see_through(mut self, telling: &mut Telling) -> Result<JobSnapshot, Ended> {
        // A worker hears for all its jobs, and leaves them running.
        let mut term = match self.orders {
            None => signal(SignalKind::terminate()).ok(),
            Some(_) => None,
        };
        let runtime = self.runtime.clone();
        let id = self.id.clone();
        let mut ended = std::pin::pin!(async move { runtime.ended(&id).await });
        let end = loop {
            tokio::select! {
                end = &mut ended => break end,
                () = told(&mut term) => self.stop(Stopped::Machine, LAST_GRACE).await,
                orders = ordered(&mut self.orders) => self.obey(orders).await,
                () = tokio::time::sleep(LOOK) => self.tell(telling).await?,
            }
        };
        let end = match end {
            Ok(Some(end)) => end,
            Ok(None) => JobSnapshot::ended_badly(error_class::EVICTED, "the job's folder is gone"),
            Err(error) => JobSnapshot::ended_badly(error_class::EVICTED, error.to_string()),
        };
        if self.stopped == Some(Stopped::Over) {
            return Err(Ended::NotOurs("the job is over".to_owned()));
        }
        while self.read_log(telling).await {
            self.send(telling).await?;
        }
        self.keep_artifacts(&end).await?;
        let killed = end.terminal_error_class.as_deref() == Some(error_class::STOPPED);
        Ok(match self.stopped {
            Some(Stopped::Machine) if killed => {
                let message = "the machine of the job was taken back";
                JobSnapshot::ended_badly(error_class::RECLAIMED, message)
            }
            _ => end,
        })
    }

    /// Puts the files that the answer names into the deployment's bucket, before the end of the job refers to them.
    async fn keep_artifacts(&self, end: &JobSnapshot) -> Result<(), Ended> {
        for artifact in &end.artifacts {
            let read = self.runtime.read_artifact(artifact).await;
            let lost = |why: String| Ended::Refused(format!("{}: {why}", artifact.name));
            let bytes = read.map_err(|error| lost(error.to_string()))?;
            let bytes = bytes.ok_or_else(|| lost("the file is gone".to_owned()))?;
            self.api.artifact(artifact, bytes.into()).await?;
        }
        Ok(())
    }

    /// Tells what is new, or asks whether the job is to stop if nothing is for a while.
    async fn tell(&mut self, telling: &mut Telling) -> Result<(), Ended> {
        if self.measured.elapsed() >= MEASURE {
            self.measured = Instant::now();
            let status = self.runtime.status(&self.id).await;
            if let Ok(Some(JobSnapshot {
                resource_stats: Some(stats),
                ..
            })) = status
            {
                let data = serde_json::json!({ "resourceStats": stats });
                telling.add(EventKind::Notification, data);
            }
        }
        while self.read_log(telling).await {
            self.send(telling).await?;
        }
        self.send(telling).await?;
        if self.heard.elapsed() >= HEARTBEAT {
            let told = self.api.look().await;
            self.hear(told).await?;
        }
        Ok(())
    }

    /// Reads a page of what was printed. False: there is no more of it yet.
    async fn read_log(&mut self, telling: &mut Telling) -> bool {
        let Some(from) = self.read else { return false };
        let Ok(Some(page)) = self.runtime.read_log(&self.id, from).await else {
            return false;
        };
        let more = !page.parts.is_empty();
        telling.printed(page.parts);
        self.read = page.next;
        more && page.next.is_some()
    }

    async fn send(&mut self, telling: &mut Telling) -> Result<(), Ended> {
        if telling.batch().is_some() {
            // First kept, then sent: whoever goes on with it sends the same again.
            self.journal.told(telling, self.read).await;
        }
        while let Some(batch) = telling.batch() {
            let told = self.api.events(&batch).await;
            self.hear(told).await?;
            telling.sent(&batch);
        }
        Ok(())
    }

    /// Does what the API says with an answer.
    async fn hear(&mut self, told: Result<Told, Ended>) -> Result<(), Ended> {
        self.heard = Instant::now();
        match told {
            Ok(Told { over: true, .. }) => self.stop(Stopped::Over, LAST_GRACE).await,
            Ok(Told {
                stop: Some(stop), ..
            }) => {
                let grace = Duration::from_millis(stop.grace_ms);
                self.stop(Stopped::Asked, grace).await;
            }
            Ok(_) => {}
            Err(ended) => {
                // Nothing that the command does counts any more.
                self.stop(Stopped::Over, LAST_GRACE).await;
                let _ = self.runtime.ended(&self.id).await;
                return Err(ended);
            }
        }
        Ok(())
    }

    /// Does what a worker was asked.
    async fn obey(&mut self, orders: Orders) {
        let still = matches!(orders, Orders::Pause);
        if let Err(error) = self.runtime.freeze(&self.id, still).await {
            note(&format!("the command could not be paused: {error}"));
        }
        if let Orders::Stop(grace) = orders {
            self.stop(Stopped::Asked, grace).await;
        }
    }

    async fn stop(&mut self, why: Stopped, grace: Duration) {
        if self.stopped.is_some_and(|before| before == why) {
            return;
        }
        self.stopped = Some(why);
        if let Err(error) = self.runtime.stop(&self.id, grace).await {
            note(&format!("the command could not be stopped: {error}"));
            self.stopped = None;
        }
    }
}

/// Returns when something else is asked of the job.
async fn ordered(orders: &mut Option<watch::Receiver<Orders>>) -> Orders {
    if let Some(receiver) = orders {
        if receiver.changed().await.is_ok() {
            return *receiver.borrow_and_update();
        }
        *orders = None;
    }
    std::future::pending().await
}

/// The tries to begin again a job whose inputs could not be fetched.
const BEGINNINGS: u32 = 6;

/// Starts the command. What could not be fetched for it is fetched again.
async fn begin(runtime: &ProcessRuntime, request: &JobRequest) -> Result<(), StartError> {
    let mut tried = 0;
    loop {
        match runtime.start(request).await {
            Err(StartError::Unavailable(why)) if tried < BEGINNINGS => note(&why),
            started => return started.map(|_| ()),
        }
        tokio::time::sleep(LOOK * 2_u32.pow(tried)).await;
        tried += 1;
    }
}

/// Returns when this process is asked to end.
async fn told(term: &mut Option<Signal>) {
    match term {
        Some(term) => {
            term.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// What the job needs and this machine does not have, if there is something.
fn missing(request: &JobRequest) -> Option<String> {
    let Work::Command(work) = &request.work else {
        return Some("the job is no command".to_owned());
    };
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let has = |program: &str| std::env::split_paths(&paths).any(|dir| dir.join(program).is_file());
    (work.checkout.is_some() && !has("git")).then(|| {
        "the image has no git, and the step wants a checkout; use an image with git".to_owned()
    })
}
