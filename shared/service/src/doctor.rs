//! Doctor: holds records, executions and jobs against each other, names what does not fit, and repairs it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use towpath_aws::{Clients, Instrument};
use towpath_clock::Clock;
use towpath_engine::{BlockId, EXECUTOR, Head, JobId, JobRef, RunId, Timestamp, Wait, WorkspaceId};
use towpath_executors::ExecutorId;
use towpath_jobs::Runtime;
use towpath_machine::{Executions, StepFunctions, driven_by, execution_name};
use towpath_table::{DynamoTable, Scan};

use crate::outbox::Outbox;
use crate::{App, Config, Error, Settle, Settler, Ticked, Ticker};

/// Holds records, executions and jobs against each other.
#[derive(Clone)]
pub struct Doctor {
    table: Arc<dyn Scan>,
    executions: Arc<dyn Executions>,
    outbox: Outbox,
    settler: Settler,
    ticker: Ticker,
}

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// A live run that no execution drives.
    Driverless {
        /// The run.
        run: RunId,
        /// The generation of the execution that is missing.
        generation: u32,
    },
    /// An execution that drives no run.
    OrphanExecution {
        /// The name of the execution.
        name: String,
        /// The reason it drives no run.
        why: String,
    },
    /// Something that should have been delivered.
    Undelivered {
        /// The run.
        run: RunId,
    },
    /// A wait that nobody has looked at when it was time.
    Overdue {
        /// The run.
        run: RunId,
    },
    /// A job at work that no run waits for.
    OrphanJob {
        /// The job and its runtime.
        job: JobRef,
    },
    /// A job that must be gone and is not known to be.
    Unreaped {
        /// The job.
        job: JobId,
    },
    /// A block held by a run that is over.
    StaleLock {
        /// The workspace that owns the block.
        workspace: WorkspaceId,
        /// The block.
        block: BlockId,
        /// The run that is over.
        run: RunId,
    },
    /// A live run without the lock of its block.
    LostLock {
        /// The run.
        run: RunId,
    },
    /// An executor with a socket on record that is closed.
    ClosedSocket {
        /// The id of the executor.
        executor: ExecutorId,
        /// The connection that is closed.
        connection: String,
    },
    /// A record that this release cannot read.
    Unreadable {
        /// The record, and what is wrong with it.
        why: String,
    },
}

/// A job as a look at its runtime shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSeen {
    /// The job and its runtime.
    pub job: JobRef,
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
            Self::OrphanJob { job } => write!(f, "{} is at work for nobody: stop it", job.job),
            Self::Unreaped { job } => write!(
                f,
                "{job} must be gone and is not known to be: see that it is"
            ),
            Self::StaleLock { block, run, .. } => write!(
                f,
                "the block {block} is held by {run}, which is over: let it go"
            ),
            Self::LostLock { run } => write!(
                f,
                "{run} is live, but its block is not held by it: hold it again"
            ),
            Self::ClosedSocket { executor, .. } => write!(
                f,
                "the socket of the executor {executor} is closed, and on record as open: note that it is closed"
            ),
            Self::Unreadable { why } => write!(
                f,
                "{why}: stop its run, which works on a record that cannot be read, too"
            ),
        }
    }
}

impl Doctor {
    /// A doctor of the deployment that these services serve, with the two ports that only an operator has.
    pub fn new(app: &App, table: Arc<dyn Scan>, executions: Arc<dyn Executions>) -> Self {
        Self {
            table,
            executions,
            outbox: app.ticker.outbox.clone(),
            settler: app.settler.clone(),
            ticker: app.ticker.clone(),
        }
    }

    /// The services of this configuration, and their doctor.
    pub fn connect(
        config: &Config,
        clock: Clock,
        runtimes: Vec<Arc<dyn Runtime>>,
        instrument: Option<&dyn Instrument>,
    ) -> (App, Self) {
        let clients = Clients::connect(&config.aws, instrument);
        let table = DynamoTable::new(clients.dynamodb, &config.runs_table);
        let machine = StepFunctions::new(clients.sfn, &config.machine);
        let app = App::connect(config, clock, runtimes, instrument);
        let doctor = Self::new(&app, Arc::new(table), Arc::new(machine));
        (app, doctor)
    }

