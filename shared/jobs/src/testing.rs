//! The contract of a runtime as checks that any runtime can be put through: its own tests make a [`Subject`] and run
//! every [`Check`] of [`contract`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests link this module"
)]

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use towpath_engine::{CallResult, JobId, Loss, LossCause};

use crate::{
    Answer, JobRequest, JobSnapshot, Reaped, Registry, Runtime, StartError, Started, Work,
    call_result,
};

/// A runtime under test, and the work it can be given.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A new handle on the same runtime, as another process would make one.
    fn runtime(&self) -> Arc<dyn Runtime>;

    /// A job id that was not used before.
    fn new_job(&self) -> JobId;

    /// Work that ends well with this output, a single word.
    fn answering(&self, output: &str) -> Work;

    /// Work that is carried out and fails.
    fn failing(&self) -> Work;

    /// Work of a sort that the runtime does not carry out.
    fn foreign(&self) -> Work;

    /// Work that begins and never ends by itself. `None` for an inline runtime, whose jobs end within their start.
    fn endless(&self) -> Option<Work>;

    /// How often work of [`Subject::answering`] or [`Subject::endless`] has begun under this job id.
    fn begun(&self, job: &JobId) -> usize;

    /// Returns when a job that was started has ended.
    async fn ended(&self, job: &JobId);
}

/// One check of the contract.
pub struct Check {
    /// The rule that is checked, as the name of a test.
    pub name: &'static str,
    run: for<'a> fn(&'a dyn Subject) -> Running<'a>,
}

type Running<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl Check {
    /// Runs the check.
    ///
    /// # Panics
    /// If the subject breaks the rule.
    pub async fn run(&self, subject: &dyn Subject) {
        (self.run)(subject).await;
    }
}

macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        vec![$(Check { name: stringify!($name), run: |subject| Box::pin($name(subject)) }),*]
    };
}

/// The checks for this subject: what holds for every runtime, and what holds for one that is inline or that is not.
pub fn contract(subject: &dyn Subject) -> Vec<Check> {
    let mut checks = checks![
        a_job_that_was_never_started_is_unknown,
        work_that_ends_well_is_done_with_its_output,
        work_that_fails_is_a_failure,
        work_of_another_sort_is_refused_and_leaves_nothing,
        what_was_never_started_can_be_reaped,
    ];
    checks.extend(if subject.endless().is_some() {
        checks![
            a_job_started_by_many_begins_once,
            a_job_stopped_before_its_start_never_begins,
            a_live_job_ends_when_it_is_stopped,
            stopping_a_job_that_has_ended_changes_nothing,
            after_a_stop_no_start_that_is_on_its_way_begins_the_work,
        ]
    } else {
        checks![an_inline_job_is_answered_again_and_never_known]
    });
    checks
}

const GRACE: Duration = Duration::from_secs(1);

fn request(subject: &dyn Subject, work: Work) -> JobRequest {
    JobRequest {
        job: subject.new_job(),
        workspace: "acme".parse().unwrap(),
        work,
        step: towpath_engine::StepIndex(0),
        attempt: 1,
        context: serde_json::json!({"decisions": []}),
        inputs: Vec::new(),
        artifacts: Vec::new(),
        max_run: Duration::from_secs(3600),
        grace: GRACE,
    }
}

fn endless(subject: &dyn Subject) -> JobRequest {
    request(subject, subject.endless().expect("endless work"))
}

/// Starts the job and waits for its last snapshot.
async fn run(subject: &dyn Subject, request: &JobRequest) -> JobSnapshot {
    match subject.runtime().start(request).await.unwrap() {
        Started::Answered(snapshot) => *snapshot,
        Started::Accepted => end_of(subject, &request.job).await,
    }
}

async fn end_of(subject: &dyn Subject, job: &JobId) -> JobSnapshot {
    subject.ended(job).await;
    let end = subject.runtime().status(job).await.unwrap();
    let end = end.expect("a job that was started is known");
    assert!(end.status.is_final(), "{end:?}");
    end
}

fn assert_killed(end: JobSnapshot) {
    let result = call_result(end);
    let killed = |loss: &Loss| loss.cause == LossCause::Killed && !loss.message.is_empty();
    assert!(
        matches!(&result, Some(CallResult::Lost(loss)) if killed(loss)),
        "{result:?}"
    );
}

async fn a_job_that_was_never_started_is_unknown(subject: &dyn Subject) {
    let (runtime, job) = (subject.runtime(), subject.new_job());
    assert_eq!(runtime.status(&job).await, Ok(None));
    assert_eq!(runtime.tail_logs(&job, 10).await, Ok(None));
    assert_eq!(runtime.status(&job).await, Ok(None), "asking made it known");
}

async fn work_that_ends_well_is_done_with_its_output(subject: &dyn Subject) {
    let end = run(subject, &request(subject, subject.answering("mended"))).await;
    assert!(matches!(
        end.answer,
        Some(Answer::File(_) | Answer::Stdout(_))
    ));
    match call_result(end) {
        Some(CallResult::Done(answer)) => assert_eq!(answer.output.trim(), "mended"),
        other => panic!("{other:?}"),
    }
}

