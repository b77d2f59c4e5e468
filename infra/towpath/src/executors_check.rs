//! `towpath executors check`: puts an executor that has dialled in through what the contract asks of it.
//!
//! It is given missions of its own, as any caller gives them, and what it tells of them is held against the contract. What
//! a mission's objective has to say so that the executor does the work, waits, or asks a human, only its owner knows.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use towpath_client::Client;
use towpath_executors::{
    DispatchResponse, EventType, ExecutorStatus, MissionState, MissionStatusResponse,
    validate_event_envelope,
};

use crate::remote::Server;
use crate::visible::visible;

/// The options of `towpath executors check`.
#[derive(Args, Clone, Debug)]
pub struct Check {
    /// The address of the deployment that the executor has dialled in to. TOWPATH_SERVER when not given, else that of a
    /// `towpath dev` on its usual port.
    url: Option<String>,
    /// The id of the executor, as `GET /api/v1/executors` lists it.
    #[arg(long, value_name = "UUID")]
    executor: String,
    /// An objective that the executor meets within the patience.
    #[arg(long, value_name = "TEXT", default_value = "Say hello, and be done.")]
    objective: String,
    /// An objective at which the executor works until it is stopped.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "Wait until you are stopped."
    )]
    waits: String,
    /// An objective at which the executor asks a human, and is done with the answer. When not given, that is not checked.
    #[arg(long, value_name = "TEXT")]
    asks: Option<String>,
    /// A command that restarts the executor, given to `sh -c`; `-` to be asked to do it. When not given, a restart is not
    /// checked.
    #[arg(long, value_name = "COMMAND")]
    restart: Option<String>,
    /// The seconds in which whatever is waited for must come.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience: u64,
    #[command(flatten)]
    server: Server,
}

/// The time between two looks at a mission.
const GLANCE: Duration = Duration::from_millis(250);
/// The exit code of wrong use.
const USAGE: u8 = 2;

/// Runs the command.
pub async fn check(options: Check) -> ExitCode {
    let client = match options.server.clone().at(options.url.as_deref()).client() {
        Ok(client) => client,
        Err(message) => {
            eprintln!("towpath: {message}");
            return ExitCode::from(USAGE);
        }
    };
    let mut checks = Checks {
        options,
        client,
        failed: 0,
    };
    checks.all().await;
    match checks.failed {
        0 => ExitCode::SUCCESS,
        failed => {
            let s = if failed == 1 { "" } else { "s" };
            print(&format!("{failed} check{s} failed"));
            ExitCode::FAILURE
        }
    }
}

struct Checks {
    options: Check,
    client: Client,
    failed: usize,
}

/// A mission as it is shown.
struct Seen(MissionStatusResponse);

impl Seen {
    fn is(&self, state: MissionState) -> bool {
        self.0.state == state
    }

    fn is_over(&self) -> bool {
        self.0.state.is_terminal()
    }

    fn count(&self, event: EventType) -> usize {
        let events = self.0.recent_events.iter();
        events.filter(|it| it.event == event).count()
    }

    /// The state of the mission, and why it is over, for people.
    fn why(&self) -> String {
        let error = self.0.error.as_deref().unwrap_or("it says no more");
        format!("it is {}: {error}", self.0.state)
    }
}

/// Prints a line to standard output. A closed output is no error.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

impl Checks {
    async fn all(&mut self) {
        let heard = self.heard().await;
        if !self.say("core: it is registered and heard of", heard) {
            return;
        }
        let core = self.core().await;
        self.say("core: it carries a mission out, and tells of it", core);
        let aborts = self.aborts().await;
        self.say("core: it ends a mission when it is told to", aborts);
        match self.options.asks.clone() {
            Some(asks) => {
                let asked = self.asks(&asks).await;
                self.say("hitl: it asks a human, and goes on with the answer", asked);
            }
            None => print("skip  hitl: say an objective at which it asks a human, with --asks"),
        }
        match self.options.restart.clone() {
            Some(command) => {
                let resumed = self.resumes(&command).await;
                self.say(
                    "resumable: it goes on with its mission after a restart",
                    resumed,
                );
            }
            None => print("skip  resumable: say how it is restarted, with --restart"),
        }
    }

    fn say(&mut self, what: &str, result: Result<(), String>) -> bool {
        match result {
            Ok(()) => print(&format!("ok    {what}")),
            Err(why) => {
                self.failed += 1;
                print(&format!("FAIL  {what}: {}", visible(&why)));
                return false;
            }
        }
        true
    }

    async fn heard(&self) -> Result<(), String> {
        let path = format!("/api/v1/executors/{}", self.options.executor);
        let shown: ExecutorStatus = self.client.get(&path).await.map_err(|it| it.to_string())?;
        match shown.connected {
            true => Ok(()),
            false => Err("nothing has been heard of it for 90 s".to_owned()),
        }
    }

