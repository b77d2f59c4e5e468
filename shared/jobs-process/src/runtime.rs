//! The substrate as its callers see it. Nothing here is remembered: each answer comes from the job's folder.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::oneshot;
use towpath_engine::JobId;
use towpath_runtime::{JobSnapshot, JobSpec, JobStatus, Substrate, SubstrateError};

use crate::error::Error;
use crate::folder::{Folder, Found, Stop, create_private, make_dir};
use crate::group::LAUNCHER;
use crate::job::Order;
use crate::output::tail_of_logs;
use crate::supervise::{KNOWN, TAKEN};
use crate::system;
use crate::watch::{News, Watcher, when_quiet};

/// How a folder is called while it is being deleted.
const REMOVED: &str = ".removed-";

/// Jobs as local process groups, each in a folder under one root. Any number of these, in any number of processes, may
/// share a root.
#[derive(Clone, Debug)]
pub struct ProcessSubstrate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    supervisor: PathBuf,
    /// Supervisors started by this process, so that they can be laid to rest when they end.
    children: Mutex<Vec<Child>>,
    watchers: Mutex<Vec<mpsc::Sender<News>>>,
}

impl ProcessSubstrate {
    /// Jobs under `root`, which is made when the first one starts, supervised by the program `supervisor`. It is run
    /// as `supervisor supervise --dir DIR` and calls [`crate::supervise`].
    pub fn new(root: PathBuf, supervisor: PathBuf) -> Self {
        // The supervisor and the command run in other directories.
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        // A bare name is looked for on the PATH.
        let bare = supervisor.components().count() == 1 && supervisor.is_relative();
        let supervisor = if bare {
            supervisor
        } else {
            absolute(supervisor)
        };
        Self(Arc::new(Inner {
            root: absolute(root),
            supervisor,
            children: Mutex::default(),
            watchers: Mutex::default(),
        }))
    }

    /// Refuses this substrate where functions run on AWS: the sandbox is frozen between invocations and thrown away
    /// without notice, and a job in it with them.
    ///
    /// # Errors
    /// [`SubstrateError::Refused`] with the reason if `on_aws`.
    pub fn refuse_on_aws(on_aws: bool) -> Result<(), SubstrateError> {
        let reason = "the process substrate runs jobs beside the function that starts them, and on AWS a function's \
                      sandbox is frozen between calls: use the ecs substrate, or an executor";
        if on_aws {
            Err(SubstrateError::Refused(reason.to_owned()))
        } else {
            Ok(())
        }
    }

    /// Waits until the job has ended, and says how. `None`: no job of this id was ever started here. Works for jobs
    /// that another process started, and costs nothing while it waits but a sleeping thread.
    ///
    /// # Errors
    /// [`SubstrateError::Unavailable`] if the job's folder cannot be read.
    pub async fn ended(&self, job: &JobId) -> Result<Option<JobSnapshot>, SubstrateError> {
        loop {
            let folder = self.0.folder(job);
            match self.on_folder(job, |folder| folder.look()).await? {
                Found::Nothing => return Ok(None),
                Found::Ended(end) => return Ok(Some(end)),
                Found::Alive(_) => {}
            }
            let (tell, told) = oneshot::channel();
            when_quiet(folder, move |result| {
                let _ = tell.send(result);
            })?;
            told.await.map_err(|_| Error::Interrupted)??;
        }
    }

    /// Calls `on_end` once for each job under the root that has ended or ends from now on, whoever started it, until
    /// the watcher is dropped. The calls come from one thread, in the order the ends are noticed.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn watch(&self, on_end: impl FnMut(JobId) + Send + 'static) -> Result<Watcher, Error> {
        let inner = Arc::downgrade(&self.0);
        let every_scan = move || {
            if let Some(inner) = inner.upgrade() {
                inner.lay_to_rest();
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

    /// Deletes the folder of a job that has ended, with its logs and its answer. The job is forgotten with it: a start
    /// with its id would run it again.
    ///
    /// # Errors
    /// If the job has not ended, or its folder cannot be deleted.
    pub async fn remove(&self, job: &JobId) -> Result<(), SubstrateError> {
        let job = job.clone();
        Ok(self.in_background(move |inner| inner.remove(&job)).await?)
    }

    /// Deletes the folders of all jobs that ended longer than `keep` ago. Returns how many.
    ///
    /// # Errors
    /// If one cannot be deleted.
    pub async fn sweep(&self, keep: Duration) -> Result<usize, SubstrateError> {
        Ok(self.in_background(move |inner| inner.sweep(keep)).await?)
    }

    async fn on_folder<T: Send + 'static>(
        &self,
        job: &JobId,
        work: impl FnOnce(&Folder) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let job = job.clone();
        self.in_background(move |inner| work(&inner.folder(&job)))
            .await
    }

    /// Files and processes block, so they are kept off the async threads.
    async fn in_background<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || {
            inner.lay_to_rest();
            work(&inner)
        });
        done.await.map_err(|_| Error::Interrupted)?
    }
}

impl Inner {
    /// A job id is made of letters, digits and hyphens only, so it cannot lead elsewhere.
    fn folder(&self, job: &JobId) -> Folder {
        Folder::new(self.root.join(job.as_str()))
    }