async fn work_that_fails_is_a_failure(subject: &dyn Subject) {
    let result = call_result(run(subject, &request(subject, subject.failing())).await);
    assert!(
        matches!(&result, Some(CallResult::Failed(failure)) if !failure.message.is_empty()),
        "{result:?}"
    );
}

async fn work_of_another_sort_is_refused_and_leaves_nothing(subject: &dyn Subject) {
    let foreign = request(subject, subject.foreign());
    let refused = subject.runtime().start(&foreign).await;
    assert!(
        matches!(&refused, Err(StartError::Refused(why)) if !why.is_empty()),
        "{refused:?}"
    );
    assert_eq!(subject.runtime().status(&foreign.job).await, Ok(None));
}

async fn what_was_never_started_can_be_reaped(subject: &dyn Subject) {
    let (registry, job) = (Registry::new([subject.runtime()]), subject.new_job());
    let kind = subject.runtime().kind();
    for _ in 0..2 {
        assert_eq!(registry.reap(kind, &job).await, Ok(Reaped::Gone));
    }
}

async fn a_job_started_by_many_begins_once(subject: &dyn Subject) {
    let request = request(subject, subject.answering("once"));
    let starts = (0..8).map(|_| {
        let (runtime, request) = (subject.runtime(), request.clone());
        async move {
            assert_eq!(runtime.start(&request).await, Ok(Started::Accepted));
            let known = runtime.status(&request.job).await.unwrap();
            assert!(known.is_some(), "a start returned before the job was known");
        }
    });
    join_all(starts).await;
    let end = end_of(subject, &request.job).await;
    assert_eq!(run(subject, &request).await, end);
    assert_eq!(subject.begun(&request.job), 1);
}

async fn a_job_stopped_before_its_start_never_begins(subject: &dyn Subject) {
    let request = request(subject, subject.answering("never"));
    subject.runtime().stop(&request.job, GRACE).await.unwrap();
    let before = subject.runtime().status(&request.job).await.unwrap();
    assert_killed(before.expect("the tombstone is a job that has ended"));
    assert_killed(run(subject, &request).await);
    assert_eq!(subject.begun(&request.job), 0);
}

async fn a_live_job_ends_when_it_is_stopped(subject: &dyn Subject) {
    let request = endless(subject);
    let runtime = subject.runtime();
    runtime.start(&request).await.unwrap();
    let live = runtime.status(&request.job).await.unwrap().unwrap();
    assert_eq!(call_result(live), None);
    for _ in 0..2 {
        subject.runtime().stop(&request.job, GRACE).await.unwrap();
    }
    assert_killed(end_of(subject, &request.job).await);
    let registry = Registry::new([subject.runtime()]);
    let reaped = registry.reap(runtime.kind(), &request.job).await;
    assert_eq!(reaped, Ok(Reaped::Gone));
}

async fn stopping_a_job_that_has_ended_changes_nothing(subject: &dyn Subject) {
    let request = request(subject, subject.answering("done"));
    let end = run(subject, &request).await;
    subject.runtime().stop(&request.job, GRACE).await.unwrap();
    assert_eq!(run(subject, &request).await, end);
    assert_eq!(subject.begun(&request.job), 1);
}

/// Starts and a stop of one id at once. When the stop has returned, the job is either known and ends, or it is unknown
/// or over and does not begin any more.
async fn after_a_stop_no_start_that_is_on_its_way_begins_the_work(subject: &dyn Subject) {
    for round in 0..12 {
        let request = endless(subject);
        let start = || {
            let (runtime, request) = (subject.runtime(), request.clone());
            async move {
                runtime.start(&request).await.unwrap();
            }
        };
        let stop = async {
            subject.runtime().stop(&request.job, GRACE).await.unwrap();
            let left = subject.runtime().status(&request.job).await.unwrap();
            let over = left.is_none_or(|left| left.status.is_final());
            over.then(|| subject.begun(&request.job))
        };
        // The stop is sometimes the first to be polled and sometimes the last.
        let (_, when_gone, _) = futures::join!(
            join_all((0..round % 4).map(|_| start())),
            stop,
            join_all((0..4 - round % 4).map(|_| start())),
        );
        start().await;
        assert_killed(end_of(subject, &request.job).await);
        let begun = subject.begun(&request.job);
        assert!(begun <= 1, "round {round}: the work began {begun} times");
        if let Some(when_gone) = when_gone {
            assert_eq!(
                begun, when_gone,
                "round {round}: the work began after it was gone"
            );
        }
    }
}

async fn an_inline_job_is_answered_again_and_never_known(subject: &dyn Subject) {
    let request = request(subject, subject.answering("again"));
    let runtime = subject.runtime();
    let first = runtime.start(&request).await.unwrap();
    assert!(matches!(&first, Started::Answered(end) if end.status.is_final()));
    assert_eq!(runtime.status(&request.job).await, Ok(None));
    assert_eq!(runtime.start(&request).await, Ok(first));
}
