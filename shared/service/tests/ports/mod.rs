//! Ports in memory, each with the one thing that a test does to it, and the services over them.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use towpath_api_types::StartRun;
use towpath_clock::Clock;
use towpath_engine::{Artifact, JobId, Next, RunId, Timestamp};
use towpath_jobs::{
    JobRequest, JobSnapshot, JobStatus, LogPage, LogPosition, Registry, Runtime, StartError,
    Started, Unreadable,
};
use towpath_machine::{Error as MachineError, Machine, Sent};
use towpath_service::{App, Caller, Entry, News, NoSockets, Ports, Random, Vault};
use towpath_store::{DUE_SHARDS, MemoryObjects, Store};
use towpath_table::{Change, Error, Found, Item, Key, MemoryTable, Search, Table, Write};

/// The token of the n-th try of an entry.
pub(crate) fn token(retry: u32) -> String {
    format!("token {retry}")
}

/// 2026-01-01T00:00:00Z.
const BEGINNING: u64 = 1_767_225_600_000;

/// The services over ports in memory.
pub(crate) struct Bench {
    pub(crate) app: App,
    pub(crate) caller: Caller,
    pub(crate) machine: Arc<Answers>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) runs: Arc<BusyTable>,
    clock: Clock,
}

impl Bench {
    /// A workspace with a block and a pipeline of one job.
    pub(crate) async fn new() -> Self {
        let (machine, jobs, runs) = <(Arc<Answers>, Arc<Jobs>, Arc<BusyTable>)>::default();
        let clock = Clock::manual(BEGINNING);
        let runtime: Arc<dyn Runtime> = jobs.clone();
        let app = App::new(Ports {
            store: Store::new(
                runs.clone(),
                Arc::new(MemoryTable::default()),
                Arc::new(MemoryObjects::default()),
            ),
            machine: machine.clone(),
            runtimes: Registry::new([runtime]),
            clock: clock.clone(),
            random: Random::seeded(1),
            vault: Vault::of_text("key"),
            news: News::Nowhere,
            sockets: Arc::new(NoSockets),
        });
        let caller = Caller {
            workspace: "ws".parse().unwrap(),
            name: "somebody".to_owned(),
        };
        let work = json!({ "kind": "process", "command": ["work"] });
        let pipeline = json!({ "id": "p", "steps": [{ "agentKind": "coder", "runtime": work }] });
        let pipeline = serde_json::from_value(pipeline).unwrap();
        let put = app.store.put_pipeline(&caller.workspace, &pipeline).await;
        put.unwrap();
        let block = json!({ "id": "b", "workspace": "ws", "title": "b" });
        let block = serde_json::from_value(block).unwrap();
        app.store.put_block(&block).await.unwrap();
        Self {
            app,
            caller,
            machine,
            jobs,
            runs,
            clock,
        }
    }

    /// Starts a run.
    pub(crate) async fn start(&self) -> RunId {
        let ask = json!({ "blockId": "b", "pipelineId": "p" });
        let ask: StartRun = serde_json::from_value(ask).unwrap();
        let started = self.app.runs.start(&self.caller, &ask, None).await;
        started.unwrap()
    }

    /// The first entry of the run's first execution, tried again `retry` times with a token of its own each time.
    pub(crate) fn entry(&self, run: &RunId, retry: u32) -> Entry {
        Entry {
            run: run.clone(),
            generation: 1,
            form: 2,
            token: token(retry).into(),
            entered: Timestamp(BEGINNING),
            retry,
        }
    }

    /// Lets time pass, and everything be looked at that is due by then.
    pub(crate) async fn ticks(&self, time: Duration) {
        self.clock.advance(time);
        let shards: Vec<u16> = (0..DUE_SHARDS).collect();
        self.app.ticker.tick(&shards).await.unwrap();
    }
}

/// A machine that notes the answers.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<Vec<(String, Next)>>);

