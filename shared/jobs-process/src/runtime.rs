//! The process runtime as its callers see it. Nothing is remembered here: each answer comes from the folder of the job.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::oneshot;
use towpath_engine::{Artifact, JobId};
use towpath_jobs::{
    JobRequest, JobSnapshot, JobStatus, LogPage, LogPosition, Runtime, StartError, Started,
    Unreadable, Work,
};

use crate::artifacts;
use crate::error::Error;
use crate::folder::{Folder, Found, Stop, create_private};
use crate::order::{KNOWN, OF_SUPERVISORS, Order, TAKEN, inherited};
use crate::output::{page_of_logs, tail_of_logs};
use crate::root::Root;
use crate::system;
use crate::watch::{News, Watcher, when_quiet};

/// How long a supervisor may take between the lock and its decision whether to accept the job: in practice, a write.
const ACCEPTING: Duration = Duration::from_secs(10);

/// The runtime of kind `process`: jobs are local process groups, each with a folder under one root.
///
/// Any number of these, in any number of processes, may share a root. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProcessRuntime(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: Root,
    supervisor: PathBuf,
    /// The supervisors that this process started, so that their exit status can be collected.
    children: Mutex<Vec<Child>>,
    watchers: Mutex<Vec<mpsc::Sender<News>>>,
}

impl ProcessRuntime {
    /// A runtime with the folders of its jobs under `root`, which is made when the first job starts. The program
    /// `supervisor` is run as `supervisor supervise --dir DIR` and has to call [`crate::supervise`].
    pub fn new(root: PathBuf, supervisor: PathBuf) -> Self {
        // The supervisor and the command run in other directories.
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        // A bare name is searched for on the PATH.
        let bare = supervisor.components().count() == 1 && supervisor.is_relative();
        let supervisor = if bare {
            supervisor
        } else {
            absolute(supervisor)
        };
        Self(Arc::new(Inner {
            root: Root::new(absolute(root)),
            supervisor,
            children: Mutex::default(),
            watchers: Mutex::default(),
        }))
    }

    /// Waits until a job has ended, and returns its last snapshot. `None`: no job of this id was ever started here.
    /// Works for jobs that another process started, and uses nothing while it waits but a sleeping thread.
    ///
    /// # Errors
    /// If the folder of the job cannot be read.
    pub async fn ended(&self, job: &JobId) -> Result<Option<JobSnapshot>, Error> {
        loop {
            match self.on_folder(job, Folder::look).await? {
                Found::Nothing => return Ok(None),
                Found::Ended(end) => return Ok(Some(end)),
                Found::Alive(_) => {}
            }
            let (tell, told) = oneshot::channel();
            when_quiet(self.0.root.folder(job)?, move |result| {
                let _ = tell.send(result);
            })?;
            told.await.map_err(|_| Error::Interrupted)??;
        }
    }

    /// Makes the command of a job stand still, or go on. A job that is not running is left as it is.
    ///
    /// # Errors
    /// If the folder of the job cannot be read.
    pub async fn freeze(&self, job: &JobId, still: bool) -> Result<(), Error> {
        let freeze = move |folder: &Folder| {
            if let Found::Alive(state) = folder.look()?
                && let Some(group) = &state.group
            {
                system::freeze(group, still);
            }
            Ok(())
        };
        self.on_folder(job, freeze).await
    }

    /// Calls `on_end` once for each job under the root that has ended or ends from now on, whoever started it, until
    /// the watcher is dropped. The calls come from one thread, in the order in which the ends are noticed.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn watch(&self, on_end: impl FnMut(JobId) + Send + 'static) -> Result<Watcher, Error> {
        let inner = Arc::downgrade(&self.0);
        let every_scan = move || {
            if let Some(inner) = inner.upgrade() {
                inner.collect_children();
            }
        };
        let (watcher, tell) = Watcher::start(self.0.root.clone(), on_end, every_scan)?;
        self.0
            .watchers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(tell);
        Ok(watcher)
    }

    /// Deletes the folder of a job that has ended, with its logs and its answer. Its tombstone goes with it: a start
    /// with the same id would run the job again.
    ///
    /// # Errors
    /// [`Error::NotEnded`] if the job has not ended; others if its folder cannot be deleted.
    pub async fn remove(&self, job: &JobId) -> Result<(), Error> {
        let job = job.clone();
        self.in_background(move |inner| inner.root.remove(&job))
            .await
    }

    /// Deletes the folders of all jobs that ended longer than `keep` ago, as [`ProcessRuntime::remove`] does, and
    /// returns how many. `keep` has to be longer than any start may be on its way.
    ///
    /// # Errors
    /// If a folder cannot be deleted.
    pub async fn sweep(&self, keep: Duration) -> Result<usize, Error> {
        self.in_background(move |inner| inner.root.sweep(keep))
            .await
    }

    /// Fetches the artifacts that a job is given, unless it has been started.
    async fn fetch(&self, request: &JobRequest) -> Result<(), StartError> {
        let made = |inner: &Inner, job: &JobId| {
            let folder = inner.root.folder(job)?;
            inner.root.create()?;
            folder.create()?;
            Ok((!folder.accepted()).then_some(folder))
        };
        let job = request.job.clone();
        match self.in_background(move |inner| made(inner, &job)).await? {
            Some(folder) => artifacts::fetch(&folder, &request.artifacts).await,
            None => Ok(()),
        }
    }

    async fn on_folder<T: Send + 'static>(
        &self,
        job: &JobId,
        work: impl FnOnce(&Folder) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let job = job.clone();
        self.in_background(move |inner| work(&inner.root.folder(&job)?))
            .await
    }

    /// Operations on files and processes block, so they are kept off the async threads.
    async fn in_background<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            inner.collect_children();
            work(&inner)
        });
        done.await.map_err(|_| Error::Interrupted)?
    }
}

