//! Events of jobs, in the order in which they were taken.
//!
//! Each batch is one item, a chunk, and the chunks of a job are numbered from 1 without a gap: a batch is appended by
//! putting the chunk behind the last one, under the condition that nobody has. So of two senders at once one is first, the
//! other looks again, and what was acknowledged is never written over. The last chunk of a job holds its
//! `runtime_terminal`, and is put in one transaction with the end of the job's record.
//!
//! A chunk of more than [`IN_ROW`] bytes is an object of the bucket, put before its item. The events of all jobs of a run
//! lie in one partition, in the order of the jobs, and no job begins before the one that it follows is over: so a reader
//! reads on from where it was, and misses nothing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use towpath_engine::{JobId, RunId, StepIndex};
use towpath_jobs::{BatchCode, BatchError, EventKind, JobSnapshot, RunnerEvent, follows};
use towpath_table::{Condition, Item, Key};

use crate::form::{put, record};
use crate::job_records::held;
use crate::{Error, JobRecord, JobRecords, keys};

/// The most bytes of events that an item holds: a put of an object costs as much as the units of this.
const IN_ROW: usize = 8 * 1024;
/// The most chunks that are read to compare what is sent again.
const COMPARED: usize = 256;
/// The last number that a chunk can have: ten digits, as they are in its key.
const LAST_CHUNK: u64 = 9_999_999_999;
/// How often a batch is appended anew after somebody else was first.
const RACES: usize = 64;
/// The most chunks of one page for readers, and the most bytes after which no further one is added.
const PAGE: (i32, usize) = (16, 1024 * 1024);

/// A batch as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk {
    job: JobId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<StepIndex>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// The number of the chunk among those of its job, from 1.
    number: u64,
    first: u64,
    last: u64,
    t_ms: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    terminal: bool,
    /// The events as JSON, if they are in the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events: Option<String>,
    /// The key of the object that holds them, if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object: Option<String>,
}

/// The outcome of appending a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Appended {
    /// All events up to this one are stored.
    Through(u64),
    /// The batch breaks a rule; the last sequence number that is stored.
    Refused(BatchError, Option<u64>),
    /// The job is over.
    Over,
}

/// An event of a run, as its readers see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobEvent {
    /// The job that told of it.
    pub job_id: JobId,
    /// The step that the job works for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepIndex>,
    /// The number of the call among those of its step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The event, as the runner told it.
    #[serde(flatten)]
    pub event: RunnerEvent,
    /// The place of the event in the run: what is read after it begins behind it.
    pub cursor: EventCursor,
}

/// A page of the events of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventPage {
    /// The events.
    pub events: Vec<JobEvent>,
    /// The place behind them.
    pub next: EventCursor,
    /// Whether the run is over and there is nothing further.
    pub over: bool,
}

/// A place among the events of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EventCursor {
    job: u32,
    chunk: u64,
    seq: u64,
}

/// The error of a text that is no [`EventCursor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a place among events is what a page of them gave as `next`, or an event as `cursor`")]
pub struct NoCursor;

impl EventCursor {
    /// The beginning of a job's events.
    pub fn of_job(job: &JobId) -> Self {
        Self {
            job: job.number().unwrap_or_default(),
            ..Self::default()
        }
    }

    /// A place within the events of a job: behind this sequence number, in the chunk of this number.
    pub fn within(job: &JobId, chunk: u64, seq: u64) -> Self {
        Self {
            chunk: chunk.min(LAST_CHUNK),
            seq,
            ..Self::of_job(job)
        }
    }

    /// The numbers of [`EventCursor::within`].
    pub fn in_job(self) -> (u64, u64) {
        (self.chunk, self.seq)
    }

    fn lower_bound(self) -> String {
        format!("{}{:010}#{:010}", keys::EVENTS, self.job, self.chunk)
    }
}

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.job, self.chunk, self.seq)
    }
}

impl FromStr for EventCursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let mut parts = text.split('-');
        let mut next = || parts.next().and_then(|part| part.parse::<u64>().ok());
        let (job, chunk, seq) = (next(), next(), next());
        match (
            job.and_then(|it| it.try_into().ok()),
            chunk,
            seq,
            parts.next(),
        ) {
            (Some(job), Some(chunk), Some(seq), None) if chunk <= LAST_CHUNK => {
                Ok(Self { job, chunk, seq })
            }
            _ => Err(NoCursor),
        }
    }
}

impl From<EventCursor> for String {
    fn from(cursor: EventCursor) -> Self {
        cursor.to_string()
    }
}

impl TryFrom<String> for EventCursor {
    type Error = NoCursor;

    fn try_from(text: String) -> Result<Self, NoCursor> {
        text.parse()
    }
}

