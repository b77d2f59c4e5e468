//! The supervisor: the process that accepts one job, sees it through, and writes down how it ended.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitCode;

use towpath_jobs::{InputFile, JobSnapshot, JobStatus, error_class, last_lines};

use crate::answer;
use crate::artifacts;
use crate::checkout::WorkingCopy;
use crate::error::{Error, Failure};
use crate::folder::{Durable, Folder, create_private, make_dir, write_json};
use crate::group::{self, Ended, Launch};
use crate::job::{Job, complain};
use crate::order::{KNOWN, Order, TAKEN, inherited};
use crate::output::WORDS_MAX;
use crate::system;

/// Supervises the job whose folder is `dir`: reads its request from standard input, says on standard output whether it
/// accepted the job, and returns when the job is over. The program calls this for `supervise --dir DIR`.
pub fn supervise(dir: &Path) -> ExitCode {
    system::close_inherited();
    if group::is_launcher() {
        return group::launcher();
    }
    system::shelter();
    // Away from the caller's terminal and process group, whose Ctrl-C is not meant for the job. Fails only for the
    // leader of a group, which is out of reach already.
    let _ = rustix::process::setsid();
    let folder = Folder::new(dir.to_owned());
    let accepted =
        read_order().and_then(|order| Ok(Job::accept(folder, &order)?.map(|job| (job, order))));
    let said = match &accepted {
        Ok(Some(_)) => TAKEN.to_owned(),
        Ok(None) => KNOWN.to_owned(),
        Err(error) => error.to_string(),
    };
    // The caller may be gone by now; an accepted job is seen through all the same.
    let _ = writeln!(io::stdout(), "{said}");
    match accepted {
        Ok(Some((job, order))) => see_through(job, &order),
        Ok(None) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn read_order() -> Result<Order, Error> {
    let mut bytes = Vec::new();
    let read = io::stdin().read_to_end(&mut bytes);
    read.map_err(Error::file("read", Path::new("the standard input")))?;
    // The parser's message might quote a secret.
    serde_json::from_slice(&bytes).map_err(|_| Error::BrokenOrder)
}

fn see_through(mut job: Job, order: &Order) -> ExitCode {
    let end = carry_out(&mut job, order).unwrap_or_else(Failure::snapshot);
    let ended = job.end(&end);
    if let Err(error) = &ended {
        complain(&format!("the end of the job is on no record: {error}"));
    }
    job.leave();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prepares the work directory, runs the command and publishes its changes.
fn carry_out(job: &mut Job, order: &Order) -> Result<JobSnapshot, Failure> {
    let (program, args) = order
        .command
        .split_first()
        .ok_or_else(|| Failure::start("the job has no command"))?;
    let unprepared = |error: Error| Failure::start(error.to_string());
    make_dir(&job.folder.work()).map_err(unprepared)?;
    make_inputs(&job.folder, order).map_err(unprepared)?;
    let mut env = environment(&job.folder, order)?;
    let copy = match &order.checkout {
        Some(checkout) => Some(WorkingCopy::make(job, checkout, order)?),
        None => None,
    };
    env.extend(copy.iter().flat_map(WorkingCopy::env));

    job.prepared();
    let launch = Launch {
        program: program.clone(),
        args: args.to_vec(),
        env,
        dir: job.folder.work(),
    };
    let (stdout, stderr) = (job.folder.stdout(), job.folder.stderr());
    let ended = job.run(&launch, Some((&stdout, &stderr)))?;
    Ok(conclude(job, order, &ended, copy))
}

/// Writes what the command is given to read: the contract, and the texts that it names.
fn make_inputs(folder: &Folder, order: &Order) -> Result<(), Error> {
    make_dir(&folder.inputs())?;
    write_json(&folder.context(), &order.context, Durable::No)?;
    for InputFile { name, text } in &order.inputs {
        let path = folder.inputs().join(name);
        let written = create_private(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(Error::file("write", &path))?;
    }
    Ok(())
}

/// The environment of the command, without what its working copy adds.
fn environment(folder: &Folder, order: &Order) -> Result<BTreeMap<String, String>, Failure> {
    let mut env = inherited(&[]);
    // A git that finds no repository in its directory must not go up and find the user's own around the folder.
    env.insert("GIT_CEILING_DIRECTORIES".to_owned(), text(folder.path())?);
    env.extend(order.env.clone());
    env.insert("TOWPATH_INPUTS".to_owned(), text(&folder.inputs())?);
    env.insert("TOWPATH_CONTEXT".to_owned(), text(&folder.context())?);
    env.insert("TOWPATH_OUTPUT".to_owned(), text(&folder.output())?);
    env.insert("TOWPATH_JOB_ID".to_owned(), order.job.to_string());
    Ok(env)
}

/// A path as it goes into an environment.
fn text(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::start(format!(
            "the path {} is not UTF-8; choose another folder for jobs",
            path.display()
        ))
    })
}

/// The end of a job whose command has ended.
fn conclude(job: &mut Job, order: &Order, ended: &Ended, copy: Option<WorkingCopy>) -> JobSnapshot {
    let answered = judge(ended).and_then(|()| {
        let answer = answer::read(job, ended)?;
        let artifacts = artifacts::keep(job, &order.job, &answer)?;
        Ok((answer, artifacts))
    });
    let end = match answered {
        Ok((answer, artifacts)) => {
            let published = copy.map_or(Ok(()), |copy| copy.publish(job, order));
            let end = published.map_or_else(Failure::snapshot, |()| {
                JobSnapshot::of(JobStatus::Terminated)
            });
            JobSnapshot {
                answer: Some(answer),
                artifacts,
                ..end
            }
        }
        Err(failure) => {
            if let Some(copy) = copy {
                copy.note_head(job);
            }
            JobSnapshot {
                printed: answer::end_of_print(job, ended),
                ..failure.snapshot()
            }
        }
    };
    JobSnapshot {
        exit_code: ended.status.and_then(|status| status.code()),
        ..end
    }
}

/// Whether the command ended well, and if not, why.
fn judge(ended: &Ended) -> Result<(), Failure> {
    let Some(status) = ended.status else {
        return Err(Failure::new(
            error_class::SIGNAL,
            "the command could not be killed; it is stuck in the kernel",
        ));
    };
    let mut said = last_lines(&ended.stderr, WORDS_MAX);
    if !said.is_empty() {
        said.insert_str(0, ": ");
    }
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Failure::new(
            error_class::EXIT_CODE,
            format!("the command ended with exit code {code}{said}"),
        )),
        (None, signal) => {
            let signal = signal.map_or("a signal".to_owned(), |number| format!("signal {number}"));
            Err(Failure::new(
                error_class::SIGNAL,
                format!("the command was ended by {signal}{said}"),
            ))
        }
    }
}
