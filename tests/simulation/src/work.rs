//! The tasks of a simulation, counted.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The tasks that are under way. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Work(Arc<AtomicU64>);

impl Work {
    /// Starts a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let count = Arc::clone(&self.0);
        count.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            task.await;
            count.fetch_sub(1, Ordering::SeqCst);
        });
    }

    /// Whether no task is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}
