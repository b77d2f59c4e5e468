//! Hearing of ended jobs at once: a sleeping thread per live job waits for its supervisor to let go of the lock, so
//! nothing is polled but the list of folders, for jobs that other processes start.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use towpath_engine::JobId;

use crate::error::Error;
use crate::folder::{Folder, Found};
use crate::substrate::names;

/// How often the root is looked through for jobs that other processes started.
const SCAN: Duration = Duration::from_millis(250);
/// Enough for a thread that only waits.
const STACK: usize = 256 * 1024;

/// Reports ended jobs until it is dropped: see [`crate::ProcessSubstrate::watch`]. A call that is under way when it is
/// dropped goes on to its end; none begins after it. A thread that waits for a live job sleeps on until that job ends,
/// and then ends without a word.
#[derive(Debug)]
pub struct Watcher {
    closed: Arc<AtomicBool>,
    tell: mpsc::Sender<News>,
}

/// What the watcher's thread is told.
#[derive(Debug)]
pub(crate) enum News {
    /// This process started a job.
    Started(JobId),
    /// Nobody holds the job's lock any more.
    Quiet(JobId),
    /// The watcher was dropped.
    Closed,
}

impl Watcher {
    pub(crate) fn start(
        root: PathBuf,
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

/// The watcher's thread.
struct Watch<F> {
    root: PathBuf,
    closed: Arc<AtomicBool>,
    tell: mpsc::Sender<News>,
    seen: HashMap<JobId, Seen>,
    on_end: F,
}

#[derive(PartialEq)]
enum Seen {
    /// A thread waits for its lock.
    Alive,
    /// Its end was reported.
    Ended,
}

impl<F: FnMut(JobId)> Watch<F> {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Looks for jobs that were not known, and forgets those whose folder was removed.
    fn scan(&mut self) {
        let jobs: HashSet<JobId> = match names(&self.root) {
            Ok(names) => names
                .into_iter()
                .filter_map(|name| name.parse().ok())
                .collect(),
            Err(error) => {
                tracing::warn!(%error, "cannot look for jobs");
                return;
            }
        };
        self.seen
            .retain(|job, seen| *seen == Seen::Alive || jobs.contains(job));
        for job in jobs {
            self.look(job);
        }
    }

    /// Until the next scan is due.
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

    fn look(&mut self, job: JobId) {
        if self.seen.contains_key(&job) || self.is_closed() {
            return;
        }
        let folder = Folder::new(self.root.join(job.as_str()));
        let seen = if folder.ended_at().is_some() {
            Ok(Some(Seen::Ended))
        } else {
            folder.look().and_then(|found| match found {
                // Not accepted yet; the next scan looks again.
                Found::Nothing => Ok(None),
                Found::Ended(_) => Ok(Some(Seen::Ended)),
                Found::Alive(_) => {
                    let (tell, quiet) = (self.tell.clone(), job.clone());
                    when_quiet(folder, move |_| {
                        let _ = tell.send(News::Quiet(quiet));
                    })?;
                    Ok(Some(Seen::Alive))
                }
            })
        };
        match seen {
            Ok(Some(seen)) => {
                let ended = seen == Seen::Ended;
                self.seen.insert(job.clone(), seen);
                if ended {
                    (self.on_end)(job);
                }
            }
            Ok(None) => {}
            // The next scan tries again.
            Err(error) => tracing::warn!(%job, %error, "cannot tell how the job is"),
        }
    }
}

/// Calls `then`, from another thread, when nobody holds the folder's lock. A thread of its own, and not one of the
/// runtime's: it may wait for days, and a runtime that shuts down would wait for it.
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
