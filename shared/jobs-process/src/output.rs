//! What a job prints: kept in logs of bounded size, with its end in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use towpath_jobs::{LogPage, LogPart, LogPosition, LogStream};

use crate::error::Error;
use crate::folder::create_private;
use crate::mask::{Filter, Masks};

/// The beginning of a stream that its log keeps, in bytes. Of the rest only the end is kept.
const LOG_CAP: u64 = 64 * 1024 * 1024;
/// The end of a stream that is kept, in bytes.
const TAIL: usize = 64 * 1024;
/// The most that a message tells of the end of a standard error, in bytes.
pub(crate) const WORDS_MAX: usize = 2 * 1024;
/// How long a stream may stay open after all processes of the group are gone: whoever holds it has left the group.
const DRAIN: Duration = Duration::from_secs(1);

/// A pipe that a thread reads to its end, so that whoever writes to it never waits.
pub(crate) struct Stream {
    shared: Arc<Mutex<Kept>>,
    ended: mpsc::Receiver<()>,
}

/// The kept parts of a stream.
struct Kept {
    filter: Filter,
    log: Option<File>,
    cap: u64,
    logged: u64,
    /// Bytes beyond the cap.
    omitted: u64,
    tail: VecDeque<u8>,
    /// The reason the log lacks something that was printed.
    lost: Option<String>,
    closed: bool,
}

/// What is left of a stream when its writers are gone.
pub(crate) struct Printed {
    /// Its end.
    pub(crate) end: Vec<u8>,
    /// The reason its log does not hold all of it, in words for people.
    pub(crate) lost: Option<String>,
}

impl Stream {
    /// Begins to read `pipe`, into `log` if there is one, without what is masked.
    pub(crate) fn read<R: Read + Send + 'static>(
        pipe: Option<R>,
        log: Option<&Path>,
        masks: Masks,
    ) -> Result<Self, Error> {
        Self::read_capped(pipe, log, masks, LOG_CAP)
    }

    fn read_capped<R: Read + Send + 'static>(
        pipe: Option<R>,
        log: Option<&Path>,
        masks: Masks,
        cap: u64,
    ) -> Result<Self, Error> {
        let log = log
            .map(|path| create_private(path).map_err(Error::file("open", path)))
            .transpose()?;
        let kept = Kept {
            filter: Filter::new(masks),
            log,
            cap,
            logged: 0,
            omitted: 0,
            tail: VecDeque::new(),
            lost: None,
            closed: false,
        };
        let shared = Arc::new(Mutex::new(kept));
        let (tell, ended) = mpsc::channel();
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            if let Some(pipe) = pipe {
                copy(pipe, &theirs);
            }
            let _ = tell.send(());
        });
        Ok(Self { shared, ended })
    }

    /// What is left of the stream. To be called when its writers are gone.
    pub(crate) fn finish(self) -> Printed {
        let _ = self.ended.recv_timeout(DRAIN);
        let mut kept = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        kept.close();
        Printed {
            end: kept.tail.iter().copied().collect(),
            lost: kept.lost.take(),
        }
    }
}

fn copy(mut pipe: impl Read, shared: &Mutex<Kept>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let chunk = match pipe.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let mut kept = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.closed {
            return;
        }
        let chunk = kept.filter.pass(chunk);
        kept.add(&chunk);
    }
}

impl Kept {
    fn add(&mut self, chunk: &[u8]) {
        let room = usize::try_from(self.cap - self.logged)
            .unwrap_or(usize::MAX)
            .min(chunk.len());
        let (logged, omitted) = chunk.split_at(room);
        self.write(logged);
        self.logged += logged.len() as u64;
        self.omitted += omitted.len() as u64;
        self.tail.extend(chunk);
        let excess = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..excess);
    }

    /// A log that cannot be written (the disk is full) does not keep the command from going on: the end of the stream
    /// is in memory, and what was lost is told when the command has ended.
    fn write(&mut self, bytes: &[u8]) {
        let written = self.log.as_mut().map_or(Ok(()), |log| log.write_all(bytes));
        if let Err(error) = written {
            self.lost.get_or_insert_with(|| error.to_string());
        }
    }

    fn close(&mut self) {
        if self.closed {
            return;
        }
        self.closed = true;
        let rest = self.filter.finish();
        self.add(&rest);
        if self.omitted > 0 {
            let end = usize::try_from(self.omitted)
                .unwrap_or(TAIL)
                .min(self.tail.len());
            let last: Vec<u8> = self
                .tail
                .iter()
                .skip(self.tail.len() - end)
                .copied()
                .collect();
            let gone = self.omitted - end as u64;
            self.write(
                format!("\n[towpath: the log is full; {gone} bytes were left out here]\n")
                    .as_bytes(),
            );
            self.write(&last);
            let most = self.cap / (1024 * 1024);
            self.lost
                .get_or_insert_with(|| format!("a log holds {most} MiB"));
        }
    }
}

/// The last lines of the two logs, `lines` in all: half from each, and what one does not need goes to the other.
pub(crate) fn tail_of_logs(stdout: &Path, stderr: &Path, lines: usize) -> io::Result<String> {
    let (stdout, stderr) = (read_tail(stdout)?, read_tail(stderr)?);
    let (out, err): (Vec<&str>, Vec<&str>) = (stdout.lines().collect(), stderr.lines().collect());
    let of_err = err
        .len()
        .min(lines.saturating_sub(out.len()).max(lines / 2));
    let of_out = out.len().min(lines - of_err);
    let shown = out
        .iter()
        .skip(out.len() - of_out)
        .chain(err.iter().skip(err.len() - of_err));
    Ok(shown.map(|line| format!("{line}\n")).collect())
}

