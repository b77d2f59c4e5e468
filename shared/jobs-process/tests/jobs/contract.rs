//! The contract that every runtime upholds.

use std::fs;
use std::sync::Arc;

use async_trait::async_trait;
use libtest_mimic::Trial;
use towpath_engine::{JobId, Simulated};
use towpath_jobs::testing::{Subject, contract};
use towpath_jobs::{JobRequest, Runtime, Work};

use crate::bench::{Bench, job, run, script};

pub(crate) fn tests() -> Vec<Trial> {
    let checks = contract(&Processes(Bench::new())).into_iter();
    let trials = checks.map(|check| {
        Trial::test(format!("contract::{}", check.name), move || {
            let subject = Processes(Bench::new());
            run(async move { check.run(&subject).await });
            Ok(())
        })
    });
    trials.collect()
}

struct Processes(Bench);

impl Processes {
    /// A script that first leaves a trace of having begun.
    fn traced(&self, text: &str) -> Work {
        let trace = self.0.path("begun-$TOWPATH_JOB_ID");
        let JobRequest { work, .. } = script(&format!("echo begun >> {trace}; {text}"));
        work
    }
}

#[async_trait]
impl Subject for Processes {
    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.0.restarted())
    }

    fn new_job(&self) -> JobId {
        job()
    }

    fn answering(&self, output: &str) -> Work {
        self.traced(&format!("echo {output}"))
    }

    fn failing(&self) -> Work {
        self.traced("exit 3")
    }

    fn foreign(&self) -> Work {
        Work::Simulated(Simulated::default())
    }

    fn endless(&self) -> Option<Work> {
        Some(self.traced("exec sleep 1000"))
    }

    fn begun(&self, job: &JobId) -> usize {
        let trace = self.0.path(&format!("begun-{job}"));
        fs::read_to_string(trace)
            .unwrap_or_default()
            .lines()
            .count()
    }

    async fn ended(&self, job: &JobId) {
        self.0.end_of(job).await;
    }
}
