//! The log of a job that runs elsewhere, as its events tell it.

use towpath_engine::JobId;
use towpath_jobs::{EventKind, LogPage, LogPart, LogPosition, LogStream, RunnerEvent, last_lines};

use crate::{Error, EventCursor, JobRecord, JobRecords};

/// The most pages of events that a look at the end of a log goes through.
const TAIL_PAGES: usize = 64;

impl JobRecords {
    /// A page of what a job has printed, from a position on. `None`: there is no such job.
    ///
    /// # Errors
    /// If the records cannot be read.
    pub async fn log(
        &self,
        job: &JobId,
        after: LogPosition,
    ) -> Result<Option<(LogPage, JobRecord)>, Error> {
        if job.number().is_none() {
            return Ok(None);
        }
        let Some(record) = self.get(job).await?.filter(|it| it.workspace.is_some()) else {
            return Ok(None);
        };
        let cursor = EventCursor::within(job, after.0, after.1);
        let page = self.events_of_job(job, cursor).await?;
        let mut over = page.events.is_empty() && record.end.is_some();
        let mut parts: Vec<LogPart> = Vec::new();
        for told in &page.events {
            over |= told.event.kind == EventKind::RuntimeTerminal;
            let Some(part) = printed(&told.event) else {
                continue;
            };
            match parts.last_mut().filter(|last| last.stream == part.stream) {
                Some(last) => last.text.push_str(&part.text),
                None => parts.push(part),
            }
        }
        let (chunk, seq) = page.next.in_job();
        let page = LogPage {
            parts,
            console: None,
            next: (!over).then_some(LogPosition(chunk, seq)),
        };
        Ok(Some((page, record)))
    }

    /// The last lines that a job has printed. `None`: there is no such job.
    ///
    /// # Errors
    /// If the records cannot be read.
    pub async fn log_tail(&self, job: &JobId, lines: usize) -> Result<Option<String>, Error> {
        let (mut at, mut printed) = (LogPosition::default(), String::new());
        for _ in 0..TAIL_PAGES {
            let Some((page, _)) = self.log(job, at).await? else {
                return Ok(None);
            };
            let quiet = page.parts.is_empty();
            printed.extend(page.parts.into_iter().map(|part| part.text));
            match page.next.filter(|_| !quiet) {
                Some(next) => at = next,
                None => break,
            }
        }
        let all: Vec<&str> = printed.lines().collect();
        let from = all.len().saturating_sub(lines);
        let tail = all.get(from..).unwrap_or_default().join("\n");
        Ok(Some(last_lines(tail.as_bytes(), usize::MAX)))
    }
}

/// What was printed, if the event tells of that: a text of the model is, on the standard output.
fn printed(event: &RunnerEvent) -> Option<LogPart> {
    let word = |name: &str| event.data.get(name).and_then(|value| value.as_str());
    let text = word("text")?.to_owned();
    let stream = match (event.kind, word("stream")) {
        (EventKind::Notification, Some("stdout")) => LogStream::Stdout,
        (EventKind::Notification, Some("stderr")) => LogStream::Stderr,
        (EventKind::AssistantText, _) => {
            let text = format!("{text}\n");
            return Some(LogPart {
                stream: LogStream::Stdout,
                text,
            });
        }
        _ => return None,
    };
    Some(LogPart { stream, text })
}
