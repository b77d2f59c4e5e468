//! What becomes of a job, by what its substrate says of the machine.

use std::sync::Mutex;

use serde_json::json;
use towpath_engine::StepIndex;
use towpath_jobs::CommandWork;
use towpath_store::{Claimed, MemoryObjects, Store};
use towpath_table::MemoryTable;

use super::*;

/// An order: the job, the spec, the variables.
type Ordered = (JobId, Value, BTreeMap<String, String>);

/// A service that does as a test says.
#[derive(Default)]
struct Scripted {
    /// What the next starts answer, the first one first. After these, each succeeds.
    starts: Mutex<Vec<StartError>>,
    ordered: Mutex<Vec<Ordered>>,
    seen: Mutex<Option<Seen>>,
    stopped: Mutex<Vec<String>>,
    /// A stop that comes while the machine is being started.
    meanwhile: Mutex<Option<JobRecords>>,
}

#[async_trait]
impl Substrate for Scripted {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn words(&self) -> Words {
        Words {
            service: "Scripted",
            machine: "box",
        }
    }

    fn spec(&self, request: &JobRequest, _: &CommandWork) -> Result<Value, StartError> {
        Ok(json!({ "seconds": request.max_run.as_secs() }))
    }

    async fn start(&self, order: &Order<'_>) -> Result<String, StartError> {
        let ordered = (
            order.job.clone(),
            order.spec.clone(),
            order.variables.clone(),
        );
        self.ordered.lock().unwrap().push(ordered);
        let records = self.meanwhile.lock().unwrap().take();
        if let Some(records) = records {
            let stop = JobStop {
                at: Timestamp(1),
                grace_ms: 1,
            };
            records.ask_stop(order.job, &stop).await.unwrap();
        }
        let mut starts = self.starts.lock().unwrap();
        match starts.is_empty() {
            true => Ok("box-1".to_owned()),
            false => Err(starts.remove(0)),
        }
    }

    async fn look(&self, handle: &str) -> Result<Option<Seen>, Unreadable> {
        assert!(handle.starts_with("box-"), "{handle}");
        Ok(self.seen.lock().unwrap().clone())
    }

    async fn stop(&self, handle: &str) -> Result<(), Unreadable> {
        self.stopped.lock().unwrap().push(handle.to_owned());
        Ok(())
    }

    fn console(&self, handle: &str) -> Option<String> {
        Some(format!("https://console/{handle}"))
    }
}

struct Codes;

#[async_trait]
impl StartCodes for Codes {
    async fn code(&self, job: &JobId) -> Result<Secret, Unreadable> {
        Ok(Secret::new(format!("code of {job}")))
    }
}

struct Bench {
    substrate: Arc<Scripted>,
    records: JobRecords,
    clock: Clock,
    runtime: RemoteRuntime,
    job: JobId,
}

impl Bench {
    fn new() -> Self {
        let tables = [MemoryTable::default(), MemoryTable::default()].map(Arc::new);
        let [runs, executors] = tables;
        let records = Store::new(runs, executors, Arc::new(MemoryObjects::default())).jobs();
        let substrate = Arc::new(Scripted::default());
        let clock = Clock::manual(1_000_000);
        Self {
            runtime: RemoteRuntime::new(
                records.clone(),
                Arc::clone(&substrate) as Arc<dyn Substrate>,
                Arc::new(Codes),
                clock.clone(),
            ),
            job: "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-7".parse().unwrap(),
            substrate,
            records,
            clock,
        }
    }

    async fn start(&self, seconds: u64) -> Result<Started, StartError> {
        let work = CommandWork {
            command: vec!["true".to_owned()],
            env: BTreeMap::new(),
            secrets: Vec::new(),
            checkout: None,
            events: None,
            image: None,
            resources: None,
            executor: None,
        };
        let request = JobRequest {
            job: self.job.clone(),
            workspace: "acme".parse().unwrap(),
            work: Work::Command(work),
            step: StepIndex(0),
            attempt: 1,
            context: json!({}),
            inputs: Vec::new(),
            artifacts: Vec::new(),
            max_run: Duration::from_secs(seconds),
            grace: Duration::from_secs(1),
        };
        self.runtime.start(&request).await
    }

    async fn sees(&self, seen: Option<Seen>) -> Option<JobSnapshot> {
        *self.substrate.seen.lock().unwrap() = seen;
        self.runtime.status(&self.job).await.unwrap()
    }

    async fn status(&self, seen: Seen) -> JobStatus {
        self.sees(Some(seen)).await.unwrap().status
    }
}

