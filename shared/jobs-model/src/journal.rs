//! What is written down of a call while it is made: how often it was begun, what was heard of it, and its end.
//!
//! Whatever else fails, a call is counted before it is made. Everything behind that is written as far as it can be: an
//! event that cannot be told costs no answer.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::timeout;
use towpath_auth::Secret;
use towpath_clock::Clock;
use towpath_jobs::{Answer, EventKind, JobSnapshot, RunnerEvent};
use towpath_store::{Appended, Error, JobRecord, JobRecords};

use crate::heard::Heard;
use crate::trouble::hide;

/// The time that one write or look may take. The call goes on meanwhile, but is not read.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of text that one event tells.
const PIECE: usize = 4 * 1024;
/// The most events that tell of the text of one call. What is beyond them is in the answer, and is not told before.
const PIECES_MAX: usize = 64;

/// The journal of one call.
pub(crate) struct Journal<'a> {
    jobs: &'a JobRecords,
    record: JobRecord,
    clock: &'a Clock,
    /// The key, which is not told.
    key: Option<&'a Secret>,
    /// The sequence number of the next event.
    next: u64,
    t_ms: u64,
    /// The number of bytes that were told of the text, with the key hidden.
    told: usize,
    pieces: usize,
}

impl<'a> Journal<'a> {
    pub(crate) fn new(
        jobs: &'a JobRecords,
        record: JobRecord,
        clock: &'a Clock,
        key: Option<&'a Secret>,
    ) -> Self {
        Self {
            jobs,
            record,
            clock,
            key,
            next: 1,
            t_ms: 0,
            told: 0,
            pieces: 0,
        }
    }

    /// Notes that the call begins.
    pub(crate) async fn begun(&mut self, model: &str) {
        let data = json!({ "model": model, "call": self.record.calls });
        self.tell(vec![event(EventKind::RuntimeStarted, data)])
            .await;
    }

    /// Notes why what was heard so far counts for nothing: the call is made again, or given up.
    pub(crate) async fn forget(&mut self, why: &str) {
        self.told = 0;
        let data = json!({ "message": why });
        self.tell(vec![event(EventKind::StreamError, data)]).await;
    }

    /// Tells the lines that were heard meanwhile. False: the job was asked to stop.
    pub(crate) async fn goes_on(&mut self, heard: &Heard) -> bool {
        self.tell_text(&heard.text(), false).await;
        let record = timeout(PATIENCE, self.jobs.get(&self.record.job)).await;
        !matches!(record, Ok(Ok(Some(record))) if record.stop.is_some())
    }

