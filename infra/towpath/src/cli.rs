//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use towpath_runner::Options;

#[cfg(feature = "local")]
use crate::{demo, deploy, dev, doctor};
use crate::{executors_check, remote, worker};

/// Runs agent pipelines durably, with nothing to operate.
#[derive(Parser)]
#[command(name = "towpath", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a pipeline on this machine, from a git repository to a merged commit, and show what it cost.
    #[cfg(feature = "local")]
    Demo(demo::Options),
    /// Keep the local cloud up, with its HTTP API.
    #[cfg(feature = "local")]
    Dev(dev::Options),
    /// Check pipeline files, and say what is wrong where.
    Check(remote::Check),
    /// Put a pipeline file: as a new pipeline, or as the next version of the one with its id.
    Put(remote::Put),
    /// Print what the job of a run's step has printed.
    Logs(remote::Logs),
    /// Deploy Towpath into your AWS account, or bring what is deployed up to this release.
    #[cfg(feature = "local")]
    Deploy(deploy::Options),
    /// Remove a deployment from your AWS account. What holds data stays unless you ask for that too.
    #[cfg(feature = "local")]
    Destroy(deploy::Destroy),
    /// Name what does not fit: runs without a driver, executions and jobs without a run, overdue deliveries.
    #[cfg(feature = "local")]
    Doctor(doctor::Options),
    /// Take missions on this machine: the steps of pipelines that say `on: { executor: [CAPABILITY] }`.
    Worker(worker::Options),
    /// Look after executors: machines that dial in.
    #[command(subcommand)]
    Executors(Executors),
    /// Carry out one job in a build or container. What starts it there tells it which, by its environment.
    #[command(hide = true)]
    Runner,
    /// Supervise one job. The process substrate starts this; it is of no use by hand.
    #[command(hide = true)]
    Supervise {
        /// The job's folder.
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(Subcommand)]
enum Executors {
    /// Put an executor that has dialled in through what the contract asks of it, and name what it fails.
    Check(executors_check::Check),
}

/// Does what the process's arguments ask.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        // Plain blocking code, and the smallest process that will do: one of these stands beside each job.
        Command::Supervise { dir } => towpath_jobs_process::supervise(&dir),
        Command::Runner => runner(),
        #[cfg(feature = "local")]
        Command::Demo(options) => run(demo::demo(options)),
        #[cfg(feature = "local")]
        Command::Dev(options) => run(dev::dev(options)),
        Command::Check(options) => remote::check(&options),
        Command::Put(options) => run(remote::put(options)),
        Command::Logs(options) => run(remote::logs(options)),
        Command::Worker(options) => run(worker::worker(options)),
        Command::Executors(Executors::Check(options)) => run(executors_check::check(options)),
        #[cfg(feature = "local")]
        Command::Deploy(options) => run(deploy::deploy(options)),
        #[cfg(feature = "local")]
        Command::Destroy(options) => run(deploy::destroy(options)),
        #[cfg(feature = "local")]
        Command::Doctor(options) => run(doctor::doctor(options)),
    }
}

fn runner() -> ExitCode {
    let options = std::env::current_exe().map_err(|error| error.to_string());
    let options =
        options.and_then(|program| Options::from_lookup(|name| std::env::var(name).ok(), program));
    match options {
        Ok(options) => run(async move { towpath_runner::run(&options).await }),
        Err(message) => {
            eprintln!("towpath: {message}");
            ExitCode::from(2)
        }
    }
}

fn run(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            let code = runtime.block_on(command);
            // A thread may still wait for somebody to type something; nobody will.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("towpath: no threads to work with: {error}");
            ExitCode::FAILURE
        }
    }
}
