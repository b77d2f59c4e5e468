//! `towpath doctor`: what does not fit, and what to do about it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use towpath_clock::Clock;
use towpath_engine::{JobId, JobRef};
use towpath_jobs::Runtime;
use towpath_jobs_process::ProcessRuntime;
use towpath_service::{App, Config, Doctor, Finding, JobSeen};

use crate::deploy::{Outputs, Session};
use crate::standing::OF_OUTPUTS;

/// The options of `towpath doctor`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Examine the local cloud that keeps its records in this directory, and is up. Otherwise the deployment that the
    /// environment names: AWS credentials, RUNS_TABLE, EXECUTORS_TABLE, OUTPUTS_BUCKET, STATE_MACHINE_ARN,
    /// CODEBUILD_PROJECT and EXECUTOR_SOCKETS.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Examine the deployment of this stack.
    #[arg(long, value_name = "STACK", conflicts_with = "data")]
    stack: Option<String>,
    /// The region of the stack. AWS_REGION when not given, else that of the AWS profile.
    #[arg(long, requires = "stack")]
    region: Option<String>,
    /// Repair what is found.
    #[arg(long)]
    repair: bool,
}

/// The file in a data directory that tells how to reach the cloud that is up on it.
pub(crate) const ENVIRONMENT: &str = "operator.json";

/// What is amiss for a moment only is not: how long between two looks.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// Runs the command: exit code 0 if all is well (or was repaired), 1 if not.
pub async fn doctor(options: Options) -> ExitCode {
    match run(&options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("towpath: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<bool, String> {
    let environment = match (&options.data, &options.stack) {
        (Some(dir), _) => kept(dir)?,
        (None, Some(stack)) => of_stack(stack, options.region.as_deref())?,
        (None, None) => {
            let environment: BTreeMap<String, String> = std::env::vars().collect();
            complete(&environment)?;
            environment
        }
    };
    let told = |error: towpath_service::Error| match (&options.data, error.name()) {
        (Some(dir), "Towpath.Unavailable") => format!(
            "nothing answers; is `towpath dev --data {}` up?",
            dir.display()
        ),
        _ => error.to_string(),
    };
    let config = Config::from_lookup(|name| environment.get(name).cloned()).map_err(told)?;
    let jobs = environment.get("TOWPATH_JOBS").map(PathBuf::from);
    let process = config.processes.clone();
    let process = process.map(|(jobs, program)| ProcessRuntime::new(jobs, program));
    let runtimes = process.clone().into_iter();
    let runtimes = runtimes.map(|process| Arc::new(process) as Arc<dyn Runtime>);
    let (app, doctor) = Doctor::connect(&config, Clock::system(), runtimes.collect(), None);
    let look = async || seen(&app, process.as_ref(), jobs.as_deref()).await;
    let mut findings = doctor.examine(&look().await?).await.map_err(told)?;
    if !findings.is_empty() {
        tokio::time::sleep(SECOND_LOOK).await;
        let again = doctor.examine(&look().await?).await.map_err(told)?;
        findings.retain(|finding| again.contains(finding));
    }
    if findings.is_empty() {
        eprintln!("All is well.");
        return Ok(true);
    }
    let mut well = options.repair;
    for finding in &findings {
        well &= tell(&doctor, finding, options.repair).await;
    }
    if !options.repair {
        eprintln!("\n`--repair` repairs it.");
    }
    Ok(well)
}

/// The environment of a deployment, by the outputs of its stack.
fn of_stack(stack: &str, region: Option<&str>) -> Result<BTreeMap<String, String>, String> {
    let session = Session::open(region)?;
    let outputs = Outputs::of(stack, &session)?;
    let mut environment: BTreeMap<String, String> = std::env::vars().collect();
    environment.extend(session.environment().clone());
    for (variable, output) in OF_OUTPUTS {
        environment.insert(variable.to_owned(), outputs.need(output)?);
    }
    Ok(environment)
}

/// What an environment must have to reach a deployment, and where it comes from.
const NEEDED: [(&str, &str); 7] = [
    ("AWS_REGION", CREDENTIALS),
    ("AWS_ACCESS_KEY_ID", CREDENTIALS),
    ("AWS_SECRET_ACCESS_KEY", CREDENTIALS),
    ("RUNS_TABLE", OUTPUTS),
    ("EXECUTORS_TABLE", OUTPUTS),
    ("OUTPUTS_BUCKET", OUTPUTS),
    ("STATE_MACHINE_ARN", OUTPUTS),
];
const CREDENTIALS: &str = "of your AWS profile: export AWS_REGION=…; \
                           eval \"$(aws configure export-credentials --format env)\"";
const OUTPUTS: &str = "an output of the stack: aws cloudformation describe-stacks --stack-name towpath \
                       --query 'Stacks[0].Outputs' --output table";

/// Checks that an environment has all that it must, and names everything that it lacks.
fn complete(environment: &BTreeMap<String, String>) -> Result<(), String> {
    let is_set = |name: &str| environment.get(name).is_some_and(|value| !value.is_empty());
    let missing = NEEDED.iter().filter(|(name, _)| !is_set(name));
    let missing: Vec<String> = missing
        .map(|(name, source)| format!("  {name}: {source}"))
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "the environment names no deployment (add --stack NAME, or --data DIR for a local cloud); these are not set:\n{}",
            missing.join("\n")
        )),
    }
}

/// Tells a finding and repairs it if asked. Says whether it is repaired.
async fn tell(doctor: &Doctor, finding: &Finding, repair: bool) -> bool {
    if !repair {
        eprintln!("- {finding}");
        return false;
    }
    match doctor.repair(finding).await {
        Ok(()) => {
            eprintln!("- {finding}: done");
            true
        }
        Err(error) => {
            eprintln!("- {finding}: failed, {error}");
            false
        }
    }
}

/// The jobs of the runtimes that can list them, as they are now.
///
/// # Errors
/// If CodeBuild does not answer.
pub async fn seen(
    app: &App,
    process: Option<&ProcessRuntime>,
    root: Option<&Path>,
) -> Result<Vec<JobSeen>, String> {
    let mut all = seen_processes(process, root).await;
    if let Some(builds) = &app.builds {
        let at_work = builds.at_work().await;
        let at_work = at_work.map_err(|error| error.to_string())?;
        all.extend(at_work.into_iter().map(|job| JobSeen { job, live: true }));
    }
    Ok(all)
}

async fn seen_processes(process: Option<&ProcessRuntime>, root: Option<&Path>) -> Vec<JobSeen> {
    let (Some(process), Some(root)) = (process, root) else {
        return Vec::new();
    };
    let names = fs::read_dir(root).into_iter().flatten().flatten();
    let jobs = names.filter_map(|entry| entry.file_name().to_str()?.parse::<JobId>().ok());
    let mut seen = Vec::new();
    for job in jobs {
        let live =
            matches!(process.status(&job).await, Ok(Some(snapshot)) if !snapshot.status.is_final());
        let job = JobRef {
            job,
            runtime: process.kind().to_owned(),
        };
        seen.push(JobSeen { job, live });
    }
    seen
}

fn kept(dir: &Path) -> Result<BTreeMap<String, String>, String> {
    let file = dir.join(ENVIRONMENT);
    let text = fs::read_to_string(&file).map_err(|error| {
        format!(
            "{}: {error}; is `towpath dev --data {}` up?",
            file.display(),
            dir.display()
        )
    })?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
}
