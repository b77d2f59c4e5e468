//! `towpath demo`: a pipeline on a repository, from start to merged commit, on this machine.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use towpath_api_types::{OutputText, PipelineView, RunView, StartRun};
use towpath_clock::Clock;
use towpath_engine::{
    AgentKind, Block, BlockId, Decision, Pipeline, PipelineId, RunId, Status, StepState,
};
use towpath_jobs::Runtime;

use crate::bill::{Bill, Usage};
use crate::demo_worker::{DemoWorker, on_worker};
use crate::sample::{self, git};
use crate::screen::{Screen, indent};
use crate::standing::{Models, Plan, Standing};
use crate::summary::{Summary, steps};
use crate::visible::visible;
use crate::{ask, pipeline_file, signals};
use towpath_client::{self as client, Client};

/// The options of `towpath demo`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Approve everything, and answer every question with its first option.
    #[arg(long, short)]
    yes: bool,
    /// Print a summary for machines, and nothing else.
    #[arg(long)]
    json: bool,
    /// Work on this git repository instead of a sample. Nothing in it is touched but the branch.
    #[arg(long, value_name = "DIR", requires = "pipeline")]
    repo: Option<PathBuf>,
    /// Run this pipeline instead of the sample's.
    #[arg(long, value_name = "FILE")]
    pipeline: Option<PathBuf>,
    /// Run the jobs as on AWS: in builds of the local cloud's CodeBuild, through `towpath runner`.
    #[arg(long)]
    codebuild: bool,
    /// Run the jobs on a worker: this program once more, which dials in over a socket.
    #[arg(long, conflicts_with = "codebuild")]
    worker: bool,
    /// Let builds fetch this program as their runner, instead of this one.
    #[arg(long, value_name = "FILE", requires = "codebuild", hide = true)]
    runner: Option<PathBuf>,
    /// The branch to work on. `towpath/demo` when not said.
    #[arg(long, value_name = "NAME")]
    branch: Option<String>,
    /// The objective, in one line.
    #[arg(long, default_value = "Greet everybody properly")]
    title: String,
    /// The objective, in full.
    #[arg(long, default_value = "")]
    description: String,
}

/// Exit codes: not done; a bad command line or pipeline. One that was interrupted has the signal's.
const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// Runs the command.
pub async fn demo(options: Options) -> ExitCode {
    let pipeline = match &options.pipeline {
        Some(file) => pipeline_file::read(file),
        None => sample::pipeline(),
    };
    let pipeline = match pipeline {
        Ok(pipeline) if options.worker => on_worker(&pipeline),
        other => other,
    };
    let pipeline = match pipeline {
        Ok(pipeline) => pipeline,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(USAGE);
        }
    };
    match run(&options, pipeline).await {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            eprintln!("towpath: {}", visible(&message));
            ExitCode::from(FAILED)
        }
    }
}

async fn run(options: &Options, pipeline: Pipeline) -> Result<u8, String> {
    if options.json && !options.yes {
        eprintln!("towpath: --json shows no questions; add --yes to approve everything");
        return Ok(USAGE);
    }
    let repository = match &options.repo {
        Some(dir) => match existing(dir) {
            Ok(dir) => dir,
            Err(message) => {
                eprintln!("towpath: {message}");
                return Ok(USAGE);
            }
        },
        None => sample_repository()?,
    };
    let supervisor = std::env::current_exe().map_err(|e| format!("cannot find myself: {e}"))?;
    let plan = Plan {
        data: None,
        port: 0,
        clock: Clock::system(),
        schedules: true,
        environment: Default::default(),
        models: Models::from_env(),
        lambda_url: None,
        supervisor,
        runner: options.runner.clone(),
        commands: match options.codebuild {
            true => "codebuild",
            false => "process",
        },
    };
    let standing = Standing::start(plan).await.map_err(|e| e.to_string())?;
    let client = Client::new(standing.cloud.url(), Some(standing.key.clone()));
    let mut show = Show {
        options,
        repository,
        client,
        screen: Screen::new(options.json),
        standing: &standing,
    };
    let mut worker = match options.worker {
        true => Some(DemoWorker::start(&standing).await?),
        false => None,
    };
    let worker_ended = async {
        match &mut worker {
            Some(worker) => worker.ended().await,
            None => std::future::pending().await,
        }
    };
    let followed = tokio::select! {
        followed = show.follow(pipeline) => followed,
        why = worker_ended => Err(why),
        code = signals::ended() => {
            show.screen.say("Interrupted: stopping its jobs.");
            Ok(code)
        }
    };
    if let Some(worker) = worker {
        worker.end().await;
    }
    standing.stop().await;
    followed
}

