//! The doctor: holds records, executions and jobs against each other, names what does not fit, and mends it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use aws_sdk_sfn::types::ExecutionStatus;
use towpath_engine::{BlockId, Head, JobId, RunId, Timestamp, Wait, WorkspaceId};

use crate::outbox::trouble;
use crate::tick::Ticked;
use crate::{App, Error, Settle};

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// A live run that no execution drives.
    Driverless {
        /// Which.
        run: RunId,
        /// Its generation.
        generation: u32,
    },
    /// An execution that drives no run.
    OrphanExecution {
        /// Its name.
        name: String,
        /// Why it is one.
        why: String,
    },
    /// Something that should have been delivered.
    Undelivered {
        /// Whose.
        run: RunId,
    },
    /// A wait that nobody has looked at when it was time.
    Overdue {
        /// Whose.
        run: RunId,
    },
    /// A job at work that no run waits for.
    OrphanJob {
        /// Which.
        job: JobId,
    },
    /// A job that must be gone and is not known to be.
    Unreaped {
        /// Which.
        job: JobId,
    },
    /// A block held by a run that is over.
    StaleLock {
        /// Whose block.
        workspace: WorkspaceId,
        /// Which.
        block: BlockId,
        /// The run that is over.
        run: RunId,
    },
}

/// A job as a look at its substrate shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSeen {
    /// Which.
    pub job: JobId,
    /// Whether it is at work.
    pub live: bool,
}

/// How late the tick may be before somebody should wonder: two of its minutes.
const LATE: Duration = Duration::from_secs(120);

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driverless { run, generation } => {
                write!(
                    f,
                    "{run} is live, but its execution {run}-{generation} is not: start its next"
                )
            }
            Self::OrphanExecution { name, why } => {
                write!(f, "the execution {name} drives no run ({why}): stop it")
            }
            Self::Undelivered { run } => write!(f, "a delivery to {run} is overdue: deliver it"),
            Self::Overdue { run } => write!(f, "nobody has looked at what {run} waits for: look"),
            Self::OrphanJob { job } => write!(f, "{job} is at work for nobody: stop it"),
            Self::Unreaped { job } => write!(
                f,
                "{job} must be gone and is not known to be: see that it is"
            ),
            Self::StaleLock { block, run, .. } => write!(
                f,
                "the block {block} is held by {run}, which is over: let it go"
            ),
        }
    }
}

impl App {
    /// Holds everything against everything: all runs, running executions, these jobs. It reads the whole table. What is
    /// just under way may look amiss for a moment: believe what is found twice.
    ///
    /// # Errors
    /// If something cannot be read.
    pub async fn examine(&self, jobs: &[JobSeen]) -> Result<BTreeSet<Finding>, Error> {
        // Executions first: one that starts later is not missed, since its run is then seen with its driver wanted.
        let running = self.running_executions().await?;
        let survey = self.store.survey().await?;
        let heads: BTreeMap<RunId, Head> = survey
            .heads
            .into_iter()
            .map(|head| (head.id.clone(), head))
            .collect();
        let waits: BTreeMap<RunId, Wait> = survey.waits.into_iter().collect();
        let now = self.now();
        let mut found = BTreeSet::new();
        for (id, head) in &heads {
            let name = format!("{id}-{}", head.generation);
            let wait = waits.get(id);
            let undelivered = wait.is_some_and(|wait| wait.wake.is_some() || wait.drive);
            if undelivered && wait.is_some_and(|wait| overdue(wait.due, now, Duration::ZERO)) {
                found.insert(Finding::Undelivered { run: id.clone() });
            }
            if head.status.is_terminal() {
                continue;
            }
            if !running.contains(&name) && !wait.is_some_and(|wait| wait.drive) {
                found.insert(Finding::Driverless {
                    run: id.clone(),
                    generation: head.generation,
                });
            }
            if !undelivered
                && wait.is_none_or(|wait| wait.due.is_none() || overdue(wait.due, now, LATE))
            {
                found.insert(Finding::Overdue { run: id.clone() });
            }
        }
        for name in running {
            if let Some(why) = orphaned(&name, &heads) {
                found.insert(Finding::OrphanExecution { name, why });
            }
        }
        for seen in jobs.iter().filter(|seen| seen.live) {
            if !self.wanted(&seen.job, &heads).await? {
                found.insert(Finding::OrphanJob {
                    job: seen.job.clone(),
                });
            }
        }
        for (job, due) in survey.reaps {
            if overdue(Some(due), now, LATE) {
                found.insert(Finding::Unreaped { job });
            }
        }
        for (workspace, block, run) in survey.locks {
            if heads.get(&run).is_none_or(|head| head.status.is_terminal()) {
                found.insert(Finding::StaleLock {
                    workspace,
                    block,
                    run,
                });
            }
        }
        Ok(found)
    }

