//! `towpath dev`: the local cloud, kept up.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use towpath_clock::Clock;
use towpath_jobs_process::ProcessRuntime;

use crate::signals;
use crate::standing::{Models, Plan, Standing, write_private};

/// The options of `towpath dev`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The port of the HTTP API on 127.0.0.1; 0 for any.
    #[arg(long, default_value_t = 7070)]
    port: u16,
    /// Keep everything in this directory. Killed and started again, every run goes on where it was.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Call the functions through a `cargo lambda watch` at this URL, instead of in process. The cloud says how to start
    /// it; with --data it can stay up when the cloud is started again.
    #[arg(long, value_name = "URL")]
    lambda: Option<String>,
    /// Remove the folders of jobs, with their logs and working copies, this many days after their end.
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    retention: u32,
}

/// Runs the command.
pub async fn dev(options: Options) -> ExitCode {
    logs();
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("towpath: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Warnings and errors go to the terminal, for people; `RUST_LOG` asks for more.
fn logs() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let subscriber = tracing_subscriber::fmt()
        .compact()
        .with_writer(std::io::stderr)
        .with_env_filter(filter);
    // Set up by somebody else already: then that is how it is.
    let _ = subscriber.try_init();
}

async fn run(options: Options) -> Result<(), String> {
    let supervisor = std::env::current_exe().map_err(|e| format!("cannot find myself: {e}"))?;
    let data = options.data.as_deref().map(std::path::absolute).transpose();
    let data = data.map_err(|e| e.to_string())?;
    let plan = Plan {
        data: data.clone(),
        port: options.port,
        clock: Clock::system(),
        schedules: true,
        environment: Default::default(),
        models: Models::from_env(),
        lambda_url: options.lambda.clone(),
        supervisor,
        runner: None,
        commands: "process",
    };
    let standing = Standing::start(plan).await.map_err(|e| e.to_string())?;
    let key = welcome(&standing, &options, data.as_deref())?;
    eprintln!("Ctrl-C ends it.");
    let sweeping = tokio::spawn(sweep(
        standing.process.clone(),
        Duration::from_secs(24 * 3600) * options.retention,
    ));
    let failed = tokio::select! {
        _ = signals::ended() => None,
        reason = standing.cloud.failed() => Some(reason.to_string()),
    };
    if data.is_none() {
        // The key is of no use any more; if the file stays, that is no harm.
        let _ = std::fs::remove_file(key);
    }
    sweeping.abort();
    standing.stop().await;
    failed.map_or(Ok(()), Err)
}

/// Removes what is left of jobs that ended longer than `keep` ago: at once, and every hour.
async fn sweep(process: ProcessRuntime, keep: Duration) {
    let mut hours = tokio::time::interval(Duration::from_secs(3600));
    loop {
        hours.tick().await;
        // A start may be on its way for minutes, and must find the tombstone of its job.
        if let Err(error) = process.sweep(keep.max(SHORTEST)).await {
            tracing::warn!("old jobs could not be removed: {error}");
        }
    }
}

/// The shortest time for which the folder of a job is kept.
const SHORTEST: Duration = Duration::from_secs(3600);

/// Says what is up and how to reach it, and returns the file that holds the key.
fn welcome(standing: &Standing, options: &Options, data: Option<&Path>) -> Result<PathBuf, String> {
    let url = standing.cloud.url();
    eprintln!("Towpath is up at {url}");
    if let (Some(file), Some(lambda)) = (&standing.watch_file, &options.lambda) {
        let port = lambda.rsplit(':').next().unwrap_or_default();
        eprintln!(
            "Its functions are called at {lambda}; run them there with\n\n    cargo lambda watch --features process \
             --concurrency 4 --invoke-port {port} --env-file {}\n",
            file.display()
        );
    }
    let key = match data {
        Some(dir) => {
            let key = dir.join("key");
            eprintln!(
                "Its records are in {}; its key is in {}",
                dir.display(),
                key.display()
            );
            key
        }
        None => {
            let key = std::env::temp_dir().join(format!("towpath-{}.key", std::process::id()));
            write_private(&key, standing.key.reveal())
                .map_err(|e| format!("{}: {e}", key.display()))?;
            eprintln!(
                "Everything is in memory, and gone when this ends (keep it with --data DIR); its key is in {}",
                key.display()
            );
            key
        }
    };
    eprintln!(
        "\n    curl -H \"Authorization: Bearer $(cat {})\" {url}/runs\n",
        key.display()
    );
    Ok(key)
}
