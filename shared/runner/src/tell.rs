//! What is told of a job: its events, numbered and in batches.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use towpath_engine::{EventFormat, JobId};
use towpath_jobs::{
    BATCH_MAX, EVENT_VERSION, EventBatch, EventKind, JobSnapshot, LogPart, LogStream, RunnerEvent,
};

use crate::adapters::Lines;

/// The most bytes of text of one event. Whole lines that come together are told together.
const EVENT_TEXT: usize = 4 * 1024;
/// The most bytes of the events of one batch, unless one alone is larger; a batch of 1 MiB is taken.
const BATCH_BYTES: usize = 512 * 1024;

/// Events that were not sent yet.
pub(crate) struct Telling {
    job: JobId,
    /// What makes events of printed lines.
    adapter: Option<Lines>,
    next_seq: u64,
    last_ms: u64,
    waiting: Vec<RunnerEvent>,
}

/// A telling, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeptTelling {
    next_seq: u64,
    last_ms: u64,
    waiting: Vec<RunnerEvent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begun: Option<String>,
}

impl Telling {
    pub(crate) fn new(job: &JobId) -> Self {
        Self {
            job: job.clone(),
            adapter: None,
            next_seq: 0,
            last_ms: 0,
            waiting: Vec::new(),
        }
    }

    /// Makes events of what the command prints in this form.
    pub(crate) fn reads(&mut self, format: Option<EventFormat>) {
        self.adapter = format.map(Lines::new);
    }

    /// What has to be kept for somebody else to go on with the telling.
    pub(crate) fn kept(&self) -> KeptTelling {
        KeptTelling {
            next_seq: self.next_seq,
            last_ms: self.last_ms,
            waiting: self.waiting.clone(),
            begun: self.adapter.as_ref().map(|it| it.begun().to_owned()),
        }
    }

    /// Goes on with a telling that was kept.
    pub(crate) fn go_on(job: &JobId, kept: KeptTelling, format: Option<EventFormat>) -> Self {
        let begun = kept.begun.unwrap_or_default();
        Self {
            job: job.clone(),
            adapter: format.map(|format| Lines::new(format).after(begun)),
            next_seq: kept.next_seq,
            last_ms: kept.last_ms,
            waiting: kept.waiting,
        }
    }

    /// Adds an event.
    pub(crate) fn add(&mut self, kind: EventKind, data: Value) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        // A clock that is set back does not reorder events.
        self.last_ms = self.last_ms.max(now);
        let data = match data {
            Value::Object(data) => data,
            other => Map::from_iter([("value".to_owned(), other)]),
        };
        self.waiting.push(RunnerEvent {
            seq: self.next_seq,
            t_ms: self.last_ms,
            kind,
            data,
        });
        self.next_seq += 1;
    }

    /// Adds what was printed.
    pub(crate) fn printed(&mut self, parts: Vec<LogPart>) {
        for part in parts {
            let stream = match (part.stream, &mut self.adapter) {
                (LogStream::Stdout, Some(adapter)) => {
                    for (kind, data) in adapter.read(&part.text) {
                        self.add(kind, data);
                    }
                    continue;
                }
                (LogStream::Stdout, None) => "stdout",
                (LogStream::Stderr, _) => "stderr",
            };
            for text in in_lines(&part.text) {
                let data = json!({ "stream": stream, "text": text });
                self.add(EventKind::Notification, data);
            }
        }
    }

    /// Adds the end of the job. The answer is handed in by itself.
    pub(crate) fn end(&mut self, end: &JobSnapshot) {
        let rest = self.adapter.as_mut().map(Lines::rest).unwrap_or_default();
        for (kind, data) in rest {
            self.add(kind, data);
        }
        let told = JobSnapshot {
            answer: None,
            ..end.clone()
        };
        let mut data = serde_json::to_value(told).unwrap_or_default();
        if let Some(data) = data.as_object_mut() {
            data.retain(|_, value| !value.is_null());
        }
        self.add(EventKind::RuntimeTerminal, data);
    }

    /// The next batch, which stays the next one until it was [`Telling::sent`]. `None`: all is told.
    pub(crate) fn batch(&self) -> Option<EventBatch> {
        let mut bytes = 0;
        let fits = |event: &&RunnerEvent| {
            let first = bytes == 0;
            bytes += 64 + encoded(&event.data);
            first || bytes <= BATCH_BYTES
        };
        let events: Vec<_> = self
            .waiting
            .iter()
            .take(BATCH_MAX)
            .take_while(fits)
            .cloned()
            .collect();
        (!events.is_empty()).then(|| EventBatch {
            v: EVENT_VERSION,
            run_id: self.job.to_string(),
            events,
        })
    }

    /// Forgets a batch that was taken.
    pub(crate) fn sent(&mut self, batch: &EventBatch) {
        self.waiting
            .drain(..batch.events.len().min(self.waiting.len()));
    }
}

/// The bytes that an event's data takes on the wire: a control character takes six.
fn encoded(data: &Map<String, Value>) -> usize {
    serde_json::to_string(data).map_or(0, |text| text.len())
}

/// A text in pieces of whole lines, each of at most [`EVENT_TEXT`] bytes, a longer line cut between characters.
fn in_lines(text: &str) -> Vec<&str> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while rest.len() > EVENT_TEXT {
        let room = (0..=EVENT_TEXT).rev().find(|at| rest.is_char_boundary(*at));
        let (head, _) = rest.split_at(room.unwrap_or(0));
        let at = head.rfind('\n').map_or(head.len(), |at| at + 1);
        let (piece, behind) = rest.split_at(at.max(1));
        pieces.push(piece);
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_told_whole_in_pieces_of_lines() {
        let lines = format!("{}\n", "é".repeat(700)).repeat(9);
        let pieces = in_lines(&lines);
        assert_eq!(pieces.concat(), lines);
        assert!(
            pieces
                .iter()
                .all(|it| it.len() <= EVENT_TEXT && it.ends_with('\n'))
        );
        let long = "é".repeat(5000);
        let pieces = in_lines(&long);
        assert_eq!((pieces.concat(), pieces.len()), (long.clone(), 3));
        assert_eq!(in_lines("two\nlines\n"), ["two\nlines\n"]);
        assert!(in_lines("").is_empty());
    }

    #[test]
    fn a_batch_stays_the_next_one_until_it_was_sent_and_none_is_too_large() {
        let mut telling = Telling::new(&"job_01ARZ3NDEKTSV4RRFFQ69G5FAV-7".parse().unwrap());
        let text = "x\u{1}".repeat(EVENT_TEXT / 2);
        for _ in 0..1000 {
            let stream = LogStream::Stdout;
            telling.printed(vec![LogPart {
                stream,
                text: text.clone(),
            }]);
        }
        let (mut seen, mut batches) = (Vec::new(), 0);
        while let Some(batch) = telling.batch() {
            assert_eq!(telling.batch(), Some(batch.clone()));
            assert!(serde_json::to_vec(&batch).unwrap().len() < 1024 * 1024);
            EventBatch::read(&serde_json::to_value(&batch).unwrap()).unwrap();
            seen.extend(batch.events.iter().map(|event| event.seq));
            telling.sent(&batch);
            batches += 1;
        }
        assert!(seen.into_iter().eq(0..1000));
        assert!(batches >= 1000 / 36, "{batches}");
    }
}