impl Answers {
    /// The tokens that were answered.
    pub(crate) fn answered(&self) -> Vec<(String, Next)> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl Machine for Answers {
    async fn answer(&self, token: &str, _form: u8, next: Next) -> Result<Sent, MachineError> {
        self.0.lock().unwrap().push((token.to_owned(), next));
        Ok(Sent::Taken)
    }

    async fn is_live(&self, _token: &str) -> Result<bool, MachineError> {
        Ok(true)
    }

    async fn start(&self, _run: &RunId, _generation: u32) -> Result<(), MachineError> {
        Ok(())
    }

    async fn end_of(&self, _run: &RunId, _generation: u32) -> Result<Option<String>, MachineError> {
        Ok(None)
    }
}

type Meanwhile = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Jobs that run until a test ends them.
#[derive(Default)]
pub(crate) struct Jobs {
    started: Mutex<Vec<JobId>>,
    end: Mutex<Option<JobSnapshot>>,
    meanwhile: Mutex<Option<Meanwhile>>,
    /// Whether asking for the end of a job never returns.
    pub(crate) hangs: AtomicBool,
}

impl Jobs {
    /// The jobs that were started.
    pub(crate) fn started(&self) -> Vec<JobId> {
        self.started.lock().unwrap().clone()
    }

    /// Ends every job like this.
    pub(crate) fn ends(&self, end: JobSnapshot) {
        *self.end.lock().unwrap() = Some(end);
    }

    /// Does this during the next look at a job: after the look has been taken, before it is answered.
    pub(crate) fn at_next_look(&self, meanwhile: Meanwhile) {
        *self.meanwhile.lock().unwrap() = Some(meanwhile);
    }
}

#[async_trait]
impl Runtime for Jobs {
    fn kind(&self) -> &'static str {
        "process"
    }

    async fn start(&self, request: &JobRequest) -> Result<Started, StartError> {
        self.started.lock().unwrap().push(request.job.clone());
        Ok(Started::Accepted)
    }

    async fn status(&self, job: &JobId) -> Result<Option<JobSnapshot>, Unreadable> {
        let known = self.started().contains(job);
        let running = known.then(|| JobSnapshot::of(JobStatus::Running));
        let seen = self.end.lock().unwrap().clone().or(running);
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
        Ok(seen)
    }

    async fn stop(&self, _job: &JobId, _grace: Duration) -> Result<(), Unreadable> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.ends(JobSnapshot::of(JobStatus::Failed));
        Ok(())
    }

    /// Its jobs ask nothing while they are under way.
    async fn answer(&self, _: &JobId, _: &str, _: &str) -> Result<(), Unreadable> {
        Ok(())
    }

    async fn tail_logs(&self, _: &JobId, _: usize) -> Result<Option<String>, Unreadable> {
        Ok(None)
    }

    async fn read_log(&self, _: &JobId, _: LogPosition) -> Result<Option<LogPage>, Unreadable> {
        Ok(None)
    }

    async fn read_artifact(&self, _: &Artifact) -> Result<Option<Vec<u8>>, Unreadable> {
        Ok(None)
    }
}

/// A table whose heads can be held by transactions of others.
#[derive(Debug, Default)]
pub(crate) struct BusyTable {
    inner: MemoryTable,
    /// Whether every single write of a head meets somebody's transaction.
    pub(crate) busy: AtomicBool,
}

#[async_trait]
impl Table for BusyTable {
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, Error> {
        self.inner.get_many(keys).await
    }

    async fn query(&self, pk: &str, prefix: &str) -> Result<Vec<Item>, Error> {
        self.inner.query(pk, prefix).await
    }

    async fn latest(
        &self,
        pk: &str,
        between: (&str, &str),
        limit: i32,
    ) -> Result<Vec<Item>, Error> {
        self.inner.latest(pk, between, limit).await
    }

    async fn earliest(
        &self,
        pk: &str,
        between: (&str, &str),
        limit: i32,
    ) -> Result<Vec<Item>, Error> {
        self.inner.earliest(pk, between, limit).await
    }

    async fn search(&self, search: &Search) -> Result<Found, Error> {
        self.inner.search(search).await
    }

    async fn write(&self, write: Write) -> Result<(), Error> {
        let is_mark = write.key.sk == "NOW#HEAD" && matches!(write.change, Change::Update(_));
        match is_mark && self.busy.load(Ordering::Relaxed) {
            true => Err(Error::Conflict),
            false => self.inner.write(write).await,
        }
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), Error> {
        self.inner.transact(writes).await
    }
}
