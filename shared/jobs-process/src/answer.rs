//! What a command leaves behind: its answer, and the end of what it printed.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};

use towpath_jobs::{Answer, error_class, last_lines};

use crate::error::Failure;
use crate::folder::Folder;
use crate::group::Ended;

/// The largest answer, in bytes.
const ANSWER_MAX: u64 = 4 * 1024 * 1024;
/// The most that is kept of what a failed command printed, in bytes: half of it from each of its two outputs.
const PRINTED_MAX: usize = 4 * 1024;

/// Reads the answer of a command that ended well.
pub(crate) fn read(folder: &Folder) -> Result<Answer, Failure> {
    let path = folder.output();
    let refused = |why: &str| {
        Failure::new(
            error_class::ANSWER_REFUSED,
            format!("the answer file $TOWPATH_OUTPUT {why}"),
        )
    };
    let unread = |error| refused(&format!("cannot be read: {error}"));
    match fs::metadata(&path) {
        // Asked before opening: to open a named pipe is to wait for a writer.
        Ok(meta) if !meta.is_file() => return Err(refused("is not a file")),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Answer::Stdout(all_printed(folder)));
        }
        Err(error) => return Err(unread(error)),
    }
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(ANSWER_MAX + 1).read_to_end(&mut bytes));
    read.map_err(unread)?;
    if bytes.len() as u64 > ANSWER_MAX {
        return Err(refused(
            "is larger than 4 MiB; write a reference to what is large instead",
        ));
    }
    String::from_utf8(bytes)
        .map(Answer::File)
        .map_err(|_| refused("is not UTF-8"))
}

/// All that the command printed, or nothing if that is more than an answer may be: the log has it, and an output that
/// was cut would look like one that was not.
fn all_printed(folder: &Folder) -> String {
    let log = folder.stdout();
    let fits = fs::metadata(&log).is_ok_and(|log| log.len() <= ANSWER_MAX);
    let bytes = if fits {
        fs::read(&log).unwrap_or_default()
    } else {
        Vec::new()
    };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The end of what a command printed, the standard error last. A command that printed nothing may have written why it
/// failed into its answer file.
pub(crate) fn end_of_print(folder: &Folder, ended: &Ended) -> Option<String> {
    let ends = [&ended.stdout, &ended.stderr].map(|end| last_lines(end, PRINTED_MAX / 2));
    let printed = ends.join("\n").trim().to_owned();
    let printed = match read(folder) {
        Ok(Answer::File(text)) if printed.is_empty() => last_lines(text.as_bytes(), PRINTED_MAX),
        _ => printed,
    };
    (!printed.is_empty()).then_some(printed)
}