    /// Holds everything against everything: all runs, running executions, these jobs. It reads the whole table. What is
    /// just under way may look amiss for a moment: believe what is found twice.
    ///
    /// # Errors
    /// If something cannot be read.
    pub async fn examine(&self, jobs: &[JobSeen]) -> Result<BTreeSet<Finding>, Error> {
        // Executions first: one that starts later is not missed, since its run is then seen with its driver wanted.
        let ports = &self.outbox.ports;
        let running: BTreeSet<String> = self.executions.running().await?.into_iter().collect();
        let survey = ports.store.survey(self.table.as_ref()).await?;
        let heads: BTreeMap<RunId, Head> = survey
            .heads
            .into_iter()
            .map(|head| (head.id.clone(), head))
            .collect();
        let waits: BTreeMap<RunId, Wait> = survey.waits.into_iter().collect();
        let now = self.outbox.now();
        let mut found = BTreeSet::new();
        for (id, head) in &heads {
            found.extend(of_run(head, waits.get(id), &running, now));
        }
        for name in running {
            if let Some(why) = orphaned(&name, &heads) {
                found.insert(Finding::OrphanExecution { name, why });
            }
        }
        for seen in jobs.iter().filter(|seen| seen.live) {
            if !self.wanted(&seen.job.job, &heads).await? {
                found.insert(Finding::OrphanJob {
                    job: seen.job.clone(),
                });
            }
        }
        for (job, due) in survey.reaps {
            if overdue(Some(due), now, LATE) {
                found.insert(Finding::Unreaped { job: job.job });
            }
        }
        found.extend(self.of_executors(&heads).await?);
        let unreadable = survey.unreadable.into_iter();
        found.extend(unreadable.map(|why| Finding::Unreadable { why }));
        found.extend(of_locks(survey.locks, &heads));
        Ok(found)
    }

    /// Repairs a finding. One that is not so any more is left alone.
    ///
    /// # Errors
    /// If a service cannot be reached, or the finding cannot be repaired.
    pub async fn repair(&self, finding: &Finding) -> Result<(), Error> {
        let ports = &self.outbox.ports;
        match finding {
            Finding::Driverless { run, generation } => {
                let Some(error) = ports.machine.end_of(run, *generation).await? else {
                    return Ok(());
                };
                let dead = Settle {
                    run: run.clone(),
                    generation: *generation,
                    error,
                };
                self.settler.settle(&dead).await
            }
            Finding::OrphanExecution { name, why } => Ok(self.executions.abort(name, why).await?),
            Finding::Undelivered { run } => match ports.store.wait(run).await? {
                Some(wait) => self.outbox.deliver(run, wait, true).await,
                None => Ok(()),
            },
            Finding::Overdue { run } => self.ticker.see_to_run(run, &mut Ticked::default()).await,
            Finding::OrphanJob { job } => {
                self.outbox.reap(job).await;
                Ok(())
            }
            Finding::Unreaped { job } => self.outbox.see_to_job(job).await,
            Finding::StaleLock {
                workspace,
                block,
                run,
            } => Ok(ports.store.release(workspace, block, run).await?),
            Finding::LostLock { run } => match ports.store.head(run).await? {
                Some(head) if !head.status.is_terminal() => {
                    Ok(ports.store.lock_again(&head).await?)
                }
                _ => Ok(()),
            },
            Finding::ClosedSocket { connection, .. } => {
                let executors = ports.executors();
                Ok(executors.registrar.disconnect(connection).await?)
            }
            Finding::Unreadable { why } => Err(towpath_store::Error::Broken(why.clone()).into()),
        }
    }