#[tokio::test]
async fn what_became_of_a_job_follows_from_its_machine_and_from_whether_it_had_begun() {
    for (cause, claimed, class) in [
        (Cause::Failed, false, error_class::START_FAILED),
        (Cause::Failed, true, error_class::EVICTED),
        (Cause::Done, false, error_class::EVICTED),
        (Cause::Done, true, error_class::EVICTED),
        (Cause::Stopped, true, error_class::EVICTED),
        (Cause::Reclaimed, false, error_class::RECLAIMED),
        (Cause::Reclaimed, true, error_class::RECLAIMED),
        (Cause::TimedOut, false, error_class::TIMED_OUT),
        (Cause::TimedOut, true, error_class::TIMED_OUT),
    ] {
        for asked in [false, true] {
            let bench = Bench::new();
            bench.start(60).await.unwrap();
            if claimed {
                let claim = bench.records.claim(&bench.job, "box-1", "token").await;
                assert_eq!(claim.unwrap(), Claimed::Yes);
            }
            if asked {
                let stop = JobStop {
                    at: Timestamp(1),
                    grace_ms: 1,
                };
                bench.records.ask_stop(&bench.job, &stop).await.unwrap();
            }
            let why = " (the reason)".to_owned();
            let end = bench.sees(Some(Seen::Over(Over { cause, why }))).await;
            let end = end.unwrap();
            let expected = if asked { error_class::STOPPED } else { class };
            let found = end.terminal_error_class.as_deref();
            assert_eq!(found, Some(expected), "{cause:?} {claimed} {asked}");
            let message = end.terminal_error_message.unwrap();
            let told = message.contains("the box box-1") && message.contains("the reason");
            assert_eq!(told, !asked, "{message}");
        }
    }
}

#[tokio::test]
async fn a_machine_that_is_gone_is_an_eviction_and_stays_one() {
    let bench = Bench::new();
    bench.start(60).await.unwrap();
    let end = bench.sees(None).await.unwrap();
    let class = end.terminal_error_class.as_deref();
    assert_eq!(class, Some(error_class::EVICTED));
    let again = bench.sees(Some(Seen::InProgress)).await.unwrap();
    assert_eq!(again, end, "what is recorded counts");
}

#[tokio::test]
async fn a_job_is_queued_prepared_and_runs_once_it_is_claimed() {
    let bench = Bench::new();
    bench.start(60).await.unwrap();
    assert_eq!(bench.status(Seen::Waiting).await, JobStatus::Queued);
    assert_eq!(bench.status(Seen::Preparing).await, JobStatus::Provisioning);
    assert_eq!(
        bench.status(Seen::InProgress).await,
        JobStatus::Provisioning
    );
    let claim = bench.records.claim(&bench.job, "box-1", "token").await;
    assert_eq!(claim.unwrap(), Claimed::Yes);
    assert_eq!(bench.status(Seen::Preparing).await, JobStatus::Running);
    let grace = Duration::from_secs(5);
    bench.runtime.stop(&bench.job, grace).await.unwrap();
    assert_eq!(bench.status(Seen::InProgress).await, JobStatus::Stopping);
    assert!(
        bench.substrate.stopped.lock().unwrap().is_empty(),
        "the runner has its grace"
    );
    bench.clock.advance(grace + TELLING);
    bench.runtime.stop(&bench.job, grace).await.unwrap();
    assert_eq!(*bench.substrate.stopped.lock().unwrap(), ["box-1"]);
}

#[tokio::test]
async fn a_start_whose_reply_was_lost_is_made_again_word_for_word() {
    let bench = Bench::new();
    let lost = StartError::Unavailable("the line is dead".to_owned());
    *bench.substrate.starts.lock().unwrap() = vec![lost.clone()];
    assert_eq!(bench.start(60).await, Err(lost));
    assert_eq!(bench.runtime.status(&bench.job).await, Ok(None));
    assert_eq!(bench.start(50).await, Ok(Started::Accepted));
    assert_eq!(bench.start(40).await, Ok(Started::Accepted));
    let ordered = bench.substrate.ordered.lock().unwrap();
    assert_eq!(ordered.len(), 2, "a job that has a machine gets no other");
    assert_eq!(ordered[0], ordered[1]);
    assert_eq!(ordered[0].1, json!({ "seconds": 60 }));
    let variables: Vec<_> = ordered[0].2.keys().map(String::as_str).collect();
    assert_eq!(variables, [JOB, CODE]);
}

#[tokio::test]
async fn of_two_machines_of_one_job_one_gets_it() {
    let bench = Bench::new();
    bench.start(60).await.unwrap();
    let claim = async |by: &str, token: &str| {
        let claimed = bench.records.claim(&bench.job, by, token).await;
        claimed.unwrap() == Claimed::Yes
    };
    assert!(claim("box-2", "second").await);
    assert!(!claim("box-1", "first").await);
    assert!(claim("box-2", "second").await, "a claim may be made again");
    let page = bench.runtime.read_log(&bench.job, LogPosition::default());
    let page = page.await.unwrap().unwrap();
    assert_eq!(page.console.as_deref(), Some("https://console/box-2"));
}

#[tokio::test]
async fn a_stop_that_comes_while_the_machine_is_started_ends_the_machine() {
    let bench = Bench::new();
    *bench.substrate.meanwhile.lock().unwrap() = Some(bench.records.clone());
    assert_eq!(bench.start(60).await, Ok(Started::Accepted));
    assert_eq!(*bench.substrate.stopped.lock().unwrap(), ["box-1"]);
    let claim = bench.records.claim(&bench.job, "box-1", "token").await;
    assert!(matches!(claim.unwrap(), Claimed::No(_)));
}

#[tokio::test]
async fn a_code_is_renewed_as_long_as_its_machine_waits() {
    let bench = Bench::new();
    bench.start(60).await.unwrap();
    for _ in 0..3 {
        bench.clock.advance(CODE_LEFT + Duration::from_secs(1));
        assert_eq!(bench.status(Seen::Waiting).await, JobStatus::Queued);
        let record = bench.records.get(&bench.job).await.unwrap().unwrap();
        let until = Timestamp(bench.clock.now_ms()).plus(CODE_VALID);
        assert_eq!(record.code_until, Some(until));
    }
}
