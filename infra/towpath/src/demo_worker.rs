//! The worker of `towpath demo --worker`: this program once more, which dials in and carries out the demo's jobs.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use towpath_engine::{JobId, Pipeline};
use towpath_jobs::Runtime;
use towpath_jobs_process::ProcessRuntime;
use towpath_store::Scope;

use crate::standing::Standing;

/// The capability that the demo's steps ask for.
const CAPABILITY: &str = "x-demo";
/// The time that the worker, and then the command of a job, have to end.
const GRACE: Duration = Duration::from_secs(5);

/// A worker that runs. Dropping it kills it.
pub(crate) struct DemoWorker {
    child: Child,
    folder: TempDir,
}

/// The pipeline with every command that does not say where it runs on executors that have [`CAPABILITY`].
pub(crate) fn on_worker(pipeline: &Pipeline) -> Result<Pipeline, String> {
    let mut said = serde_json::to_value(pipeline).map_err(|error| error.to_string())?;
    place(&mut said);
    serde_json::from_value(said).map_err(|error| error.to_string())
}

fn place(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("kind").and_then(Value::as_str) == Some("command") {
                let place = json!({ "executor": [CAPABILITY] });
                fields.entry("on").or_insert(place);
            }
            fields.values_mut().for_each(place);
        }
        Value::Array(items) => items.iter_mut().for_each(place),
        _ => {}
    }
}

impl DemoWorker {
    /// Starts the worker, with a key that enrols it.
    pub(crate) async fn start(standing: &Standing) -> Result<Self, String> {
        let access = &standing.operator.access;
        let made = access.make_key(
            &standing.caller.workspace,
            "the demo's worker",
            Scope::Enrol,
        );
        let (key, _) = made.await.map_err(|error| error.to_string())?;
        let told = |error: std::io::Error| format!("the worker could not be started: {error}");
        let folder = tempfile::Builder::new()
            .prefix("towpath-worker-")
            .tempdir()
            .map_err(told)?;
        let log = File::create(folder.path().join("log")).map_err(told)?;
        let program = std::env::current_exe().map_err(told)?;
        let mut command = Command::new(program);
        command
            .args([
                "worker",
                "--run-step-commands",
                "--name",
                "demo",
                "--capability",
                CAPABILITY,
            ])
            .args(["--server", standing.cloud.url(), "--dir"])
            .arg(folder.path().join("worker"))
            .env("TOWPATH_ENROLMENT_KEY", key.reveal())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // A Ctrl-C at the terminal is for the demo, which then ends the worker.
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().map_err(told)?;
        Ok(Self { child, folder })
    }

    /// Returns when the worker has ended by itself, with what it said last.
    pub(crate) async fn ended(&mut self) -> String {
        let _ = self.child.wait().await;
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let last = log.lines().last().unwrap_or("it said nothing").to_owned();
        format!("the worker has ended: {last}")
    }

    /// Ends the worker and all that still runs for it.
    pub(crate) async fn end(mut self) {
        if let Some(pid) = self.child.id() {
            let _ = Command::new("kill").arg(pid.to_string()).status().await;
        }
        let _ = tokio::time::timeout(GRACE, self.child.wait()).await;
        let _ = self.child.kill().await;
        if let Ok(program) = std::env::current_exe() {
            let jobs = self.folder.path().join("worker").join("jobs");
            stop_all(&jobs, &ProcessRuntime::new(jobs.clone(), program)).await;
        }
    }
}

/// Stops the commands that go on without their worker.
async fn stop_all(jobs: &Path, runtime: &ProcessRuntime) {
    for entry in std::fs::read_dir(jobs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let job = name.to_str().and_then(|name| name.parse::<JobId>().ok());
        if let Some(job) = job {
            let _ = runtime.stop(&job, GRACE).await;
            let _ = tokio::time::timeout(GRACE * 2, runtime.ended(&job)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{pipeline_file, sample};

    #[test]
    fn every_command_moves_to_the_worker_but_those_that_have_a_place() {
        let moved = on_worker(&sample::pipeline().unwrap()).unwrap();
        let text = serde_json::to_string(&moved).unwrap();
        let count = |what: &str| text.matches(what).count();
        assert!(count(r#""kind":"command""#) >= 4, "{text}");
        assert_eq!(
            count(r#""executor":["x-demo"]"#),
            count(r#""kind":"command""#)
        );
        let yaml = "{ id: a, steps: [{ agentKind: coder, runtime: { kind: command, command: [x], on: process } }] }";
        let placed = pipeline_file::parse(yaml, "it").unwrap();
        assert_eq!(on_worker(&placed).unwrap(), placed);
    }
}
