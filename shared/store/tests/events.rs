//! Events of jobs: in order, whole, each once, and at the same cost from the first to the last.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use serde_json::{Map, json};
use towpath_engine::{JobId, StepIndex, Timestamp};
use towpath_jobs::{
    Answer, BATCH_MAX, BatchCode, EventKind, JobSnapshot, JobStatus, RunnerEvent, error_class,
};
use towpath_store::{
    Appended, Claimed, EventCursor, JobRecord, JobRecords, JobStop, MemoryObjects, Store,
};
use towpath_table::{Error as TableError, Found, Item, Key, MemoryTable, Search, Table, Write};

const JOB: &str = "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-7";

/// A table that counts what is asked of it: calls, and bytes of the items that are read. Others get their turn at each.
#[derive(Debug, Default)]
struct Counting {
    inner: MemoryTable,
    calls: AtomicU64,
    bytes: AtomicU64,
}

impl Counting {
    async fn count(&self, items: &[Item]) {
        let size = |item: &Item| format!("{item:?}").len() as u64;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let read = items.iter().map(size).sum();
        self.bytes.fetch_add(read, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }

    fn counted(&self) -> (u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.calls), of(&self.bytes))
    }
}

#[async_trait]
impl Table for Counting {
    async fn get(&self, key: &Key) -> Result<Option<Item>, TableError> {
        let found = self.inner.get(key).await?;
        self.count(found.as_slice()).await;
        Ok(found)
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, TableError> {
        self.inner.get_many(keys).await
    }

    async fn query(&self, pk: &str, prefix: &str) -> Result<Vec<Item>, TableError> {
        self.inner.query(pk, prefix).await
    }

    async fn latest(
        &self,
        pk: &str,
        between: (&str, &str),
        limit: i32,
    ) -> Result<Vec<Item>, TableError> {
        let found = self.inner.latest(pk, between, limit).await?;
        self.count(&found).await;
        Ok(found)
    }

    async fn earliest(
        &self,
        pk: &str,
        between: (&str, &str),
        limit: i32,
    ) -> Result<Vec<Item>, TableError> {
        let found = self.inner.earliest(pk, between, limit).await?;
        self.count(&found).await;
        Ok(found)
    }

    async fn search(&self, search: &Search) -> Result<Found, TableError> {
        self.inner.search(search).await
    }

    async fn write(&self, write: Write) -> Result<(), TableError> {
        self.count(&[]).await;
        self.inner.write(write).await
    }

    async fn transact(&self, writes: Vec<Write>) -> Result<(), TableError> {
        self.count(&[]).await;
        self.inner.transact(writes).await
    }
}

struct Bench {
    table: Arc<Counting>,
    records: JobRecords,
    record: JobRecord,
}

/// A job whose record has begun.
async fn bench() -> Bench {
    let bench = without_record();
    assert!(bench.records.begin(&bench.record).await.unwrap());
    bench
}

fn without_record() -> Bench {
    let table = Arc::new(Counting::default());
    let executors = Arc::clone(&table) as Arc<dyn Table>;
    let runs = Arc::new(MemoryTable::default());
    let store = Store::new(runs, executors, Arc::new(MemoryObjects::default()));
    let record = JobRecord {
        job: JOB.parse().unwrap(),
        workspace: Some("acme".parse().unwrap()),
        step: Some(StepIndex(3)),
        attempt: Some(2),
        spec: Some(json!({})),
        code_hash: None,
        code_until: None,
        handle: None,
        claimed_by: None,
        token_hash: None,
        stop: None,
        answer: None,
        end: None,
        calls: None,
    };
    Bench {
        table,
        records: store.jobs(),
        record,
    }
}

fn event(seq: u64) -> RunnerEvent {
    let text = json!(format!("line {seq} of what a command may print\n"));
    RunnerEvent {
        seq,
        t_ms: 1_000 + seq,
        kind: EventKind::Notification,
        data: Map::from_iter([
            ("stream".to_owned(), json!("stdout")),
            ("text".to_owned(), text),
        ]),
    }
}

fn batch(seqs: impl IntoIterator<Item = u64>) -> Vec<RunnerEvent> {
    seqs.into_iter().map(event).collect()
}

fn terminal(seq: u64) -> Vec<RunnerEvent> {
    vec![RunnerEvent {
        kind: EventKind::RuntimeTerminal,
        ..event(seq)
    }]
}

fn ended() -> JobSnapshot {
    JobSnapshot::of(JobStatus::Terminated)
}

fn lost() -> JobSnapshot {
    JobSnapshot::ended_badly(error_class::EVICTED, "lost")
}

impl Bench {
    async fn append(&self, events: Vec<RunnerEvent>) -> Appended {
        let end = ended();
        let last = events.last().map(|event| event.kind);
        let end = (last == Some(EventKind::RuntimeTerminal)).then_some(&end);
        let appended = self.records.append(&self.record, &events, end);
        appended.await.unwrap()
    }