/// The user's own repository: what is done to it goes through its branch alone.
fn existing(dir: &Path) -> Result<PathBuf, String> {
    let dir = dir
        .canonicalize()
        .map_err(|e| format!("{}: {e}", dir.display()))?;
    git(&dir, &["rev-parse", "--git-dir"])
        .map_err(|_| format!("{} is not a git repository", dir.display()))?;
    Ok(dir)
}

fn sample_repository() -> Result<PathBuf, String> {
    let made = tempfile::Builder::new()
        .prefix("towpath-demo-")
        .tempdir()
        .map_err(|e| e.to_string())?;
    // It stays: it is what the demo is about, and small.
    let dir = made.keep();
    sample::repository(&dir).map_err(|e| e.to_string())?;
    Ok(dir)
}

struct Show<'a> {
    options: &'a Options,
    repository: PathBuf,
    client: Client,
    screen: Screen,
    standing: &'a Standing,
}

/// How often the run is looked at. Looking on is free: it asks the records, not the functions.
const GLANCE: Duration = Duration::from_millis(60);

impl Show<'_> {
    async fn follow(&mut self, pipeline: Pipeline) -> Result<u8, String> {
        let before = Usage::so_far(self.standing);
        let (block, run) = self.start(&pipeline).await?;
        let mut bill = Bill::new(before);
        self.screen
            .say(&format!("Repository  {}", self.repository.display()));
        let name = if pipeline.name.is_empty() {
            pipeline.id.as_str()
        } else {
            &pipeline.name
        };
        let count = pipeline.enabled().len();
        let steps = if count == 1 { "step" } else { "steps" };
        self.screen
            .say(&format!("Pipeline    {name} ({count} {steps})"));
        self.screen.say(&format!("Run         {run}"));
        let (mut asked, mut base) = (None, None);
        loop {
            let view = self.view(&run).await?;
            bill.note(Usage::so_far(self.standing), &view);
            self.screen.show(&view, self.standing.operator.now());
            if view.summary.status.is_terminal() {
                // The machine's last transition follows the run's last commit.
                tokio::time::sleep(GLANCE * 2).await;
                bill.note(Usage::so_far(self.standing), &view);
                let log = self.log(&view).await;
                return self.end(&block, &view, &bill, log);
            }
            let subject = view
                .summary
                .waits_for
                .as_ref()
                .filter(|_| view.summary.status == Status::Blocked);
            let subject = subject.and_then(|waits| waits.subject.clone());
            if subject.is_some() && subject != asked {
                base = base.or_else(|| git(&self.repository, &["rev-parse", "HEAD"]).ok());
                self.answer(&block, &view, base.as_deref()).await?;
                asked = subject;
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    async fn start(&self, pipeline: &Pipeline) -> Result<(Block, RunId), String> {
        let told = |error: client::Error| error.to_string();
        let id = |text: &str| text.parse::<BlockId>().map_err(|e| e.to_string());
        let put = json!({
            "title": self.options.title,
            "description": self.options.description,
            "repository": { "url": self.repository.display().to_string(), "branch": self.options.branch },
        });
        let block: Block = self.client.put("/blocks/demo", &put).await.map_err(told)?;
        let path = format!("/pipelines/{}", pipeline.id);
        let _: PipelineView = self.client.put(&path, pipeline).await.map_err(told)?;
        let pipeline_id: PipelineId = pipeline.id.clone();
        let ask = StartRun {
            block_id: id("demo")?,
            pipeline_id,
            replace: false,
        };
        let view: RunView = self.client.post("/runs", &ask).await.map_err(told)?;
        Ok((block, view.summary.id))
    }

    async fn view(&self, run: &RunId) -> Result<RunView, String> {
        self.standing
            .operator
            .views
            .run(&self.standing.caller, run)
            .await
            .map_err(|problem| problem.message)
    }

    /// Asks the user at the terminal what an agent wants to know.
    async fn decide(
        &mut self,
        run: &RunId,
        agent: &AgentKind,
        decision: &Decision,
    ) -> Result<(), String> {
        let question = &decision.question;
        self.screen.say(&format!("\n{agent} asks: {question}"));
        let choice = match (self.options.yes, decision.options.first()) {
            (true, Some(first)) => first.clone(),
            (true, None) => "yes".to_owned(),
            (false, _) => self.choose(&decision.options).await?,
        };
        let path = format!("/runs/{run}/decisions/{}", decision.id);
        self.say(&path, &json!({ "choice": choice })).await
    }

    /// Asks for one of these options, by its name or its number, until one is chosen. Without options, any text will do.
    async fn choose(&mut self, options: &[String]) -> Result<String, String> {
        for (number, option) in (1..).zip(options) {
            self.screen.say(&format!("  {number}. {option}"));
        }
        loop {
            let line = self.prompt("Your answer: ").await?;
            let number = line.parse::<usize>().ok();
            let numbered = number.and_then(|number| options.get(number.checked_sub(1)?));
            let named = options
                .iter()
                .find(|option| option.to_lowercase() == line.to_lowercase());
            match named.or(numbered) {
                Some(option) => return Ok(option.clone()),
                None if options.is_empty() && !line.is_empty() => return Ok(line),
                None => self
                    .screen
                    .say("That is none of the options; type its name or number."),
            }
        }
    }

    /// Shows what an agent has made.
    async fn show_output(&mut self, agent: &AgentKind, href: &str) -> Result<(), String> {
        let shown: OutputText = self.client.get(href).await.map_err(|e| e.to_string())?;
        let shown = match shown {
            OutputText::Here { text } => text,
            OutputText::Elsewhere { url, bytes, .. } => {
                let size = bytes / 1024;
                format!("(a text of {size} KB, for the next minutes at {url})")
            }
        };
        let shown = shown.trim();
        if !shown.is_empty() {
            self.screen
                .say(&format!("\n{agent} says:\n{}", indent(shown)));
        }
        Ok(())
    }

    /// Asks the user at the terminal what the run waits for.
    async fn answer(
        &mut self,
        block: &Block,
        view: &RunView,
        base: Option<&str>,
    ) -> Result<(), String> {
        let run = &view.summary.id;
        let step = view
            .steps
            .iter()
            .find(|step| step.state == StepState::WaitingDecision);
        let step = step.ok_or("the run waits for a human, but none of its steps does")?;
        let open = |decision: &&Decision| decision.chosen.is_none();
        if let Some(decision) = step.decisions.iter().find(open) {
            return self.decide(run, &step.agent_kind, decision).await;
        }
        let approval = step
            .approval
            .as_ref()
            .ok_or("the run waits for an answer to nothing")?;
        if let Some(output) = &step.output {
            self.show_output(&step.agent_kind, &output.href).await?;
        }
        self.show_change(block, base);
        let path = |verb: &str| format!("/runs/{run}/approvals/{}/{verb}", approval.id);
        if self.options.yes {
            self.screen.say("Approved (--yes).\n");
            return self.say(&path("approve"), &json!({})).await;
        }
        loop {
            let line = self
                .prompt("Approve this change? [y]es, [n]o, [c]hange something: ")
                .await?;
            match line.to_lowercase().as_str() {
                "y" | "yes" => return self.say(&path("approve"), &json!({})).await,
                "n" | "no" => {
                    let reason = json!({ "reason": "rejected at the terminal" });
                    return self.say(&path("reject"), &reason).await;
                }
                "c" | "change" => {
                    let feedback = self.prompt("What should change? ").await?;
                    if !feedback.is_empty() {
                        let changes = json!({ "feedback": feedback });
                        return self.say(&path("request-changes"), &changes).await;
                    }
                }
                _ => self.screen.say("Type y, n or c."),
            }
        }
    }

    /// Holds the screen still while somebody types.
    async fn prompt(&mut self, question: &str) -> Result<String, String> {
        self.screen.rest();
        prompt(question).await
    }

    async fn say(&self, path: &str, body: &serde_json::Value) -> Result<(), String> {
        let _: serde_json::Value = self
            .client
            .post(path, body)
            .await
            .map_err(|e| e.to_string())?;
        Ok(())
    }

    /// Shows the change that the branch would make.
    fn show_change(&self, block: &Block, base: Option<&str>) {
        let (branch, base) = (block.branch(), base.unwrap_or("HEAD"));
        let range = format!("{base}...{branch}");
        let diff = ["diff", "--color=never", "--no-ext-diff", "--no-textconv"];
        let diff = [&diff[..], &["--stat", "--patch", &range, "--"]].concat();
        match git(&self.repository, &diff) {
            Ok(diff) if diff.is_empty() => {
                self.screen.say(&format!("\n{branch} changes nothing.\n"));
            }
            Ok(diff) => {
                self.screen.say(&format!("\nThe change, on {branch}:\n"));
                self.screen.say_diff(&diff);
            }
            Err(_) => self.screen.say("\nThere is no branch to show.\n"),
        }
    }

    /// The end of what the job printed that the run failed at. It goes with the demo, so it is shown now.
    async fn log(&self, view: &RunView) -> Option<String> {
        let failed = view.summary.status == Status::Failed;
        let at = view.steps.get(usize::from(view.summary.current_step.0));
        let job = at
            .and_then(|step| step.job_id.as_ref())
            .filter(|_| failed)?;
        let log = self
            .standing
            .process
            .tail_logs(job, 20)
            .await
            .ok()
            .flatten()?;
        (!log.trim().is_empty()).then_some(log)
    }

    fn end(
        &mut self,
        block: &Block,
        view: &RunView,
        bill: &Bill,
        log: Option<String>,
    ) -> Result<u8, String> {
        let head = |name: &str| {
            git(
                &self.repository,
                &["rev-parse", "--verify", "--quiet", name],
            )
            .ok()
        };
        let branch = head(&block.branch()).map(|commit| (block.branch(), commit));
        let merged = branch.as_ref().is_some_and(|(_, commit)| {
            git(
                &self.repository,
                &["merge-base", "--is-ancestor", commit, "HEAD"],
            )
            .is_ok()
        });
        let summary = Summary {
            run: view.summary.id.clone(),
            status: view.summary.status,
            failure: view.summary.failure.clone(),
            repository: self.repository.display().to_string(),
            branch: branch.as_ref().map(|(name, _)| name.clone()),
            branch_commit: branch.map(|(_, commit)| commit),
            merged_commit: head("HEAD").filter(|_| merged),
            steps: steps(view, bill),
            bill: bill.total(),
        };
        if self.options.json {
            let text = serde_json::to_string_pretty(&summary).map_err(|e| e.to_string())?;
            writeln!(std::io::stdout(), "{text}").map_err(|e| e.to_string())?;
        } else {
            self.screen.close();
            if let Some(log) = log {
                self.screen
                    .say(&format!("\nThe end of its log:\n{}", indent(&log)));
            }
            self.screen.say(&summary.told());
        }
        Ok(if summary.status == Status::Done {
            0
        } else {
            FAILED
        })
    }
}

/// A line that the user types.
async fn prompt(question: &str) -> Result<String, String> {
    let nobody = || "nobody is there to answer; use --yes to approve everything".to_owned();
    let line = ask::line(question).await?.ok_or_else(nobody)?;
    Ok(line.trim().to_owned())
}
