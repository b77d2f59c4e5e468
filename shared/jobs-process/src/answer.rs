//! What a command leaves behind: its answer, and the end of what it printed.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use towpath_jobs::{Answer, error_class, last_lines};

use crate::error::Failure;
use crate::folder::Folder;
use crate::group::Ended;
use crate::job::Job;

/// The largest answer, in bytes.
const ANSWER_MAX: u64 = 4 * 1024 * 1024;
/// The most that is kept of what a failed command printed, in bytes: half of it from each of its two outputs.
const PRINTED_MAX: usize = 4 * 1024;

/// Reads the answer of a command that ended well. What could not be kept whole is no answer.
pub(crate) fn read(job: &Job, ended: &Ended) -> Result<Answer, Failure> {
    let folder = &job.folder;
    let Some(answer) = file(job)? else {
        return printed(folder, ended).map(Answer::Stdout);
    };
    // A program that does not look at the outcome of its writes leaves a shorter answer than it meant to.
    if is_full(folder) {
        return Err(refused(
            "may be cut: the disk is full; make room, then retry the run",
        ));
    }
    Ok(Answer::File(answer))
}

fn refused(why: &str) -> Failure {
    Failure::new(
        error_class::ANSWER_REFUSED,
        format!("the answer file $TOWPATH_OUTPUT {why}"),
    )
}

/// Whether the file system of a job's folder has no room left.
fn is_full(folder: &Folder) -> bool {
    rustix::fs::statvfs(folder.path()).is_ok_and(|disk| disk.f_bavail == 0 && disk.f_blocks > 0)
}

/// The text of the answer file, if the command left one, without the values of secrets: the file does not keep them
/// either.
fn file(job: &Job) -> Result<Option<String>, Failure> {
    let path = job.folder.output();
    let unread = |error| refused(&format!("cannot be read: {error}"));
    match fs::symlink_metadata(&path) {
        // Asked before opening: to open a named pipe is to wait for a writer, and a link may lead to what the command
        // itself cannot read.
        Ok(meta) if !meta.is_file() => return Err(refused("is not a file")),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unread(error)),
    }
    let mut bytes = Vec::new();
    let mut open = OpenOptions::new();
    // Whatever may have come in its place since.
    let careful = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    open.read(true).custom_flags(careful.bits().cast_signed());
    let read = open.open(&path);
    let read = read.and_then(|file| file.take(ANSWER_MAX + 1).read_to_end(&mut bytes));
    read.map_err(unread)?;
    if bytes.len() as u64 > ANSWER_MAX {
        return Err(refused(
            "is larger than 4 MiB; write a reference to what is large instead",
        ));
    }
    let text = String::from_utf8(bytes).map_err(|_| refused("is not UTF-8"))?;
    let masked = job.masks.text(text.clone());
    if masked != text {
        let rewritten = fs::write(&path, &masked);
        rewritten.map_err(|error| refused(&format!("holds a secret, and stays so: {error}")))?;
    }
    Ok(Some(masked))
}

/// All that the command printed. If that is more than an answer may be, the log has it, and the answer says so.
fn printed(folder: &Folder, ended: &Ended) -> Result<String, Failure> {
    if let Some(why) = &ended.lost {
        let message = format!(
            "what the command printed could not be kept whole ({why}), and it left no answer in $TOWPATH_OUTPUT"
        );
        return Err(Failure::new(error_class::ANSWER_REFUSED, message));
    }
    let log = folder.stdout();
    let unread = |error| {
        let message = format!("what the command printed cannot be read: {error}");
        Failure::new(error_class::ANSWER_REFUSED, message)
    };
    let length = fs::metadata(&log).map_err(unread)?.len();
    if length > ANSWER_MAX {
        return Ok(format!(
            "(The command printed {length} bytes, which are in the job's log, and left no answer in $TOWPATH_OUTPUT.)"
        ));
    }
    let bytes = fs::read(&log).map_err(unread)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The end of what a command printed, the standard error last. A command that printed nothing may have written why it
/// failed into its answer file.
pub(crate) fn end_of_print(job: &Job, ended: &Ended) -> Option<String> {
    let ends = [&ended.stdout, &ended.stderr].map(|end| last_lines(end, PRINTED_MAX / 2));
    let printed = ends.join("\n").trim().to_owned();
    let printed = match file(job) {
        Ok(Some(text)) if printed.is_empty() => last_lines(text.as_bytes(), PRINTED_MAX),
        _ => printed,
    };
    (!printed.is_empty()).then_some(printed)
}