impl JobRecords {
    /// Appends a batch, whose rules by itself were checked. What is stored already is passed over, if it is the same.
    ///
    /// `end` is the end of the job that the batch's `runtime_terminal` tells of; a batch without one has none.
    ///
    /// # Errors
    /// If the events cannot be read or written. What was sent may be stored.
    pub async fn append(
        &self,
        to: &JobRecord,
        batch: &[RunnerEvent],
        end: Option<&JobSnapshot>,
    ) -> Result<Appended, Error> {
        for _ in 0..RACES {
            let last = self.last_chunk(&to.job).await?;
            let new = match self.new_of(batch, last.as_ref()).await? {
                Ok(new) => new,
                Err(refused) => return Ok(refused),
            };
            let Some(through) = new.last().map(|event| event.seq) else {
                return Ok(Appended::Through(last.map_or(0, |last| last.last)));
            };
            if last.as_ref().is_some_and(|last| last.terminal) {
                return Ok(Appended::Over);
            }
            let number = last.map_or(0, |last| last.number) + 1;
            if self.put_chunk(to, number, new, end).await? {
                return Ok(Appended::Through(through));
            }
        }
        Err(Error::Conflict)
    }

    /// Ends a job whose runner did not: with an event of its own, behind those that were taken. False: it is over, or not
    /// as it was when `record` was read.
    ///
    /// # Errors
    /// If the end cannot be written.
    pub async fn end(
        &self,
        record: &JobRecord,
        end: &JobSnapshot,
        t_ms: u64,
    ) -> Result<bool, Error> {
        for _ in 0..RACES {
            let last = self.last_chunk(&record.job).await?;
            if last.as_ref().is_some_and(|last| last.terminal) {
                return Ok(false);
            }
            let told = serde_json::to_value(end).map_err(|e| Error::Broken(e.to_string()))?;
            let terminal = RunnerEvent {
                seq: last.as_ref().map_or(0, |last| last.last + 1),
                t_ms: t_ms.max(last.as_ref().map_or(0, |last| last.t_ms)),
                kind: EventKind::RuntimeTerminal,
                data: told.as_object().cloned().unwrap_or_default(),
            };
            let number = last.map_or(0, |last| last.number) + 1;
            if self
                .put_chunk(record, number, &[terminal], Some(end))
                .await?
            {
                return Ok(true);
            }
            let now = self.get(&record.job).await?;
            if now.is_none_or(|now| now.end.is_some()) {
                return Ok(false);
            }
        }
        Err(Error::Conflict)
    }

