//! Commit: what a transition made of a run becomes durable, then what it wants done is done.

use towpath_engine::{Outcome, Reason, Run, Wait, fail_outcome};
use towpath_store::{Commit, Loaded};

use crate::{App, Error};

/// What the outcome of a transition is to the mailbox.
pub(crate) enum Mailbox {
    /// It stays as it is but for its `seq`: there is more to do at once.
    Stays,
    /// It becomes this.
    Becomes(Wait),
}

impl App {
    /// Commits `run`, which a transition made of `before`, together with its mailbox. `waits` says what the mailbox
    /// becomes while the run goes on; the end of a run ends its wait whatever was going on. Returns the run as it now
    /// is on record.
    ///
    /// # Errors
    /// A conflict means that nothing was written and the caller is to load and decide again.
    pub(crate) async fn commit(
        &self,
        before: &Loaded,
        run: Run,
        mailbox: Mailbox,
    ) -> Result<Loaded, Error> {
        let now = self.now();
        let wait = match mailbox {
            Mailbox::Becomes(wait) => wait,
            Mailbox::Stays => before.wait.driven_on(),
        };
        let touched = run.step != before.run.step || run.head.current != before.run.head.current;
        let untouched_yet =
            run.step.activity == towpath_engine::Activity::Pending && run.step.attempt == 0;
        let commit = Commit {
            before: &before.run.head,
            head: &run.head,
            step: Some(&run.step).filter(|_| touched && !untouched_yet),
            changes: &run.changes,
            wait: &wait,
            reap_at: now.plus(towpath_engine::REDELIVERY),
        };
        self.store.commit(&commit).await?;
        let reap = run.changes.reap.clone();
        let mut committed = Loaded { wait, run };
        committed.run.head.rev = before.run.head.rev + 1;
        committed.run.changes = towpath_engine::Changes::default();
        for job in &reap {
            self.reap(&committed.run.plan, job).await;
        }
        Ok(committed)
    }

    /// Takes an outcome that reports a failure to the funnel.
    pub(crate) fn funnel(&self, run: &mut Run, outcome: Outcome) -> Outcome {
        fail_outcome(run, outcome, self.now())
    }
}

/// What a run waits for, by its outcome. `None`: it does not wait.
pub(crate) fn reason(run: &Run) -> Option<Reason> {
    use towpath_engine::Activity;
    match run.outcome() {
        Outcome::AwaitingDecision { decision } => Some(Reason::Human { subject: decision }),
        Outcome::AwaitingGate { step } => {
            let polls = run.step.gate.as_ref().map_or(0, |gate| gate.polls);
            Some(Reason::Gate { step, polls })
        }
        Outcome::Paused => Some(Reason::Budget),
        Outcome::AwaitingJob { .. } => match &run.step.activity {
            Activity::Job(job) => Some(Reason::Job {
                job: job.id.clone(),
                deadline: job.deadline,
            }),
            _ => None,
        },
        _ => None,
    }
}