    fn start(&self, order: &Order) -> Result<(), Error> {
        let folder = self.folder(&order.job);
        if folder.accepted() {
            return Ok(());
        }
        folder.create()?;
        let path = folder.log();
        let log = create_private(&path).map_err(Error::file("open", &path))?;
        let not_run = |source| Error::Supervisor {
            path: self.supervisor.clone(),
            source,
        };
        let mut command = Command::new(&self.supervisor);
        command
            .args(["supervise", "--dir"])
            .arg(folder.path())
            .env_remove(LAUNCHER);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = command.spawn().map_err(not_run)?;
        let word = serde_json::to_vec(order).map_err(|source| Error::Record { path, source })?;
        if let Some(mut stdin) = child.stdin.take() {
            // If it does not listen, its answer is missing too.
            let _ = stdin.write_all(&word);
        }
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            let _ = BufReader::new(stdout.take(4096)).read_line(&mut said);
        }
        let said = said.trim();
        self.children
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(child);
        if said != TAKEN && said != KNOWN {
            let said = if said.is_empty() {
                "it ended without a word".to_owned()
            } else {
                said.to_owned()
            };
            return Err(Error::NotTaken {
                said,
                log: folder.log(),
            });
        }
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| watcher.send(News::Started(order.job.clone())).is_ok());
        Ok(())
    }

    /// Takes the status of supervisors that ended, which the system keeps until somebody does.
    fn lay_to_rest(&self) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    fn remove(&self, job: &JobId) -> Result<(), Error> {
        let folder = self.folder(job);
        if !folder.exists() {
            return Ok(());
        }
        let not_ended = || Error::NotEnded {
            job: job.to_string(),
        };
        // Waiting for a supervisor to have its last word, which it had if the end is written.
        let _lock = folder.try_lock()?.ok_or_else(not_ended)?;
        folder.ended()?.ok_or_else(not_ended)?;
        // Out of sight in one go: half a folder would look like a job that was never accepted.
        let aside = self
            .root
            .join(format!("{REMOVED}{job}-{}", std::process::id()));
        fs::rename(folder.path(), &aside).map_err(Error::file("rename", folder.path()))?;
        delete(&aside)
    }

    fn sweep(&self, keep: Duration) -> Result<usize, Error> {
        let Some(before) = SystemTime::now().checked_sub(keep) else {
            return Ok(0);
        };
        let mut removed = 0;
        for name in names(&self.root)? {
            if name.starts_with(REMOVED) {
                delete(&self.root.join(&name))?;
            }
            let Ok(job) = name.parse::<JobId>() else {
                continue;
            };
            if self.folder(&job).ended_at().is_some_and(|at| at <= before) {
                match self.remove(&job) {
                    Ok(()) => removed += 1,
                    // Its supervisor has written the end and is about to go.
                    Err(Error::NotEnded { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(removed)
    }
}

fn delete(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::file("delete", path)(error))
        }
        _ => Ok(()),
    }
}

/// The names in a directory; none if there is no directory.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("read", dir)(error)),
    };
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect())
}

#[async_trait]
impl Substrate for ProcessSubstrate {
    fn kind(&self) -> &'static str {
        "process"
    }

    async fn start(&self, spec: &JobSpec) -> Result<(), SubstrateError> {
        let order = Order::from(spec);
        Ok(self
            .in_background(move |inner| make_dir(&inner.root).and_then(|()| inner.start(&order)))
            .await?)
    }

    async fn status(&self, job: &JobId) -> Result<Option<JobSnapshot>, SubstrateError> {
        let look = |folder: &Folder| {
            Ok(match folder.look()? {
                Found::Nothing => None,
                Found::Ended(end) => Some(end),
                Found::Alive(state) => {
                    let status = match folder.stop_asked()? {
                        Some(_) => JobStatus::Stopping,
                        None if state.running => JobStatus::Running,
                        None => JobStatus::Provisioning,
                    };
                    let resource_stats = state.group.as_ref().and_then(system::usage);
                    Some(JobSnapshot {
                        resource_stats,
                        ..JobSnapshot::of(status)
                    })
                }
            })
        };
        Ok(self.on_folder(job, look).await?)
    }

    async fn stop(&self, job: &JobId, grace: Duration) -> Result<(), SubstrateError> {
        let stop = move |folder: &Folder| {
            folder.create()?;
            if folder.ended()?.is_none() {
                // First the request, then the look: a supervisor that takes the job in between finds the request, and
                // with no supervisor the look itself brings the job to its end.
                folder.ask_stop(&Stop { grace })?;
                folder.look()?;
            }
            Ok(())
        };
        Ok(self.on_folder(job, stop).await?)
    }

    async fn tail_logs(&self, job: &JobId, lines: usize) -> Result<Option<String>, SubstrateError> {
        let tail = move |folder: &Folder| {
            if !folder.accepted() {
                return Ok(None);
            }
            let tail = tail_of_logs(&folder.stdout(), &folder.stderr(), lines);
            tail.map(Some).map_err(Error::file("read", folder.path()))
        };
        Ok(self.on_folder(job, tail).await?)
    }

    fn console_url(&self, _job: &JobId) -> Option<String> {
        None
    }
}