    /// Puts a chunk behind the last one, with the end of the job if it is the last of all. False: somebody else was first.
    async fn put_chunk(
        &self,
        to: &JobRecord,
        number: u64,
        events: &[RunnerEvent],
        end: Option<&JobSnapshot>,
    ) -> Result<bool, Error> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else {
            return Ok(true);
        };
        let text = serde_json::to_string(events).map_err(|e| Error::Broken(e.to_string()))?;
        let mut chunk = Chunk {
            job: to.job.clone(),
            step: to.step,
            attempt: to.attempt,
            number,
            first: first.seq,
            last: last.seq,
            t_ms: last.t_ms,
            terminal: last.kind == EventKind::RuntimeTerminal,
            events: None,
            object: None,
        };
        if text.len() <= IN_ROW {
            chunk.events = Some(text);
        } else {
            let name = format!("events-{number:010}");
            chunk.object = Some(self.put_object(&to.job, &name, &text).await?);
        }
        let key = chunk_key(&to.job, number)?;
        let put = put(key, &chunk)?.when(Condition::Absent);
        match end.filter(|_| chunk.terminal) {
            None => held(self.executors.write(put).await),
            Some(end) => {
                let ending = Self::ending(&to.job, end)?;
                held(self.executors.transact(vec![put, ending]).await)
            }
        }
    }

    /// The part of a batch that is not stored yet, or why the batch is not taken.
    async fn new_of<'b>(
        &self,
        batch: &'b [RunnerEvent],
        last: Option<&Chunk>,
    ) -> Result<Result<&'b [RunnerEvent], Appended>, Error> {
        let Some(last) = last else {
            return Ok(Ok(batch));
        };
        let known = batch.partition_point(|event| event.seq <= last.last);
        let (again, new) = batch.split_at(known);
        if let Some(other) = self.first_other(again, last).await? {
            let message = format!(
                "events[{other}].seq is {}, and another event is stored there or behind it; go on after {}",
                again.get(other).map_or(0, |event| event.seq),
                last.last
            );
            let code = BatchCode::SeqNotMonotonic;
            return Ok(Err(Appended::Refused(
                BatchError { code, message },
                Some(last.last),
            )));
        }
        if let Some(next) = new.first()
            && let Err(error) = follows(known, next, last.last, last.t_ms)
        {
            return Ok(Err(Appended::Refused(error, Some(last.last))));
        }
        Ok(Ok(new))
    }

    /// The first of these events, all of them at or before the last one stored, that is not stored just so.
    async fn first_other(
        &self,
        again: &[RunnerEvent],
        last: &Chunk,
    ) -> Result<Option<usize>, Error> {
        let (mut read, mut held): (usize, Option<(u64, u64, Vec<RunnerEvent>)>) = (0, None);
        for (index, event) in again.iter().enumerate() {
            let here = held
                .as_ref()
                .is_some_and(|(first, last, _)| (*first..=*last).contains(&event.seq));
            if !here {
                read += 1;
                if read > COMPARED {
                    return Ok(Some(index));
                }
                let Some(chunk) = self.chunk_with(event.seq, last).await? else {
                    return Ok(Some(index));
                };
                held = Some((chunk.first, chunk.last, self.events_of(&chunk).await?));
            }
            let same = held
                .as_ref()
                .is_some_and(|(_, _, events)| events.contains(event));
            if !same {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// The chunk that holds this sequence number, if one does, by halves.
    async fn chunk_with(&self, seq: u64, last: &Chunk) -> Result<Option<Chunk>, Error> {
        if seq >= last.first {
            return Ok(Some(last.clone()));
        }
        let (mut low, mut high) = (1, last.number.saturating_sub(1));
        while low <= high {
            let middle = low + (high - low) / 2;
            let key = chunk_key(&last.job, middle)?;
            let item = self.executors.get(&key).await?;
            let item = item.ok_or_else(|| Error::damaged(&key, "it is missing"))?;
            let chunk: Chunk = record(item)?;
            if seq < chunk.first {
                high = middle - 1;
            } else if seq > chunk.last {
                low = middle + 1;
            } else {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    async fn last_chunk(&self, job: &JobId) -> Result<Option<Chunk>, Error> {
        let prefix = keys::events_of(job)?;
        let (first, last) = (format!("{prefix}0"), format!("{prefix}~"));
        let run = job.run();
        let found = self
            .executors
            .latest(run.as_str(), (&first, &last), 1)
            .await?;
        found.into_iter().next().map(record).transpose()
    }

    async fn events_of(&self, chunk: &Chunk) -> Result<Vec<RunnerEvent>, Error> {
        let text = match (&chunk.events, &chunk.object) {
            (Some(text), _) => text.clone(),
            (None, Some(object)) => self.objects.get(object).await?,
            (None, None) => "[]".to_owned(),
        };
        let broken = |error| Error::Broken(format!("events of {}: {error}", chunk.job));
        serde_json::from_str(&text).map_err(broken)
    }

    /// A page of the events of a run, from a place on. Empty: there is nothing further yet.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn events(&self, run: &RunId, after: EventCursor) -> Result<EventPage, Error> {
        self.page(run, after, "~").await
    }

    /// A page of the events of one job, from a place on.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn events_of_job(&self, job: &JobId, after: EventCursor) -> Result<EventPage, Error> {
        let prefix = keys::events_of(job)?;
        let upto = format!("{}~", prefix.trim_start_matches(keys::EVENTS));
        self.page(&job.run(), after.max(EventCursor::of_job(job)), &upto)
            .await
    }

    async fn page(&self, run: &RunId, after: EventCursor, upto: &str) -> Result<EventPage, Error> {
        let upto = format!("{}{upto}", keys::EVENTS);
        let between = (&*after.lower_bound(), &*upto);
        let items = self.executors.earliest(run.as_str(), between, PAGE.0);
        let mut page = EventPage {
            events: Vec::new(),
            next: after,
            over: false,
        };
        let mut bytes = 0;
        for item in items.await? {
            if bytes > PAGE.1 {
                break;
            }
            bytes += self.add_to(&mut page, item, after).await?;
        }
        Ok(page)
    }

    /// Adds the events of a chunk behind a place to a page. Returns about how many bytes they are.
    async fn add_to(
        &self,
        page: &mut EventPage,
        item: Item,
        after: EventCursor,
    ) -> Result<usize, Error> {
        let chunk: Chunk = record(item)?;
        let job = chunk.job.number().unwrap_or_default();
        let begun = (job, chunk.number) == (after.job, after.chunk);
        if begun && chunk.last <= after.seq {
            return Ok(0);
        }
        let events = self.events_of(&chunk).await?;
        let mut bytes = 0;
        for event in events {
            if begun && event.seq <= after.seq {
                continue;
            }
            let cursor = EventCursor {
                job,
                chunk: chunk.number,
                seq: event.seq,
            };
            bytes += 64 + Value::Object(event.data.clone()).to_string().len();
            page.next = cursor;
            page.events.push(JobEvent {
                job_id: chunk.job.clone(),
                step: chunk.step,
                attempt: chunk.attempt,
                event,
                cursor,
            });
        }
        Ok(bytes)
    }
}

fn chunk_key(job: &JobId, number: u64) -> Result<Key, Error> {
    let prefix = keys::events_of(job)?;
    Ok(Key::new(
        job.run().as_str(),
        format!("{prefix}{number:010}"),
    ))
}
