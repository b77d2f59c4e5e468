//! Reporting ended jobs at once. A sleeping thread per live job waits for the supervisor to let go of the lock; only the
//! list of folders is polled, for jobs that other processes start.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use towpath_engine::JobId;

use crate::error::Error;
use crate::folder::{Folder, Found};
use crate::root::Root;

/// The interval at which the root is searched for jobs that other processes started.
const SCAN: Duration = Duration::from_millis(250);
/// The stack of a thread that only waits, in bytes.
const STACK: usize = 256 * 1024;

/// A watcher reports ended jobs until it is dropped: see [`crate::ProcessRuntime::watch`]. A call that is under way at
/// the drop goes on to its end; none begins after it. A thread that waits for a live job sleeps on until that job ends,
/// and then ends without a report.
#[derive(Debug)]
pub struct Watcher {
    closed: Arc<AtomicBool>,
    tell: mpsc::Sender<News>,
}

/// A message to the thread of a watcher.
#[derive(Debug)]
pub(crate) enum News {
    /// This process started a job.
    Started(JobId),
    /// No process holds the lock of the job any more.
    Quiet(JobId),
    /// The watcher was dropped.
    Closed,
}

impl Watcher {
    pub(crate) fn start(
        root: Root,
        on_end: impl FnMut(JobId) + Send + 'static,
        mut every_scan: impl FnMut() + Send + 'static,
    ) -> Result<(Self, mpsc::Sender<News>), Error> {
        let (tell, news) = mpsc::channel();
        let closed = Arc::new(AtomicBool::new(false));
        let mut watch = Watch {
            root,
            closed: Arc::clone(&closed),
            tell: tell.clone(),
            seen: HashMap::new(),
            on_end,
        };
        spawn(Path::new("the watcher's thread"), move || {
            while !watch.is_closed() {
                every_scan();
                watch.scan();
                watch.listen(&news);
            }
        })?;
        Ok((
            Self {
                closed,
                tell: tell.clone(),
            },
            tell,
        ))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = self.tell.send(News::Closed);
    }
}

/// The state of a watcher's thread.
struct Watch<F> {
    root: Root,
    closed: Arc<AtomicBool>,
    tell: mpsc::Sender<News>,
    seen: HashMap<JobId, Seen>,
    on_end: F,
}

#[derive(PartialEq)]
enum Seen {
    /// A thread waits for the lock of the job.
    Alive,
    /// The end of the job was reported.
    Ended,
}

impl<F: FnMut(JobId)> Watch<F> {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Looks for jobs that are not known yet, and forgets those whose folder was removed.
    fn scan(&mut self) {
        let jobs: HashSet<JobId> = match self.root.jobs() {
            Ok(jobs) => jobs.into_iter().collect(),
            Err(error) => {
                tracing::warn!(%error, "cannot list the jobs");
                return;
            }
        };
        self.seen
            .retain(|job, seen| *seen == Seen::Alive || jobs.contains(job));
        for job in jobs {
            self.look(job);
        }
    }

    /// Handles messages until the next scan is due.
    fn listen(&mut self, news: &mpsc::Receiver<News>) {
        let due = Instant::now() + SCAN;
        while let Ok(news) = news.recv_timeout(due.saturating_duration_since(Instant::now())) {
            match news {
                News::Started(job) => self.look(job),
                News::Quiet(job) => {
                    self.seen.remove(&job);
                    self.look(job);
                }
                News::Closed => return,
            }
        }
    }

    /// Reports the job if it has ended, or has a thread wait for its end.
    fn look(&mut self, job: JobId) {
        if self.seen.contains_key(&job) || self.is_closed() {
            return;
        }
        match self.see(&job) {
            Ok(Some(Seen::Ended)) => {
                self.seen.insert(job.clone(), Seen::Ended);
                (self.on_end)(job);
            }
            Ok(Some(Seen::Alive)) => {
                self.seen.insert(job, Seen::Alive);
            }
            // Not accepted yet; the next scan looks again.
            Ok(None) => {}
            // The next scan tries again.
            Err(error) => tracing::warn!(%job, %error, "cannot read the state of the job"),
        }
    }

    fn see(&self, job: &JobId) -> Result<Option<Seen>, Error> {
        let folder = self.root.folder(job)?;
        if folder.ended_at().is_some() {
            return Ok(Some(Seen::Ended));
        }
        match folder.look()? {
            Found::Nothing => Ok(None),
            Found::Ended(_) => Ok(Some(Seen::Ended)),
            Found::Alive(_) => {
                let (tell, quiet) = (self.tell.clone(), job.clone());
                when_quiet(folder, move |_| {
                    let _ = tell.send(News::Quiet(quiet));
                })?;
                Ok(Some(Seen::Alive))
            }
        }
    }
}

/// Calls `then`, from another thread, when no process holds the lock of the folder. The thread is not one of tokio's: it
/// may wait for days, and a tokio runtime that shuts down would wait for it.
pub(crate) fn when_quiet(
    folder: Folder,
    then: impl FnOnce(Result<(), Error>) + Send + 'static,
) -> Result<(), Error> {
    let path = folder.path().to_owned();
    spawn(&path, move || then(folder.await_lock()))
}

fn spawn(what: &Path, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let started: io::Result<_> = thread::Builder::new()
        .name("towpath-jobs".to_owned())
        .stack_size(STACK)
        .spawn(work);
    started
        .map(drop)
        .map_err(Error::file("start a thread for", what))
}
