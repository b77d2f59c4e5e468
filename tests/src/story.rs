//! Stories: a pipeline, what humans do while it runs, and how it all ends.
//!
//! A story is told again and again under every kind of trouble; how it [`End`]s must be the same each time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use towpath_api_types::{OutputText, RunView, StepView};
use towpath_engine::{ApprovalStatus, BlockStatus, FailureKind, RunId, Status, StepState};
use towpath_service::App;

use crate::{World, Worlds};

/// A pipeline and what humans do while it runs.
#[derive(Clone, Debug)]
pub struct Story {
    /// The pipeline, whose id is also the block's. Its jobs find the story's directory at `@DIR@`, and write what they
    /// do to `@DIR@/log`.
    pub yaml: &'static str,
    /// What humans do, one after the other, each as soon as there is occasion to.
    pub acts: &'static [Act],
    /// How many waits an execution begins before the next takes over, where it matters.
    pub entries_limit: Option<&'static str>,
}

/// An act of a human.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Approves what is asked.
    Approve,
    /// Sends back what is asked.
    RequestChanges,
    /// Rejects what is asked.
    Reject,
    /// Chooses.
    Decide(&'static str),
    /// Stops the run while a job works for it.
    Stop,
    /// Retries the run once it has failed.
    Retry,
    /// Restarts the run from a step, once it asks something.
    Restart(u16),
}

/// How a story ended. Two tellings of one story that end alike are equal: nothing in it is of one telling alone.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    runs: Vec<RunEnd>,
    block: BlockStatus,
    log: String,
}

#[derive(Clone, Debug, PartialEq)]
struct RunEnd {
    status: Status,
    failure: Option<(FailureKind, String)>,
    steps: Vec<StepEnd>,
    audit: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct StepEnd {
    kind: String,
    state: StepState,
    attempt: u32,
    output: Option<String>,
    chosen: Vec<Option<String>>,
    approval: Option<ApprovalStatus>,
    helped: Option<u32>,
    evictions: (u32, u32),
}

/// How long a story may take in real time before it is said to hang. No test measures anything by it.
const PATIENCE: Duration = Duration::from_secs(60);

impl Story {
    /// The name of the story, which is its pipeline's id.
    pub fn name(&self) -> String {
        crate::pipeline(self.yaml).id.to_string()
    }

    /// The world the story is told in.
    pub fn world(&self, worlds: Worlds) -> Worlds {
        match self.entries_limit {
            Some(limit) => worlds.with("TOWPATH_ENTRIES_LIMIT", limit),
            None => worlds,
        }
    }

    /// Puts what the story is about.
    pub async fn prepare(&self, world: &World, dir: &Path) -> Telling {
        let pipeline = crate::pipeline(&self.yaml.replace("@DIR@", dir.to_str().unwrap()));
        let name = pipeline.id.to_string();
        let telling = Telling {
            name: name.clone(),
            runs: Vec::new(),
            dir: dir.to_owned(),
        };
        let put = serde_json::to_value(&pipeline).unwrap();
        world
            .insist(Method::PUT, &format!("/pipelines/{name}"), &put, "")
            .await;
        let block = json!({ "title": name });
        world
            .insist(Method::PUT, &format!("/blocks/{name}"), &block, "")
            .await;
        telling
    }

    /// Tells the story to its end.
    pub async fn tell(&self, world: &World, telling: &mut Telling) -> End {
        let name = &telling.name;
        let start = json!({ "blockId": name, "pipelineId": name });
        let mut run = created(&world.insist(Method::POST, "/runs", &start, "start").await);
        telling.runs.push(run.clone());
        for act in self.acts {
            if let Some(next) = act.perform(world, &run).await {
                telling.runs.push(next.clone());
                run = next;
            }
        }
        until(world, &run, |view| view.summary.status.is_terminal()).await;
        telling.end(world).await
    }
}

/// One telling of a story.
pub struct Telling {
    name: String,
    /// Its runs so far: the first, and those that retries and restarts made.
    pub runs: Vec<RunId>,
    dir: PathBuf,
}

impl Telling {
    /// The end of the story's run, as far as it has come.
    pub async fn end(&self, world: &World) -> End {
        let mut runs = Vec::new();
        for run in &self.runs {
            runs.push(self.run_end(world, run).await);
        }
        let workspace = &world.standing.caller.workspace;
        let store = &world.standing.operator.store;
        let block = store.block(workspace, &self.name.parse().unwrap()).await;
        End {
            runs,
            block: block.unwrap().unwrap().status,
            log: std::fs::read_to_string(self.dir.join("log")).unwrap_or_default(),
        }
    }

    async fn run_end(&self, world: &World, run: &RunId) -> RunEnd {
        let view = world.view(run).await;
        let mut steps = Vec::new();
        for step in &view.steps {
            steps.push(step_end(world, run, step).await);
        }
        let mut audit: Vec<_> = (view.audit.iter())
            .map(|said| {
                self.anonymous(&format!(
                    "{:?} {} {:?}",
                    said.action, said.subject, said.reason
                ))
            })
            .collect();
        audit.sort();
        let failure = view.summary.failure.as_ref();
        RunEnd {
            status: view.summary.status,
            failure: failure.map(|failure| (failure.kind, self.anonymous(&failure.message))),
            steps,
            audit,
        }
    }

