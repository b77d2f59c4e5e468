//! Waiting while hardly any time goes by.

use std::time::Duration;

use towpath_api_types::RunView;
use towpath_engine::{JobId, RunId};

use crate::World;
use crate::world::PATIENCE;

impl World {
    /// Waits until something holds, while time goes by in steps of this length.
    ///
    /// # Panics
    /// If it never does.
    pub async fn when(&self, step: Duration, holds: impl AsyncFn() -> bool) {
        let patience = tokio::time::Instant::now() + PATIENCE;
        while !holds().await {
            let now = tokio::time::Instant::now();
            assert!(now < patience, "what is waited for never comes");
            self.pass(step).await;
        }
    }

    /// Waits until the run is as `seen` wants it, while hardly any time goes by: what must happen by itself, and not
    /// because somebody looks after a minute.
    pub async fn soon(&self, run: &RunId, seen: impl Fn(&RunView) -> bool) -> RunView {
        self.watch(run, Duration::from_millis(1), seen).await
    }

    /// Waits until the run is over, while hardly any time goes by.
    pub async fn end_soon(&self, run: &RunId) -> RunView {
        self.soon(run, |view| view.summary.status.is_terminal())
            .await
    }

    /// Waits until the run is over, while time goes by faster than the system's, and not so fast that what real processes
    /// do would take hours of it.
    pub async fn watch_slowly(&self, run: &RunId) -> RunView {
        let over = |view: &RunView| view.summary.status.is_terminal();
        self.watch(run, Duration::from_millis(100), over).await
    }

    /// Waits, while hardly any time goes by, until a job works for the run's present step, and returns which.
    pub async fn at_work(&self, run: &RunId) -> JobId {
        let waits = |view: &RunView| {
            let waits = view.summary.waits_for.as_ref();
            waits.is_some_and(|waits| waits.reason == "job")
        };
        let view = self.soon(run, waits).await;
        let job = view.summary.waits_for.and_then(|waits| waits.subject);
        let job: JobId = job.unwrap().parse().unwrap();
        // Its wait is durable before the job is, and the job before its command runs.
        let runs = |_: &RunView| {
            self.job_record(&job)
                .is_some_and(|it| it["running"] == true)
        };
        self.soon(run, runs).await;
        job
    }

    /// Waits, while hardly any time goes by, until the run waits for a human, and returns what for.
    pub async fn asked_soon(&self, run: &RunId) -> String {
        let waits = |view: &RunView| {
            assert!(
                !view.summary.status.is_terminal(),
                "the run ended: {view:#?}"
            );
            let waits = view.summary.waits_for.as_ref();
            waits.is_some_and(|waits| waits.reason == "human")
        };
        let view = self.soon(run, waits).await;
        let waits = view.summary.waits_for.and_then(|waits| waits.subject);
        waits.unwrap()
    }

    /// Waits until the run is over, while hardly any time goes by, and nothing is left behind.
    pub async fn over(&self, run: &RunId) -> RunView {
        let view = self.end_soon(run).await;
        self.quiet().await;
        view
    }
}