    /// Tells the rest of what was heard, and keeps the end of the job: who starts the job again is given that. Where it
    /// cannot be kept, the run's own commit still can.
    pub(crate) async fn conclude(mut self, heard: &Heard, end: &JobSnapshot) {
        self.tell_text(&heard.text(), true).await;
        match timeout(PATIENCE, self.keep(end)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(job = %self.record.job, "the end of a model's call is not kept: {error}");
            }
            Err(_) => {
                tracing::warn!(job = %self.record.job, "the end of a model's call is not kept in time");
            }
        }
    }

    /// The number of calls that were begun for the job, with the present one.
    pub(crate) fn calls(&self) -> u32 {
        self.record.calls.unwrap_or(1)
    }

    /// Counts another call, before it is made. False: it is not to be made.
    pub(crate) async fn count(&mut self) -> bool {
        let job = self.record.job.clone();
        match timeout(PATIENCE, self.jobs.count_call(&job)).await {
            Ok(Ok(record)) => {
                let goes_on = record.stop.is_none() && record.end.is_none();
                self.record = record;
                goes_on
            }
            _ => false,
        }
    }

    /// Gives the call up, which is made anew later. Unless it may have cost something, it does not count.
    pub(crate) async fn give_up(mut self, why: &str, counts: bool) {
        self.forget(why).await;
        if counts {
            return;
        }
        let taken = timeout(PATIENCE, self.jobs.take_call_back(&self.record.job)).await;
        if !matches!(taken, Ok(Ok(()))) {
            tracing::warn!(job = %self.record.job, "a model's call counts that was not made");
        }
    }

    async fn keep(&self, end: &JobSnapshot) -> Result<(), Error> {
        if let Some(Answer::File(text) | Answer::Stdout(text)) = &end.answer {
            let printed = matches!(end.answer, Some(Answer::Stdout(_)));
            let job = &self.record.job;
            self.jobs.keep_answer(job, text, printed).await?;
        }
        let end = JobSnapshot {
            answer: None,
            ..end.clone()
        };
        let now = self.clock.now_ms();
        self.jobs.end(&self.record, &end, now).await.map(|_| ())
    }

    /// Tells what was not told yet of a text: whole lines, or all of it once it is `over`.
    async fn tell_text(&mut self, text: &str, over: bool) {
        if self.pieces > PIECES_MAX {
            return;
        }
        let hidden = hide(text, self.key);
        let sure = match self.key.filter(|_| !over) {
            Some(key) => hidden.len() - begun(&hidden, key.expose()),
            None => hidden.len(),
        };
        let untold = hidden.get(self.told..sure).unwrap_or_default();
        let upto = match untold.rfind('\n') {
            _ if over => untold.len(),
            Some(last) => last + 1,
            None if untold.len() > PIECE => untold.len(),
            None => 0,
        };
        self.told += upto;
        let mut events = Vec::new();
        for piece in pieces(untold.get(..upto).unwrap_or_default()) {
            self.pieces += 1;
            if self.pieces > PIECES_MAX {
                let text = "The rest of the answer is not told here: it is in the output.\n";
                let data = json!({ "stream": "stderr", "text": text });
                events.push(event(EventKind::Notification, data));
                break;
            }
            events.push(event(EventKind::AssistantText, json!({ "text": piece })));
        }
        self.tell(events).await;
    }

    async fn tell(&mut self, events: Vec<(EventKind, Map<String, Value>)>) {
        if events.is_empty() {
            return;
        }
        let job = self.record.job.clone();
        match timeout(PATIENCE, self.append(events)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => tracing::debug!(%job, "events of a model's call are not taken"),
            Ok(Err(error)) => tracing::warn!(%job, "events of a model's call are lost: {error}"),
            Err(_) => tracing::warn!(%job, "events of a model's call are not taken in time"),
        }
    }

    /// Appends events behind those that are stored, of earlier calls too. False: they are not taken.
    async fn append(&mut self, told: Vec<(EventKind, Map<String, Value>)>) -> Result<bool, Error> {
        self.t_ms = self.t_ms.max(self.clock.now_ms());
        for _ in 0..2 {
            let numbered = (self.next..).zip(told.iter().cloned());
            let events: Vec<RunnerEvent> = numbered
                .map(|(seq, (kind, data))| RunnerEvent {
                    seq,
                    t_ms: self.t_ms,
                    kind,
                    data,
                })
                .collect();
            match self.jobs.append(&self.record, &events, None).await? {
                Appended::Through(seq) => {
                    self.next = seq + 1;
                    return Ok(true);
                }
                Appended::Refused(_, Some(last)) => self.next = last + 1,
                Appended::Refused(_, None) | Appended::Over => return Ok(false),
            }
        }
        Ok(false)
    }
}

fn event(kind: EventKind, data: Value) -> (EventKind, Map<String, Value>) {
    (kind, data.as_object().cloned().unwrap_or_default())
}

/// The number of bytes at the end of a text with which a word begins that may go on in what follows.
fn begun(text: &str, word: &str) -> usize {
    let beginnings = word.char_indices().rev();
    let mut beginnings = beginnings.filter_map(|(at, _)| word.get(..at));
    let found = beginnings.find(|beginning| text.ends_with(beginning));
    found.map_or(0, str::len)
}

/// A text in pieces of a bounded length, cut at the ends of lines where that can be. The line end of a piece is left out:
/// it ends with its event.
fn pieces(mut text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    while !text.is_empty() {
        let most = text.get(..text.floor_char_boundary(PIECE)).unwrap_or(text);
        let cut = match most.rfind('\n') {
            Some(line) if most.len() < text.len() => line + 1,
            _ => most.len(),
        };
        let (piece, rest) = text.split_at(cut);
        pieces.push(piece.strip_suffix('\n').unwrap_or(piece));
        text = rest;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_may_go_on_is_found_at_the_end() {
        for (text, expected) in [
            ("", 0),
            ("to s", 1),
            ("to secre", 5),
            ("to secret", 0),
            ("sesec", 3),
            ("é", 0),
        ] {
            assert_eq!(begun(text, "secret"), expected, "{text}");
        }
        assert_eq!(begun("to s", ""), 0);
    }

    #[test]
    fn pieces_are_bounded_and_end_with_lines_where_they_can() {
        let line = "é".repeat(1000);
        let text = format!("{line}\n{line}\n{line}\n\n{}", "ü".repeat(5000));
        let cut = pieces(&text);
        assert!(cut.iter().all(|piece| piece.len() <= PIECE), "{cut:?}");
        assert_eq!(cut[0], format!("{line}\n{line}"));
        assert_eq!(cut[1], format!("{line}\n"));
        assert_eq!(cut[2..].concat(), "ü".repeat(5000));
        assert_eq!(pieces("a\nb\n"), ["a\nb"]);
        assert_eq!(pieces("\n"), [""]);
        assert!(pieces("").is_empty());
    }
}