    /// The text without the ids of this telling's runs.
    fn anonymous(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (number, run) in self.runs.iter().enumerate() {
            let ulid = run.as_str().trim_start_matches("run_");
            text = text.replace(ulid, &format!("#{number}"));
        }
        text
    }
}

async fn step_end(world: &World, run: &RunId, step: &StepView) -> StepEnd {
    let (caller, operator): (_, &App) = (&world.standing.caller, &world.standing.operator);
    let output = match &step.output {
        Some(_) => operator
            .views
            .output(caller, run, step.index, None)
            .await
            .ok(),
        None => None,
    };
    let output = output.map(|output| match output {
        OutputText::Here { text } => text,
        OutputText::Elsewhere { sha256, .. } => sha256,
    });
    StepEnd {
        kind: step.agent_kind.to_string(),
        state: step.state,
        attempt: step.attempt,
        output,
        chosen: step
            .decisions
            .iter()
            .map(|decision| decision.chosen.clone())
            .collect(),
        approval: step.approval.as_ref().map(|approval| approval.status),
        helped: step.gate.as_ref().map(|gate| gate.attempts),
        evictions: (step.evictions.crashes, step.evictions.transient),
    }
}

impl Act {
    /// Waits for the occasion and does it. Returns the run that it made, if it made one.
    async fn perform(self, world: &World, run: &RunId) -> Option<RunId> {
        let over = |view: &RunView| view.summary.status.is_terminal();
        let asks = |view: &RunView| {
            assert!(!over(view), "the run ended before it asked: {view:#?}");
            subject(view).is_some()
        };
        let path = |what: String| format!("/runs/{run}/{what}");
        let (path, body) = match self {
            Self::Approve | Self::RequestChanges | Self::Reject => {
                let subject = subject(&until(world, run, asks).await).unwrap();
                let (verb, body) = match self {
                    Self::Approve => ("approve", json!({})),
                    Self::Reject => ("reject", json!({ "reason": "no" })),
                    _ => ("request-changes", json!({ "feedback": "more" })),
                };
                (path(format!("approvals/{subject}/{verb}")), body)
            }
            Self::Decide(choice) => {
                let subject = subject(&until(world, run, asks).await).unwrap();
                (
                    path(format!("decisions/{subject}")),
                    json!({ "choice": choice }),
                )
            }
            Self::Stop => {
                until(world, run, |view| {
                    assert!(
                        !over(view),
                        "the run ended before it could be stopped: {view:#?}"
                    );
                    view.steps.iter().any(|step| step.job_id.is_some())
                })
                .await;
                (path("stop".to_owned()), json!({ "reason": "enough" }))
            }
            Self::Retry => {
                until(world, run, over).await;
                (path("retry".to_owned()), json!({}))
            }
            Self::Restart(step) => {
                until(world, run, asks).await;
                (path("restart".to_owned()), json!({ "fromStep": step }))
            }
        };
        let answer = world
            .insist(Method::POST, &path, &body, &format!("{run}-again"))
            .await;
        matches!(self, Self::Retry | Self::Restart(_)).then(|| created(&answer))
    }
}

/// The subject that the run asks a human about.
fn subject(view: &RunView) -> Option<String> {
    let waits = view.summary.waits_for.as_ref()?;
    (waits.reason == "human").then(|| waits.subject.clone())?
}

fn created(answer: &Value) -> RunId {
    answer["id"].as_str().unwrap().parse().unwrap()
}

impl World {
    /// Asks again and again, as a client does that gets no answer, until there is one. `name` is the request's
    /// `Idempotency-Key`, where it must not be done twice.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn insist(&self, method: Method, path: &str, body: &Value, name: &str) -> Value {
        let headers = [("idempotency-key", name)];
        let headers = if name.is_empty() {
            &[][..]
        } else {
            &headers[..]
        };
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            let body = body.to_string().into();
            let answer = crate::ask(&self.client, method.clone(), path, headers, body).await;
            let later =
                answer.status >= 500 || answer.status == 429 || answer.body["code"] == "busy";
            if !later {
                return answer.done();
            }
            assert!(
                tokio::time::Instant::now() < patience,
                "{path} hangs: {answer:?}"
            );
            self.pass(Duration::from_secs(1)).await;
        }
    }
}

/// Waits, while time goes by, until the run is as `seen` wants it.
async fn until(world: &World, run: &RunId, seen: impl Fn(&RunView) -> bool) -> RunView {
    let patience = tokio::time::Instant::now() + PATIENCE;
    // Slowly at first, so that what happens by itself does so before the minute tick looks; then faster and faster.
    for look in 0.. {
        let view = world.view(run).await;
        if seen(&view) {
            return view;
        }
        let wait = world.standing.operator.store.wait(run).await;
        assert!(
            tokio::time::Instant::now() < patience,
            "the run hangs: {view:#?}\n{wait:#?}"
        );
        world
            .pass(Duration::from_millis(20 << (look / 8).min(9)))
            .await;
    }
    unreachable!()
}
