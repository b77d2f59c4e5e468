//! What an invocation of the machine does with the run it has loaded: the shell's `drive`, between its accesses.

use towpath_engine::{
    Activity, AgentAnswer, Fence as Entry, Next, Outcome, Reason, Run, Stale, Status, Wait,
    advance, fail_outcome, hand_over, record,
};

use crate::fences::{Fence, Violation};
use crate::model::Model;
use crate::program::{Goes, broken};
use crate::records::{NOW, reason, token};
use crate::state::{Held, Op, Then};

impl Model {
    /// Sees whether an invocation still has anything to say.
    pub(crate) fn enter(&self, entry: Entry, held: Held) -> Result<Goes, Violation> {
        let (run, wait) = (self.records.run(held.run), self.records.wait(held.wait));
        let newer = wait.fence.is_some_and(|held| held > entry) && !self.lacks(Fence::OlderEntry);
        let ours = run.head.generation == entry.generation;
        if ours && newer {
            return Ok(None);
        }
        if (!ours && !self.lacks(Fence::Generation)) || run.head.status.is_terminal() {
            return Ok(Some(Op::Release(Next::Succeed)));
        }
        if wait.entries >= self.entries_limit && wait.fence != Some(entry) {
            let mut after = (*run).clone();
            hand_over(&mut after);
            let mut wait = wait.without_driver().hand_over(after.head.generation, NOW);
            wait.drive &= !self.lacks(Fence::DriveInCommit);
            let then = Then::DeliverAndRelease(Next::Handover);
            let (run, wait) = (self.records.name_run(after), Some(self.name(wait)));
            return Ok(Some(Op::Commit { run, wait, then }));
        }
        self.turn(entry, held)
    }

    /// One action.
    pub(crate) fn turn(&self, entry: Entry, held: Held) -> Result<Goes, Violation> {
        let mut run = (*self.records.run(held.run)).clone();
        let outcome = match (run.head.status, &run.step.activity) {
            (Status::Done | Status::Failed, _) => return Ok(Some(Op::Release(Next::Succeed))),
            (Status::Blocked | Status::Paused, _) => return self.park(entry, held),
            (Status::Running, Activity::Job(_)) => return Ok(Some(Op::Status)),
            (Status::Running, Activity::Inline) => {
                record(&mut run, AgentAnswer::default(), NOW).map_err(broken)?
            }
            (Status::Running, _) => advance(&mut run, NOW).map_err(broken)?,
        };
        self.acted(entry, held, run, outcome)
    }

    /// What came of an action, and if it ended the step, the beginning of the next.
    pub(crate) fn acted(
        &self,
        entry: Entry,
        held: Held,
        mut run: Run,
        outcome: Outcome,
    ) -> Result<Goes, Violation> {
        fail_outcome(&mut run, outcome, NOW);
        if run.head.status == Status::Running && run.step.activity == Activity::Pending {
            advance(&mut run, NOW).map_err(broken)?;
        }
        self.fold(entry, held, run)
    }

    /// Commits what an action made of the run.
    fn fold(&self, entry: Entry, held: Held, run: Run) -> Result<Goes, Violation> {
        let before = self.records.run(held.run);
        let wait = self.records.wait(held.wait);
        if run == *before {
            return self.park(entry, held);
        }
        let live = run.step.live_job().cloned();
        let dispatched = live.is_some() && live.as_ref() != before.step.live_job();
        let (reason, over) = (reason(&run), run.head.status.is_terminal());
        let run = self.records.name_run(run);
        if over {
            let wait = self.name(wait.without_driver().over(NOW));
            if self.lacks(Fence::CommitFirst) {
                return Ok(Some(Op::SendFirst { run, wait }));
            }
            let (wait, then) = (Some(wait), Then::Release(Next::Succeed));
            return Ok(Some(Op::Commit { run, wait, then }));
        }
        let Some(reason) = reason else {
            let wait = (!self.lacks(Fence::SeqOfProgress)).then(|| self.name(wait.driven_on()));
            let then = Then::Turn;
            return Ok(Some(Op::Commit { run, wait, then }));
        };
        if dispatched && self.lacks(Fence::TokenFirst) {
            let (wait, then) = (None, Then::Start);
            return Ok(Some(Op::Commit { run, wait, then }));
        }
        match self.begins(&wait, entry, reason) {
            Ok(wait) => {
                let wait = self.name(wait);
                if dispatched && self.lacks(Fence::IntentFirst) {
                    return Ok(Some(Op::StartFirst { run, wait }));
                }
                let then = if dispatched { Then::Start } else { Then::End };
                let wait = Some(wait);
                Ok(Some(Op::Commit { run, wait, then }))
            }
            Err(Stale::Superseded) => Ok(None),
            Err(Stale::OtherGeneration) => Ok(Some(Op::Release(Next::Succeed))),
        }
    }

    /// Begins the wait that the run is in, unless this entry has done so already.
    pub(crate) fn park(&self, entry: Entry, held: Held) -> Result<Goes, Violation> {
        let (run, wait) = (self.records.run(held.run), self.records.wait(held.wait));
        let Some(reason) = reason(&run) else {
            return self.turn(entry, held);
        };
        let stored = wait.token == Some(token(entry));
        if stored && wait.reason == reason && wait.wake.is_none() {
            return Ok(None);
        }
        match self.begins(&wait, entry, reason) {
            Ok(wait) => {
                let (wait, then) = (self.name(wait), Then::End);
                Ok(Some(Op::Put { wait, then }))
            }
            Err(Stale::Superseded) => Ok(None),
            Err(Stale::OtherGeneration) => Ok(Some(Op::Release(Next::Succeed))),
        }
    }

    /// The engine's own rule, or what becomes of it with one of its fences removed.
    fn begins(&self, wait: &Wait, entry: Entry, reason: Reason) -> Result<Wait, Stale> {
        let begin = |wait: &Wait| wait.begin(entry, &token(entry), reason.clone(), NOW);
        match begin(wait) {
            Err(Stale::Superseded) if self.lacks(Fence::OlderEntry) => begin(&Wait {
                fence: None,
                ..wait.clone()
            }),
            Err(Stale::OtherGeneration) if self.lacks(Fence::Generation) => begin(&Wait {
                generation: entry.generation,
                fence: None,
                ..wait.clone()
            }),
            other => other,
        }
    }
}