    /// Gives the executor a mission, and returns its id.
    async fn dispatch(&self, objective: &str) -> Result<String, String> {
        let id = format!("check-{}", ulid::Ulid::new());
        let body = json!({
            "mission_id": id,
            "objective": objective,
            "completion": "The objective is met.",
            "executor_filter": { "executor_id": self.options.executor },
        });
        let path = "/api/v1/sessions/check/dispatch";
        for _ in 0..2 {
            let answer: DispatchResponse = self
                .client
                .post(path, &body)
                .await
                .map_err(|error| format!("the mission was not taken: {error}"))?;
            if answer.executor_id.as_str() != self.options.executor {
                return Err(format!("the mission went to {}", answer.executor_id));
            }
        }
        Ok(id)
    }

    /// Waits until a mission is as it should be, or says what it waited for.
    async fn until(
        &self,
        id: &str,
        what: &str,
        holds: impl Fn(&Seen) -> bool,
    ) -> Result<Seen, String> {
        let patience = Duration::from_secs(self.options.patience);
        let began = Instant::now();
        loop {
            let path = format!("/api/v1/missions/{id}");
            let seen = self.client.get(&path).await;
            let seen = Seen(seen.map_err(|error| error.to_string())?);
            if holds(&seen) {
                return Ok(seen);
            }
            if seen.is_over() {
                return Err(format!("{what} was waited for: {}", seen.why()));
            }
            if began.elapsed() >= patience {
                let state = seen.0.state;
                return Err(format!(
                    "{what} was waited for {} s, and it is {state}",
                    patience.as_secs()
                ));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    async fn core(&self) -> Result<(), String> {
        let id = self.dispatch(&self.options.objective).await?;
        let seen = self.until(&id, "mission.completed", Seen::is_over).await?;
        if !seen.is(MissionState::Done) {
            return Err(seen.why());
        }
        // What comes late or twice is to change nothing.
        tokio::time::sleep(GLANCE).await;
        let seen = self.until(&id, "its end", Seen::is_over).await?;
        for event in &seen.0.recent_events {
            let told = serde_json::to_value(event).unwrap_or_default();
            let validity = validate_event_envelope(&told);
            if !validity.valid {
                let (event, errors) = (event.event.as_str(), validity.errors);
                return Err(format!("{event} is not as the contract has it: {errors:?}"));
            }
        }
        for event in [
            EventType::MissionAssigned,
            EventType::MissionStarted,
            EventType::MissionProgress,
        ] {
            if seen.count(event) == 0 {
                return Err(format!("it told no {}", event.as_str()));
            }
        }
        match seen.count(EventType::MissionCompleted) {
            1 => Ok(()),
            times => Err(format!("it told mission.completed {times} times")),
        }
    }

    /// Gives the executor a mission at which it works until it is stopped.
    async fn at_work(&self) -> Result<String, String> {
        let id = self.dispatch(&self.options.waits).await?;
        let running = |seen: &Seen| seen.is(MissionState::Running);
        self.until(&id, "mission.started", running).await?;
        Ok(id)
    }

    async fn abort(&self, id: &str) -> Result<(), String> {
        let path = format!("/api/v1/missions/{id}/abort");
        let asked: Result<Value, _> = self.client.post(&path, &json!({})).await;
        asked.map_err(|error| error.to_string())?;
        let seen = self.until(id, "mission.aborted", Seen::is_over).await?;
        match seen.is(MissionState::Aborted) {
            true => Ok(()),
            false => Err(seen.why()),
        }
    }

    async fn aborts(&self) -> Result<(), String> {
        let id = self.at_work().await?;
        self.abort(&id).await
    }

    async fn asks(&self, objective: &str) -> Result<(), String> {
        let id = self.dispatch(objective).await?;
        let asked = |seen: &Seen| seen.is(MissionState::HitlRequired);
        let seen = self.until(&id, "mission.hitl_required", asked).await?;
        let mut told = seen.0.recent_events.iter();
        let asked = told.rfind(|it| it.event == EventType::MissionHitlRequired);
        let data = asked.and_then(|it| it.data.as_ref());
        let hitl = data.and_then(|data| data.get("hitl_id")?.as_str());
        let hitl = hitl.ok_or("its question has no hitl_id")?;
        let path = format!("/api/v1/missions/{id}/hitl_response");
        let said = json!({ "hitl_id": hitl, "response": "yes" });
        let told: Result<Value, _> = self.client.post(&path, &said).await;
        told.map_err(|error| error.to_string())?;
        let seen = self
            .until(&id, "its end after the answer", Seen::is_over)
            .await?;
        match seen.is(MissionState::Done) {
            true => Ok(()),
            false => Err(seen.why()),
        }
    }

    async fn resumes(&self, command: &str) -> Result<(), String> {
        let id = self.at_work().await?;
        restart(command).await?;
        let back = |seen: &Seen| {
            seen.count(EventType::MissionReconnected) > 0 && seen.is(MissionState::Running)
        };
        self.until(&id, "mission.reconnected", back).await?;
        self.abort(&id).await
    }
}

async fn restart(command: &str) -> Result<(), String> {
    if command == "-" {
        print("      restart the executor now, then press Enter");
        let line = tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().next());
        let _ = line.await;
        return Ok(());
    }
    let mut shell = tokio::process::Command::new("sh");
    let status = shell.args(["-c", command]).status().await;
    let status = status.map_err(|error| format!("{command}: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{command}: {status}")),
    }
}