    /// Every event of the job's run, page by page.
    async fn read(&self) -> Vec<RunnerEvent> {
        let job: JobId = JOB.parse().unwrap();
        let (mut all, mut after) = (Vec::new(), EventCursor::default());
        loop {
            let page = self.records.events(&job.run(), after).await.unwrap();
            if page.events.is_empty() {
                return all;
            }
            after = page.next;
            all.extend(page.events.into_iter().map(|told| told.event));
        }
    }

    async fn seqs(&self) -> Vec<u64> {
        self.read().await.iter().map(|event| event.seq).collect()
    }
}

#[tokio::test]
async fn a_million_events_cost_the_same_each_and_a_late_reader_gets_all_of_them_in_order() {
    let bench = bench().await;
    let (size, mut costs) = (BATCH_MAX as u64, Vec::new());
    let batches = 1_000_000 / size + 1;
    for n in 0..batches {
        let before = bench.table.counted();
        let appended = bench.append(batch(n * size..(n + 1) * size)).await;
        assert_eq!(appended, Appended::Through((n + 1) * size - 1));
        let after = bench.table.counted();
        costs.push((after.0 - before.0, after.1 - before.1));
    }
    // The first has no chunk to look at; each other costs as many calls as the second, and about as many bytes.
    let (calls, bytes) = costs[1];
    assert_eq!(calls, 2, "a look at the last chunk, and a put");
    for (n, cost) in costs.iter().enumerate() {
        assert!(
            cost.0 == calls && cost.1 <= bytes + 64,
            "batch {n}: {cost:?}"
        );
    }
    let all = bench.read().await;
    assert_eq!(all.len() as u64, batches * size);
    assert!(all.iter().zip(0..).all(|(told, seq)| told.seq == seq));
    assert_eq!(all[77_777], event(77_777));
}

#[tokio::test]
async fn what_is_sent_again_changes_nothing_and_something_else_is_refused() {
    let bench = bench().await;
    assert_eq!(bench.append(batch([1, 2, 5])).await, Appended::Through(5));
    assert_eq!(bench.append(batch([6, 9])).await, Appended::Through(9));
    // Again, in part, overlapping, and with a part that is new.
    for (again, through) in [
        (vec![1, 2, 5], 9),
        (vec![2], 9),
        (vec![5, 6], 9),
        (vec![2, 5, 9, 10], 10),
    ] {
        assert_eq!(bench.append(batch(again)).await, Appended::Through(through));
    }
    let refused = async |events: Vec<RunnerEvent>| match bench.append(events).await {
        Appended::Refused(error, Some(10)) => error.code,
        other => panic!("{other:?}"),
    };
    // A number that was left out, and another event in the place of one that is stored.
    assert_eq!(refused(batch([3])).await, BatchCode::SeqNotMonotonic);
    let mut other = batch([10, 11]);
    other[0].t_ms += 1;
    assert_eq!(refused(other).await, BatchCode::SeqNotMonotonic);
    let mut early = batch([11]);
    early[0].t_ms = 1_009;
    assert_eq!(refused(early).await, BatchCode::TMsNotMonotonic);
    assert_eq!(bench.seqs().await, [1, 2, 5, 6, 9, 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_senders_at_once_nothing_is_doubled_and_nothing_acknowledged_is_lost() {
    let bench = Arc::new(bench().await);
    let last = 400;
    let send = |sender: u64| {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move {
            // Each sends all of the same events, in batches of a size of its own.
            let mut at = 0;
            while at <= last {
                let upto = (at + sender).min(last);
                match bench.append(batch(at..=upto)).await {
                    Appended::Through(through) => assert!(through >= upto),
                    other => panic!("the same events are never refused: {other:?}"),
                }
                at = upto + 1;
            }
        })
    };
    for sender in (1..=6).map(send).collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    assert!(bench.seqs().await.into_iter().eq(0..=last));
}

#[tokio::test]
async fn the_end_is_the_last_event_and_there_is_one() {
    let bench = bench().await;
    bench.append(batch([1])).await;
    // The second time the answer was lost.
    for _ in 0..2 {
        assert_eq!(bench.append(terminal(2)).await, Appended::Through(2));
    }
    for late in [batch([3]), terminal(3)] {
        assert_eq!(bench.append(late).await, Appended::Over);
    }
    assert!(!bench.records.end(&bench.record, &lost(), 9).await.unwrap());
    let now = bench.records.get(&bench.record.job).await.unwrap();
    let end = bench.records.ended(&now.unwrap()).await.unwrap();
    assert_eq!(end, Some(ended()));
    assert_eq!(bench.seqs().await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_end_that_is_told_while_the_job_is_given_up_is_one_of_the_two() {
    for _ in 0..50 {
        let bench = bench().await;
        bench.append(batch([1])).await;
        let (records, record) = (bench.records.clone(), bench.record.clone());
        let given_up = tokio::spawn(async move { records.end(&record, &lost(), 5).await.unwrap() });
        let (appended, given_up) = tokio::join!(bench.append(terminal(2)), given_up);
        let (told, given_up) = (appended == Appended::Through(2), given_up.unwrap());
        assert_ne!(told, given_up, "one of them is the end");
        let now = bench.records.get(&bench.record.job).await.unwrap();
        let end = now.unwrap().end.unwrap();
        assert_eq!(end, if told { ended() } else { lost() });
        let events = bench.read().await;
        let kinds = events.iter().map(|event| event.kind);
        let terminals = kinds.filter(|kind| *kind == EventKind::RuntimeTerminal);
        assert_eq!(terminals.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claim_and_a_stop_at_once_leave_no_runner_that_nobody_stops() {
    let stop = JobStop {
        at: Timestamp(1),
        grace_ms: 10,
    };
    for _ in 0..50 {
        let Bench {
            records, record, ..
        } = bench().await;
        let claim = |by: &'static str, token: &'static str| {
            let (records, job) = (records.clone(), record.job.clone());
            tokio::spawn(async move { records.claim(&job, by, token).await.unwrap() })
        };
        let (one, other) = (claim("one", "token-1"), claim("other", "token-2"));
        let (one, other, stopped) = tokio::join!(one, other, records.ask_stop(&record.job, &stop));
        let claimed = |claim: Claimed| claim == Claimed::Yes;
        let (one, other) = (claimed(one.unwrap()), claimed(other.unwrap()));
        assert!(!(one && other), "two runners have one job");
        // Whoever stops it knows whether there is a runner to wait for.
        assert_eq!(stopped.unwrap().claimed_by.is_some(), one || other);
        let again = records.claim(&record.job, "one", "token-1").await;
        assert_eq!(claimed(again.unwrap()), one, "it is its own runner's");
    }
}

#[tokio::test]
async fn a_job_that_is_stopped_before_it_has_a_record_never_begins() {
    let Bench {
        records, record, ..
    } = without_record();
    let stop = |at: u64| JobStop {
        at: Timestamp(at),
        grace_ms: 10,
    };
    let tombstone = records.ask_stop(&record.job, &stop(1)).await.unwrap();
    assert_eq!((tombstone.workspace, tombstone.stop), (None, Some(stop(1))));
    assert!(!records.begin(&record).await.unwrap());
    let claimed = records.claim(&record.job, "one", "token").await.unwrap();
    assert!(matches!(claimed, Claimed::No(_)));
    let again = records.ask_stop(&record.job, &stop(9)).await.unwrap();
    assert_eq!(again.stop, Some(stop(1)), "the first request counts");
}

#[tokio::test]
async fn a_job_is_the_first_runners() {
    let Bench {
        records, record, ..
    } = bench().await;
    let job = &record.job;
    let first = records.claim(job, "one", "token-1").await.unwrap();
    assert_eq!(first, Claimed::Yes);
    let second = records.claim(job, "other", "token-2").await.unwrap();
    assert!(matches!(second, Claimed::No(_)));
    let again = records.claim(job, "one", "token-1").await.unwrap();
    assert_eq!(again, Claimed::Yes, "it is its own runner's");
    let now = records.get(job).await.unwrap().unwrap();
    assert_eq!(now.worker(), Some("one"));
}

#[tokio::test]
async fn an_answer_that_comes_after_the_end_does_not_replace_the_one_that_was_kept() {
    let Bench {
        records, record, ..
    } = bench().await;
    let job = &record.job;
    assert!(records.keep_answer(job, "in time", false).await.unwrap());
    assert!(records.end(&record, &ended(), 1).await.unwrap());
    assert!(!records.keep_answer(job, "too late", false).await.unwrap());
    let now = records.get(job).await.unwrap().unwrap();
    let end = records.ended(&now).await.unwrap().unwrap();
    assert_eq!(end.answer, Some(Answer::File("in time".to_owned())));
}