impl Inner {
    fn start(&self, order: &Order) -> Result<(), Error> {
        let folder = self.root.folder(&order.job)?;
        if folder.accepted() {
            return Ok(());
        }
        self.root.create()?;
        folder.create()?;
        let mut child = self.run_supervisor(&folder)?;
        let path = folder.log();
        let message = serde_json::to_vec(order).map_err(|source| Error::Record { path, source })?;
        if let Some(mut stdin) = child.stdin.take() {
            // A supervisor that does not read it gives no answer either.
            let _ = stdin.write_all(&message);
        }
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            let _ = BufReader::new(stdout.take(4096)).read_line(&mut said);
        }
        self.children
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(child);
        match said.trim() {
            TAKEN | KNOWN => {}
            said => {
                let silent = "it ended without an answer";
                return Err(Error::NotAccepted {
                    said: if said.is_empty() { silent } else { said }.to_owned(),
                    log: folder.log(),
                });
            }
        }
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| watcher.send(News::Started(order.job.clone())).is_ok());
        Ok(())
    }

    fn run_supervisor(&self, folder: &Folder) -> Result<Child, Error> {
        let path = folder.log();
        let log = create_private(&path).map_err(Error::file("open", &path))?;
        let mut command = Command::new(&self.supervisor);
        command
            .args(["supervise", "--dir"])
            .arg(folder.path())
            .env_clear()
            .envs(inherited(&OF_SUPERVISORS))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        command.spawn().map_err(|source| Error::Supervisor {
            path: self.supervisor.clone(),
            source,
        })
    }

    /// Collects the exit status of supervisors that ended, which the system keeps until somebody does.
    fn collect_children(&self) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}

fn snapshot(folder: &Folder) -> Result<Option<JobSnapshot>, Error> {
    let state = match folder.look()? {
        Found::Nothing => return Ok(None),
        Found::Ended(end) => return Ok(Some(end)),
        Found::Alive(state) => state,
    };
    let status = match folder.stop_asked()? {
        Some(_) => JobStatus::Stopping,
        None if state.running => JobStatus::Running,
        None => JobStatus::Provisioning,
    };
    Ok(Some(JobSnapshot {
        resource_stats: state.group.as_ref().and_then(system::usage),
        ..JobSnapshot::of(status)
    }))
}

/// Leaves the tombstone first and looks afterwards: a supervisor that accepts the job in between finds the tombstone
/// before it runs anything, and with no supervisor the look itself records the end of the job.
fn stop(folder: &Folder, job: &JobId, grace: Duration) -> Result<(), Error> {
    folder.create()?;
    if folder.ended()?.is_some() {
        return Ok(());
    }
    folder.ask_stop(&Stop { grace })?;
    let since = Instant::now();
    // With the tombstone in place, nothing to be found means that somebody holds the lock at this moment: a supervisor
    // that is about to accept the job, or another look.
    while let Found::Nothing = folder.look()? {
        if since.elapsed() > ACCEPTING {
            return Err(Error::Accepting {
                job: job.to_string(),
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[async_trait]
impl Runtime for ProcessRuntime {
    fn kind(&self) -> &'static str {
        "process"
    }

    async fn start(&self, request: &JobRequest) -> Result<Started, StartError> {
        let Work::Command(work) = &request.work else {
            let why =
                "the runtime `process` runs commands, and cannot answer for an agent that is none";
            return Err(StartError::Refused(why.to_owned()));
        };
        if !request.artifacts.is_empty() {
            self.fetch(request).await?;
        }
        let order = Order::new(request, work);
        self.in_background(move |inner| inner.start(&order)).await?;
        Ok(Started::Accepted)
    }

    async fn status(&self, job: &JobId) -> Result<Option<JobSnapshot>, Unreadable> {
        Ok(self.on_folder(job, snapshot).await?)
    }

    async fn stop(&self, job: &JobId, grace: Duration) -> Result<(), Unreadable> {
        let id = job.clone();
        let stop = move |folder: &Folder| stop(folder, &id, grace);
        Ok(self.on_folder(job, stop).await?)
    }

    async fn read_log(
        &self,
        job: &JobId,
        after: LogPosition,
    ) -> Result<Option<LogPage>, Unreadable> {
        let read = move |folder: &Folder| {
            if !folder.has_records() {
                return Ok(None);
            }
            // Asked first: what is printed after this is on the next page.
            let over = folder.ended()?.is_some();
            let page = page_of_logs(&folder.stdout(), &folder.stderr(), after, over);
            page.map(Some).map_err(Error::file("read", folder.path()))
        };
        Ok(self.on_folder(job, read).await?)
    }

    async fn read_artifact(&self, artifact: &Artifact) -> Result<Option<Vec<u8>>, Unreadable> {
        let wanted = artifact.clone();
        let read = move |folder: &Folder| artifacts::read(folder, &wanted);
        Ok(self.on_folder(&artifact.job, read).await?)
    }

    /// Its jobs ask nothing while they are under way.
    async fn answer(&self, _: &JobId, _: &str, _: &str) -> Result<(), Unreadable> {
        Ok(())
    }

    async fn tail_logs(&self, job: &JobId, lines: usize) -> Result<Option<String>, Unreadable> {
        let tail = move |folder: &Folder| {
            if !folder.accepted() {
                return Ok(None);
            }
            let tail = tail_of_logs(&folder.stdout(), &folder.stderr(), lines);
            tail.map(Some).map_err(Error::file("read", folder.path()))
        };
        Ok(self.on_folder(job, tail).await?)
    }
}