    /// Mends a finding. One that is not so any more is left alone.
    ///
    /// # Errors
    /// If a service cannot be reached.
    pub async fn mend(&self, finding: &Finding) -> Result<(), Error> {
        match finding {
            Finding::Driverless { run, generation } => {
                match self.driver_death(run, *generation).await? {
                    Some(error) => {
                        self.settle(&Settle {
                            run: run.clone(),
                            generation: *generation,
                            error,
                        })
                        .await
                    }
                    None => Ok(()),
                }
            }
            Finding::OrphanExecution { name, why } => {
                let stop = self
                    .sfn
                    .stop_execution()
                    .execution_arn(self.execution_arn(name));
                let stopped = stop.error("Towpath.Orphan").cause(why).send().await;
                stopped.map(|_| ()).map_err(|error| trouble(&error))
            }
            Finding::Undelivered { run } => match self.store.wait(run).await? {
                Some(wait) => self.deliver(run, wait, true).await,
                None => Ok(()),
            },
            Finding::Overdue { run } => self.see_to_run(run, &mut Ticked::default()).await,
            Finding::OrphanJob { job } | Finding::Unreaped { job } => self.see_to_job(job).await,
            Finding::StaleLock {
                workspace,
                block,
                run,
            } => Ok(self.store.release(workspace, block, run).await?),
        }
    }

    async fn running_executions(&self) -> Result<BTreeSet<String>, Error> {
        let (mut names, mut from) = (BTreeSet::new(), None);
        loop {
            let list = self.sfn.list_executions().state_machine_arn(&self.machine);
            let page = list
                .status_filter(ExecutionStatus::Running)
                .set_next_token(from)
                .send()
                .await;
            let page = page.map_err(|error| trouble(&error))?;
            names.extend(page.executions.into_iter().map(|execution| execution.name));
            from = page.next_token;
            if from.is_none() {
                return Ok(names);
            }
        }
    }

    /// Whether a run is waiting for this job.
    async fn wanted(&self, job: &JobId, heads: &BTreeMap<RunId, Head>) -> Result<bool, Error> {
        if heads
            .get(&job.run())
            .is_none_or(|head| head.status.is_terminal())
        {
            return Ok(false);
        }
        let loaded = self.store.load(&job.run()).await?;
        Ok(loaded.is_some_and(|loaded| loaded.run.step.live_job() == Some(job)))
    }
}

fn overdue(due: Option<Timestamp>, now: Timestamp, late: Duration) -> bool {
    due.is_some_and(|due| due.plus(late) < now)
}

/// Why an execution drives nobody, if that is so.
fn orphaned(name: &str, heads: &BTreeMap<RunId, Head>) -> Option<String> {
    let (run, generation) = name.rsplit_once('-').unwrap_or((name, ""));
    match run.parse::<RunId>().ok().and_then(|run| heads.get(&run)) {
        None => Some("there is no such run".to_owned()),
        Some(head) if head.status.is_terminal() => Some("its run is over".to_owned()),
        Some(head) if head.generation.to_string() != generation => Some(format!(
            "its run is driven by generation {}",
            head.generation
        )),
        Some(_) => None,
    }
}