/// The most bytes of a log that one page holds, of each output.
const PAGE: u64 = 64 * 1024;

/// A page of the two logs from a position on. `over`: nothing more will be printed.
pub(crate) fn page_of_logs(
    stdout: &Path,
    stderr: &Path,
    after: LogPosition,
    over: bool,
) -> io::Result<LogPage> {
    let mut parts = Vec::new();
    let mut read = |path: &Path, stream: LogStream, from: u64| -> io::Result<(u64, bool)> {
        let (text, next, end) = read_page(path, from, over)?;
        if !text.is_empty() {
            parts.push(LogPart { stream, text });
        }
        Ok((next, end))
    };
    let (stdout, all) = read(stdout, LogStream::Stdout, after.0)?;
    let (stderr, all_of_errors) = read(stderr, LogStream::Stderr, after.1)?;
    let next = LogPosition(stdout, stderr);
    Ok(LogPage {
        parts,
        console: None,
        next: (!(over && all && all_of_errors)).then_some(next),
    })
}

/// A page of one log: its text, the position behind it, and whether the file has no more. A line or a character that is
/// not whole yet is left for the next page, unless it never will be.
fn read_page(path: &Path, from: u64, over: bool) -> io::Result<(String, u64, bool)> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok((String::new(), from, true));
        }
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.min(length)))?;
    let mut bytes = Vec::new();
    file.take(PAGE).read_to_end(&mut bytes)?;
    let last = from.saturating_add(bytes.len() as u64) >= length;
    let lines = bytes.iter().rposition(|byte| *byte == b'\n');
    match lines.map(|at| at + 1) {
        _ if last && over => {}
        Some(end) => bytes.truncate(end),
        // A line longer than a page is cut; one that is still being printed waits.
        None if last => bytes.clear(),
        None => {}
    }
    let next = from.saturating_add(bytes.len() as u64);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok((text, next, next >= length))
}

fn read_tail(path: &Path) -> io::Result<String> {
    const MOST: u64 = 4 * TAIL as u64;
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if length <= MOST {
        return Ok(text);
    }
    // The first line may be half a line.
    Ok(text
        .split_once('\n')
        .map_or(text.clone(), |(_, lines)| lines.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_keeps_its_beginning_and_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout.log");
        let printed = format!("first{}last", ".".repeat(200_000));
        let stream = Stream::read_capped(
            Some(io::Cursor::new(printed)),
            Some(&path),
            Masks::default(),
            10,
        )
        .unwrap();
        let printed = stream.finish();
        assert!(printed.end.ends_with(b"..last") && printed.lost.is_some());
        let log = std::fs::read_to_string(&path).unwrap();
        assert!(
            log.starts_with(
                "first.....\n[towpath: the log is full; 134463 bytes were left out here]\n..."
            ),
            "{log}"
        );
        assert!(log.ends_with("..last"));
        assert_eq!(
            tail_of_logs(&path, &dir.path().join("none"), 1)
                .unwrap()
                .trim_start_matches('.'),
            "last\n"
        );
    }

    #[test]
    fn a_log_that_cannot_be_written_is_told() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        let stream =
            Stream::read(Some(io::Cursor::new("words")), Some(full), Masks::default()).unwrap();
        let printed = stream.finish();
        assert_eq!(printed.end, b"words");
        assert!(printed.lost.unwrap().contains("No space left"));
    }

    #[test]
    fn a_log_is_read_page_by_page_in_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let (out, err) = (dir.path().join("out"), dir.path().join("err"));
        let line = format!("{}\n", "é".repeat(500));
        std::fs::write(&out, line.repeat(100) + "half").unwrap();
        std::fs::write(&err, "trouble\n").unwrap();
        let (mut read, mut at) = (String::new(), LogPosition::default());
        for _ in 0..3 {
            let page = page_of_logs(&out, &err, at, false).unwrap();
            for part in page
                .parts
                .iter()
                .filter(|it| it.stream == LogStream::Stdout)
            {
                assert!(part.text.ends_with('\n'), "only whole lines");
                read.push_str(&part.text);
            }
            at = page.next.unwrap();
        }
        assert_eq!(read, line.repeat(100), "half a line waits for its end");
        assert_eq!(at.1, 8);
        let page = page_of_logs(&out, &err, at, true).unwrap();
        assert_eq!((page.parts[0].text.as_str(), page.next), ("half", None));
        let nothing = page_of_logs(&dir.path().join("no"), &err, at, true).unwrap();
        assert_eq!(nothing.parts, []);
    }

    #[test]
    fn both_logs_share_the_lines_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let (out, err) = (dir.path().join("out"), dir.path().join("err"));
        std::fs::write(&out, "1\n2\n3\n4\n").unwrap();
        assert_eq!(tail_of_logs(&out, &err, 3).unwrap(), "2\n3\n4\n");
        std::fs::write(&err, "a\nb\nc\nd\n").unwrap();
        assert_eq!(tail_of_logs(&out, &err, 4).unwrap(), "3\n4\nc\nd\n");
        assert_eq!(tail_of_logs(&out, &err, 6).unwrap(), "2\n3\n4\nb\nc\nd\n");
        assert_eq!(tail_of_logs(&out, &err, 0).unwrap(), "");
    }
}
