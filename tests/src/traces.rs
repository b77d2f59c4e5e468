//! What a world leaves behind: executions that still run, processes that still live.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use towpath_aws::{Clients, Settings};
use towpath_engine::{JobId, RunId};

use crate::World;
use crate::world::PATIENCE;

impl World {
    /// A client of Step Functions that may do everything.
    pub fn machine(&self) -> aws_sdk_sfn::Client {
        let environment = self.standing.cloud.aws_environment("operator");
        let settings = Settings::from_lookup(|name| environment.get(name).cloned()).unwrap();
        Clients::connect(&settings, None).sfn
    }

    /// The ARN of the state machine.
    pub fn machine_arn(&self) -> String {
        self.standing.cloud.output("StateMachineArn").unwrap()
    }

    /// The ARN of the execution of a run's generation.
    pub fn execution_arn(&self, run: &RunId, generation: u32) -> String {
        let machine = self.machine_arn();
        let executions = machine.replacen(":stateMachine:", ":execution:", 1);
        format!("{executions}:{run}-{generation}")
    }

    /// Every execution there ever was: its name, and how it ended or stands.
    pub async fn executions(&self) -> Vec<(String, String)> {
        let list = self.machine().list_executions();
        let list = list.state_machine_arn(self.machine_arn()).max_results(1000);
        let found = list.send().await.unwrap();
        let mut executions: Vec<_> = found
            .executions()
            .iter()
            .map(|item| (item.name().to_owned(), item.status().to_string()))
            .collect();
        executions.sort();
        executions
    }

    /// How the executions of a run ended or stand, in order of their generations.
    pub async fn drivers(&self, run: &RunId) -> Vec<String> {
        let all = self.executions().await;
        let own = all
            .into_iter()
            .filter(|(name, _)| name.starts_with(run.as_str()));
        own.map(|(_, status)| status).collect()
    }

    /// Ends a run's execution from outside, as an operator might.
    pub async fn abort(&self, run: &RunId, generation: u32) {
        let stop = self.machine().stop_execution();
        let stop = stop.execution_arn(self.execution_arn(run, generation));
        stop.send().await.unwrap();
    }

    /// What a job's supervisor has written down about it: `state.json` in its folder.
    pub fn job_record(&self, job: &JobId) -> Option<Value> {
        record(&self.standing.jobs.join(job.as_str()))
    }

    /// The process that supervises a job.
    pub fn supervisor(&self, job: &JobId) -> Option<u64> {
        self.job_record(job)?.get("supervisor")?.as_u64()
    }

    /// Every process that works for any job, or supervises one.
    pub fn processes(&self) -> Vec<String> {
        let folders = fs::read_dir(&self.standing.jobs).into_iter().flatten();
        let mut left = Vec::new();
        for folder in folders.flatten() {
            let Some(record) = record(&folder.path()) else {
                continue;
            };
            let name = folder.file_name().to_string_lossy().into_owned();
            let supervisor = record["supervisor"].as_i64();
            let group = record["group"]["pgid"].as_i64();
            let own = |process: &Process| {
                Some(process.pid) == supervisor && process.supervises(&name)
                    || Some(process.group) == group
            };
            let living = living().into_iter().filter(own);
            left.extend(living.map(|process| format!("{name}: {}", process.pid)));
        }
        left
    }

    /// Waits, while time goes by, until nothing is left at work: no execution runs and no process of a job lives.
    ///
    /// # Panics
    /// If something stays.
    pub async fn quiet(&self) {
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            let mut left = self.processes();
            let executions = self.executions().await;
            let running = executions
                .into_iter()
                .filter(|(_, status)| status == "RUNNING");
            left.extend(running.map(|(name, _)| name));
            if left.is_empty() {
                return;
            }
            assert!(
                tokio::time::Instant::now() < patience,
                "left behind: {left:#?}"
            );
            self.pass(Duration::from_secs(1)).await;
        }
    }
}

fn record(folder: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(folder.join("state.json")).ok()?).ok()
}

/// A living process.
struct Process {
    pid: i64,
    group: i64,
}

impl Process {
    /// A number may be used again: a supervisor is told by what it was started for.
    fn supervises(&self, job: &str) -> bool {
        fs::read(format!("/proc/{}/cmdline", self.pid))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(job))
    }
}

/// Every process that is not a corpse.
fn living() -> Vec<Process> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i64| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name, in parentheses, may hold anything.
        let mut fields = stat.rsplit_once(") ")?.1.split_whitespace();
        let (state, _parent, group) = (fields.next()?, fields.next()?, fields.next()?);
        let group = group.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Process { pid, group })
    })
    .collect()
}

/// Starts a job that no run has sent.
///
/// # Panics
/// If it cannot be started.
pub async fn start_by_hand(world: &World, job: &JobId, command: &[&str]) {
    let work = towpath_jobs::CommandWork {
        command: command.iter().map(ToString::to_string).collect(),
        env: std::collections::BTreeMap::new(),
        secrets: Vec::new(),
        checkout: None,
        events: None,
        image: None,
        resources: None,
        executor: None,
    };
    let request = towpath_jobs::JobRequest {
        job: job.clone(),
        workspace: "local".parse().unwrap(),
        work: towpath_jobs::Work::Command(work),
        step: towpath_engine::StepIndex(0),
        attempt: 1,
        context: Value::Null,
        inputs: Vec::new(),
        artifacts: Vec::new(),
        max_run: std::time::Duration::from_secs(3600),
        grace: std::time::Duration::from_secs(1),
    };
    towpath_jobs::Runtime::start(&world.standing.process, &request)
        .await
        .unwrap();
}