    /// The findings about executors: their sockets, and missions that no run waits for.
    async fn of_executors(&self, heads: &BTreeMap<RunId, Head>) -> Result<Vec<Finding>, Error> {
        let ports = &self.outbox.ports;
        let executors = ports.executors();
        let mut found = Vec::new();
        for (workspace, executor) in ports.store.all_executors().await? {
            let seen = executors.seen(&workspace, &executor).await?;
            let Some(seen) = seen else { continue };
            if let Some(connection) = seen.closed_socket {
                found.push(Finding::ClosedSocket {
                    executor: executor.clone(),
                    connection,
                });
            }
            for job in seen.jobs {
                if !self.wanted(&job, heads).await? {
                    let runtime = EXECUTOR.to_owned();
                    let job = JobRef { job, runtime };
                    found.push(Finding::OrphanJob { job });
                }
            }
        }
        Ok(found)
    }

    /// Whether a run is waiting for this job.
    async fn wanted(&self, job: &JobId, heads: &BTreeMap<RunId, Head>) -> Result<bool, Error> {
        if heads
            .get(&job.run())
            .is_none_or(|head| head.status.is_terminal())
        {
            return Ok(false);
        }
        let loaded = self.outbox.ports.store.load(&job.run()).await?;
        Ok(loaded.is_some_and(|loaded| loaded.run.step.live_jobs().any(|live| live.job == *job)))
    }
}

/// The findings about one run.
fn of_run(
    head: &Head,
    wait: Option<&Wait>,
    running: &BTreeSet<String>,
    now: Timestamp,
) -> Vec<Finding> {
    let (run, generation) = (head.id.clone(), head.generation);
    let held = |wait: &Wait| wait.wake.is_some() || wait.drive_at.is_some();
    let undelivered = wait.is_some_and(held);
    let mut found = Vec::new();
    if undelivered && wait.is_some_and(|wait| overdue(wait.due, now, Duration::ZERO)) {
        found.push(Finding::Undelivered { run: run.clone() });
    }
    if head.status.is_terminal() {
        return found;
    }
    let comes = wait.is_some_and(|wait| wait.drive_at.is_some());
    if !comes && !running.contains(&execution_name(&run, generation)) {
        let run = run.clone();
        found.push(Finding::Driverless { run, generation });
    }
    let late = |wait: &Wait| wait.due.is_none() || overdue(wait.due, now, LATE);
    if !undelivered && wait.is_none_or(late) {
        found.push(Finding::Overdue { run });
    }
    found
}

/// The findings about the locks of blocks.
fn of_locks(
    locks: Vec<(WorkspaceId, BlockId, RunId)>,
    heads: &BTreeMap<RunId, Head>,
) -> Vec<Finding> {
    let held: BTreeSet<&RunId> = locks.iter().map(|(_, _, run)| run).collect();
    let live = heads.values().filter(|head| !head.status.is_terminal());
    let lost = live.filter(|head| !held.contains(&head.id));
    let mut found: Vec<Finding> = lost
        .map(|head| Finding::LostLock {
            run: head.id.clone(),
        })
        .collect();
    let over = |run: &RunId| heads.get(run).is_none_or(|head| head.status.is_terminal());
    let stale = locks.into_iter().filter(|(_, _, run)| over(run));
    found.extend(stale.map(|(workspace, block, run)| Finding::StaleLock {
        workspace,
        block,
        run,
    }));
    found
}

fn overdue(due: Option<Timestamp>, now: Timestamp, late: Duration) -> bool {
    due.is_some_and(|due| due.plus(late) < now)
}

/// The reason for which an execution drives no run, if that is so.
fn orphaned(name: &str, heads: &BTreeMap<RunId, Head>) -> Option<String> {
    let Some((run, generation)) = driven_by(name) else {
        return Some("its name is no run's".to_owned());
    };
    match heads.get(&run) {
        None => Some("there is no such run".to_owned()),
        Some(head) if head.status.is_terminal() => Some("its run is over".to_owned()),
        Some(head) if head.generation != generation => Some(format!(
            "its run is driven by generation {}",
            head.generation
        )),
        Some(_) => None,
    }
}
