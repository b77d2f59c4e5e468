//! The commands that speak to a deployment, or to a `towpath dev`, over its API.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use towpath_api_types::{PipelineView, RunView};
use towpath_auth::Key;
use towpath_client::{Client, Error};
use towpath_engine::RunId;
use towpath_jobs::{LogPage, LogStream};

use crate::pipeline_file;
use crate::visible::visible;

/// The API to speak to, and the key to it.
#[derive(Args, Clone, Debug)]
pub struct Server {
    /// The address of the API. TOWPATH_SERVER when not given, else that of a `towpath dev` on its usual port.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The file that holds the API key. TOWPATH_KEY_FILE when not given; TOWPATH_KEY may hold the key itself.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// The address of a `towpath dev` that was started without options.
const USUAL: &str = "http://127.0.0.1:7070";

impl Server {
    /// The API at this address, if one is given.
    pub(crate) fn at(self, url: Option<&str>) -> Self {
        Self {
            server: url.map(str::to_owned).or(self.server),
            ..self
        }
    }

    pub(crate) fn client(&self) -> Result<Client, String> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let server = self.server.clone().or_else(|| set("TOWPATH_SERVER"));
        let server = server.unwrap_or_else(|| USUAL.to_owned());
        let file = self.key_file.clone();
        let file = file.or_else(|| set("TOWPATH_KEY_FILE").map(PathBuf::from));
        let text = match (file, set("TOWPATH_KEY")) {
            (Some(file), _) => std::fs::read_to_string(&file)
                .map_err(|error| format!("{}: {error}", file.display()))?,
            (None, Some(key)) => key,
            (None, None) => {
                return Err(
                    "an API key is needed: set TOWPATH_KEY_FILE to the file that `towpath dev` names, or TOWPATH_KEY"
                        .to_owned(),
                );
            }
        };
        let key = Key::parse(text.trim()).map_err(|error| format!("the API key: {error}"))?;
        Ok(Client::new(&server, Some(key)))
    }
}

/// The options of `towpath put`.
#[derive(Args, Clone, Debug)]
pub struct Put {
    /// The pipeline file, YAML or JSON.
    file: PathBuf,
    #[command(flatten)]
    server: Server,
}

/// The options of `towpath check`.
#[derive(Args, Clone, Debug)]
pub struct Check {
    /// The pipeline files, YAML or JSON.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// The options of `towpath logs`.
#[derive(Args, Clone, Debug)]
pub struct Logs {
    /// The id of the run whose log is printed.
    run: RunId,
    /// The step, counted from 0. The one that the run is at when not given.
    #[arg(long, value_name = "N")]
    step: Option<u16>,
    /// Go on until the step's job is over.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    server: Server,
}

/// The exit code of wrong use.
const USAGE: u8 = 2;

/// Runs `towpath check`.
pub fn check(options: &Check) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for file in &options.files {
        match pipeline_file::read(file) {
            Ok(pipeline) => {
                let steps = pipeline.enabled().len();
                let s = if steps == 1 { "" } else { "s" };
                eprintln!(
                    "{}: {} is fine, {steps} step{s}",
                    file.display(),
                    pipeline.id
                );
            }
            Err(message) => {
                eprintln!("{}", visible(&message));
                code = ExitCode::from(USAGE);
            }
        }
    }
    code
}

/// Runs `towpath put`.
pub async fn put(options: Put) -> ExitCode {
    let pipeline = match pipeline_file::read(&options.file) {
        Ok(pipeline) => pipeline,
        Err(message) => {
            eprintln!("{}", visible(&message));
            return ExitCode::from(USAGE);
        }
    };
    let put = async || -> Result<PipelineView, String> {
        let client = options.server.client()?;
        let path = format!("/pipelines/{}", pipeline.id);
        client
            .put(&path, &pipeline)
            .await
            .map_err(|error| told(&error))
    };
    ended(put().await.map(|view| {
        eprintln!("{}: version {}", view.pipeline.id, view.version);
    }))
}

/// Runs `towpath logs`.
pub async fn logs(options: Logs) -> ExitCode {
    ended(print_log(&options).await)
}

/// The pause before a log that has nothing new is asked for again.
const PAUSE: Duration = Duration::from_millis(500);

async fn print_log(options: &Logs) -> Result<(), String> {
    let client = options.server.client()?;
    let run = &options.run;
    let step = match options.step {
        Some(step) => step,
        None => {
            let view: RunView = get(&client, &format!("/runs/{run}")).await?;
            view.summary.current_step.0
        }
    };
    let path = format!("/runs/{run}/steps/{step}/log");
    let mut page: LogPage = get(&client, &path).await?;
    loop {
        let quiet = page.parts.is_empty();
        print(&page).map_err(|error| error.to_string())?;
        let Some(next) = page.next.filter(|_| options.follow || !quiet) else {
            return Ok(());
        };
        if quiet {
            tokio::time::sleep(PAUSE).await;
        }
        page = get(&client, &format!("{path}?after={next}")).await?;
    }
}

/// Prints each text on the output that the job printed it on.
fn print(page: &LogPage) -> std::io::Result<()> {
    let shown = |text: &str, terminal: bool| match terminal {
        true => visible(text),
        false => text.to_owned(),
    };
    for part in &page.parts {
        match part.stream {
            LogStream::Stdout => {
                let mut out = std::io::stdout();
                out.write_all(shown(&part.text, out.is_terminal()).as_bytes())?;
                out.flush()?;
            }
            LogStream::Stderr => {
                let mut err = std::io::stderr();
                err.write_all(shown(&part.text, err.is_terminal()).as_bytes())?;
            }
        }
    }
    Ok(())
}

async fn get<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> Result<T, String> {
    client.get(path).await.map_err(|error| told(&error))
}

/// An error of the API with every error of a pipeline.
fn told(error: &Error) -> String {
    let mut message = error.to_string();
    if let Error::Refused(problem) = error {
        for error in &problem.errors {
            message.push_str(&format!("\n  {}: {}", error.path, error.problem));
        }
    }
    message
}

fn ended(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("towpath: {}", visible(&message));
            ExitCode::FAILURE
        }
    }
}
