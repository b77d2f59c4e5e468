//! `towpath deploy`: builds, deploys, uploads the runners, and says how to get in.

mod account;
mod destroy;
mod key;
mod plan;
mod runners;
mod stack;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use towpath_auth::Key;
use towpath_client::Client;

use crate::ask::confirm;
pub(crate) use account::Session;
pub use destroy::{Destroy, destroy};
pub(crate) use stack::Outputs;
use tools::Run;

/// The options of `towpath deploy`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// Show what would be deployed where, and whether everything that it takes is there. Nothing is changed.
    #[arg(long)]
    plan: bool,
    /// Do everything without asking for a confirmation.
    #[arg(long, short)]
    yes: bool,
    /// A parameter of the template, NAME=VALUE, such as AlarmEmail=you@example.com. May be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<String>,
}

/// The deployment to deal with.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// The name of the stack.
    #[arg(long, default_value = "towpath", value_parser = stack_name)]
    stack: String,
    /// The region. AWS_REGION when not given, else that of the AWS profile.
    #[arg(long)]
    region: Option<String>,
}

/// The longest name of a stack: names made of it have at most 64 characters.
const STACK_NAME: usize = 57;

fn stack_name(text: &str) -> Result<String, String> {
    let plain = |it: char| it.is_ascii_alphanumeric() || it == '-';
    let fits = (1..=STACK_NAME).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(plain);
    let told = format!(
        "a stack's name begins with a letter and has at most {STACK_NAME} letters, digits and hyphens"
    );
    if fits { Ok(text.to_owned()) } else { Err(told) }
}

fn parameter(text: &str) -> Result<String, String> {
    let named = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty() && name.chars().all(|it| it.is_ascii_alphanumeric()));
    let told = || "a parameter is NAME=VALUE, such as AlarmEmail=you@example.com".to_owned();
    named.map(|_| text.to_owned()).ok_or_else(told)
}

/// Runs the command.
pub async fn deploy(options: Options) -> ExitCode {
    ended(run(&options).await)
}

fn ended(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("towpath: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the template, in the sources that this command was built from.
fn infra() -> Result<PathBuf, String> {
    let infra = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let found = infra.canonicalize().ok();
    let found = found.filter(|infra| infra.join("template.yaml").is_file());
    found.ok_or_else(|| {
        format!(
            "the sources that this command was built from are not at {} any more; run `cargo run -- deploy` in a clone \
             of Towpath",
            infra.display()
        )
    })
}

async fn run(options: &Options) -> Result<(), String> {
    let infra = infra()?;
    let tools = tools::check();
    let session = Session::open(options.target.region.as_deref())?;
    plan::show(&tools, &session, options).await?;
    if options.plan {
        return Ok(());
    }
    if !options.yes && !confirm("Build and deploy this?").await? {
        return Err("nothing was changed".to_owned());
    }
    let sam = Run::new("sam", &["build"]);
    sam.within(&infra).with(session.environment()).run()?;
    let runners = runners::build(&infra)?;
    let overrides = options.parameters.join(" ");
    let mut args = vec!["deploy", "--stack-name", &options.target.stack];
    args.extend(["--region", session.region(), "--no-confirm-changeset"]);
    args.push("--no-fail-on-empty-changeset");
    if !overrides.is_empty() {
        args.extend(["--parameter-overrides", &overrides]);
    }
    let sam = Run::new("sam", &args);
    sam.within(&infra).with(session.environment()).run()?;
    let outputs = Outputs::of(&options.target.stack, &session)?;
    runners::upload(&runners, &session, &outputs).await?;
    let (key, file) = key::fetch(&session, &outputs, &options.target.stack).await?;
    let address = outputs.need("ApiUrl")?;
    await_answer(&address, &key).await?;
    welcome(&address, &file, &options.target, &session);
    Ok(())
}

/// How long a new address may take to answer: a distribution is told to every edge first.
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_secs(5);

async fn await_answer(address: &str, key: &Key) -> Result<(), String> {
    eprintln!("Waiting for {address} to answer");
    let client = Client::new(address, Some(key.clone()));
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answered = client.get::<serde_json::Value>("/runs").await;
        let Err(error) = answered else { return Ok(()) };
        if tokio::time::Instant::now() >= until {
            return Err(format!(
                "everything is deployed, and {address} does not answer as it should: {error}; look at the logs of the \
                 function `api`"
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn welcome(address: &str, file: &Path, target: &Target, session: &Session) {
    let (file, stack, region) = (file.display(), &target.stack, session.region());
    eprintln!(
        "
Towpath is up at {address}
Its first key is in {file}

  export TOWPATH_SERVER={address} TOWPATH_KEY_FILE={file}

Try it: a pipeline, a block, and a run whose job is a build of CodeBuild

  towpath put tests/pipelines/hello.yaml
  KEY=\"Authorization: Bearer $(cat $TOWPATH_KEY_FILE)\"
  curl -H \"$KEY\" -X PUT $TOWPATH_SERVER/blocks/hello -d '{{\"title\": \"Say hello\"}}'
  curl -H \"$KEY\" -X POST $TOWPATH_SERVER/runs -d '{{\"blockId\": \"hello\", \"pipelineId\": \"hello\"}}'
  curl -H \"$KEY\" $TOWPATH_SERVER/runs

Is all well?  towpath doctor --stack {stack} --region {region}
Remove it:    towpath destroy --stack {stack} --region {region}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_parameters_that_aws_would_refuse_are_refused_at_once() {
        let longest = format!("t{}", "x".repeat(STACK_NAME - 1));
        for fits in ["towpath", "Towpath-2", &longest] {
            assert!(stack_name(fits).is_ok(), "{fits}");
        }
        for wrong in ["", "2nd", "a_b", "-a", &format!("{longest}x")] {
            assert!(stack_name(wrong).is_err(), "{wrong}");
        }
        assert!(parameter("AlarmEmail=you@example.com").is_ok() && parameter("A=").is_ok());
        for wrong in ["AlarmEmail", "=x", "Alarm Email=x"] {
            assert!(parameter(wrong).is_err(), "{wrong}");
        }
    }
}
