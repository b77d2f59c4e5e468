//! The judge: whatever a world went through, nothing may be left behind.

use std::collections::BTreeMap;
use std::time::Duration;

use towpath_aws::{Clients, Settings};
use towpath_engine::{Block, BlockId, BlockStatus, Head, Level, RunId, Status};

use crate::World;
use crate::world::PATIENCE;

impl World {
    /// Judges the world at the end of a test, once all its runs are over or wait for a human. Lets time go by until
    /// all is quiet, then holds the records against each other.
    ///
    /// # Panics
    /// If anything is left behind:
    ///
    /// - an execution that drives a run which is over, a run without the one execution that drives it, or a process of
    ///   a job whose run is over;
    /// - a delivery, a look or a job to be stopped that is still due for a run which is over;
    /// - a lock on a block without a live run, or a live run without the lock of its block;
    /// - a block whose status is not what its latest run made of it.
    pub async fn judge(&self) {
        self.cleared().await;
        // What is over stays as it is, however often somebody looks.
        let before = self.heads().await;
        for _ in 0..3 {
            self.pass(Duration::from_secs(600)).await;
        }
        let after = self.heads().await;
        for (run, head) in before.iter().filter(|(_, head)| head.status.is_terminal()) {
            assert_eq!(after.get(run), Some(head), "a run changed after its end");
        }
        // A supervisor that comes late finds that its job is not wanted any more, and goes by itself.
        self.cleared().await;
    }

    /// Lets time go by until nothing is left behind.
    async fn cleared(&self) {
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            let left = self.left_behind().await;
            if left.is_empty() {
                return;
            }
            assert!(
                tokio::time::Instant::now() < patience,
                "left behind: {left:#?}"
            );
            self.pass(Duration::from_secs(20)).await;
        }
    }

    /// Every run there is.
    async fn heads(&self) -> BTreeMap<RunId, Head> {
        let (store, workspace) = self.records();
        let (mut heads, mut after) = (BTreeMap::new(), None);
        loop {
            let page = store.runs(workspace, after.as_deref()).await.unwrap();
            heads.extend(page.items.into_iter().map(|head| (head.id.clone(), head)));
            after = page.next;
            if after.is_none() {
                return heads;
            }
        }
    }

    fn records(&self) -> (&towpath_store::Store, &towpath_engine::WorkspaceId) {
        let standing = &self.standing;
        (&standing.operator.store, &standing.caller.workspace)
    }

    async fn left_behind(&self) -> Vec<String> {
        let heads = self.heads().await;
        let mut left = Vec::new();
        let live = |head: &&Head| !head.status.is_terminal();
        let ended = |name: &str| {
            let run = heads
                .keys()
                .find(|run| name.contains(run.as_str().trim_start_matches("run_")));
            run.is_none_or(|run| heads[run].status.is_terminal())
        };
        for process in self.processes() {
            if ended(&process) {
                left.push(format!("a process of {process}"));
            }
        }
        let mut drivers: BTreeMap<RunId, Vec<String>> = BTreeMap::new();
        for (name, status) in self.executions().await {
            if status == "RUNNING" {
                let (run, _) = name.rsplit_once('-').unwrap();
                drivers.entry(run.parse().unwrap()).or_default().push(name);
            }
        }
        for head in heads.values() {
            let named = format!("{}-{}", head.id, head.generation);
            let wanted = if live(&head) { vec![named] } else { Vec::new() };
            let found = drivers.remove(&head.id).unwrap_or_default();
            if found != wanted {
                left.push(format!(
                    "{} is {:?}, its drivers: {found:?}",
                    head.id, head.status
                ));
            }
        }
        left.extend(
            drivers
                .into_keys()
                .map(|run| format!("a driver of {run}, which is not")),
        );
        left.extend(self.due_for(ended).await);
        left.extend(self.doctor().await);
        left.extend(self.blocks_amiss(&heads).await);
        left
    }

    /// The findings of the doctor, with an operator's view.
    pub async fn doctor(&self) -> Vec<String> {
        let standing = &self.standing;
        let (app, process) = (&standing.operator, Some(&standing.process));
        let jobs = towpath::doctor::seen(app, process, Some(&standing.jobs)).await;
        let jobs = jobs.unwrap();
        let found = standing.doctor.examine(&jobs).await.unwrap();
        found.iter().map(ToString::to_string).collect()
    }

    /// Rows that are due for runs that are over, and jobs to be stopped of any run.
    async fn due_for(&self, ended: impl Fn(&str) -> bool) -> Vec<String> {
        let environment = self.standing.cloud.aws_environment("operator");
        let settings = Settings::from_lookup(|name| environment.get(name).cloned()).unwrap();
        let tables = Clients::connect(&settings, None).dynamodb;
        let runs = self.standing.cloud.output("RunsTable").unwrap();
        let (mut left, mut from) = (Vec::new(), None);
        loop {
            let page = tables
                .scan()
                .table_name(&runs)
                .set_exclusive_start_key(from);
            let page = page.consistent_read(true).send().await.unwrap();
            for item in page.items() {
                let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok()).cloned();
                let (pk, sk) = (text("pk").unwrap(), text("sk").unwrap());
                let delivered = !item.contains_key("wake") && !item.contains_key("driveAt");
                if sk.starts_with("REAP#")
                    || item.contains_key("dueAt") && ended(&pk)
                    || sk == "NOW#WAIT" && !delivered
                {
                    left.push(format!("{pk} {sk}: {item:?}"));
                }
            }
            from = page.last_evaluated_key().cloned();
            if from.is_none() {
                return left;
            }
        }
    }

    async fn blocks_amiss(&self, heads: &BTreeMap<RunId, Head>) -> Vec<String> {
        let (store, workspace) = self.records();
        let mut runs: BTreeMap<&BlockId, Vec<&Head>> = BTreeMap::new();
        for head in heads.values() {
            runs.entry(&head.block).or_default().push(head);
        }
        let mut amiss = Vec::new();
        for (block, runs) in runs {
            let live: Vec<_> = runs
                .iter()
                .filter(|head| !head.status.is_terminal())
                .collect();
            let live: Vec<_> = live.into_iter().map(|head| head.id.clone()).collect();
            let lock = store.live_run(workspace, block).await.unwrap();
            if lock.iter().ne(live.iter()) {
                amiss.push(format!("{block}: live {live:?}, lock {lock:?}"));
            }
            let found: Block = store.block(workspace, block).await.unwrap().unwrap();
            let latest = found.run_id.as_ref().and_then(|run| heads.get(run));
            let wanted = latest.map(|head| match (head.status, found.level) {
                (Status::Failed, _) => BlockStatus::Blocked,
                (Status::Done, Level::Task) => BlockStatus::PrReady,
                (Status::Done, _) => BlockStatus::Done,
                (Status::Running | Status::Blocked | Status::Paused, _) => BlockStatus::InProgress,
            });
            if wanted != Some(found.status) {
                amiss.push(format!("{block} is {:?}, its run {latest:?}", found.status));
            }
        }
        amiss
    }
}
