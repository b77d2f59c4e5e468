//! The programs: what the functions do, one access at a time. What they decide in between, the engine decides.

use std::rc::Rc;

use towpath_engine::{
    Activity, AgentAnswer, FailureKind, JobAnswer, Next, Reason, Refused, Reply, Run, Wait, answer,
    driver_died, poll_job, stop,
};

use crate::fences::{Fence, Violation};
use crate::model::{Model, Written};
use crate::records::{NOW, RunRef, WaitRef, reason, slot, token};
use crate::state::{Execution, Held, Job, Op, Program, State, Then, Who};

/// The next step of the program, if it has one.
pub(crate) type Goes = Option<Op>;

/// A step that met records which contradict each other.
pub(crate) fn broken<E>(_: E) -> Violation {
    Violation::BrokenRecord
}

impl Model {
    /// Takes one step of the program at `index`. `short`: its invocation has no time left after it; `torn`: what it
    /// loads, it loads record by record.
    pub(crate) fn step(
        &self,
        state: &State,
        index: usize,
        short: bool,
        torn: bool,
    ) -> Result<State, Violation> {
        let mut state = state.clone();
        let mut program = state.programs.remove(index);
        if let Some(op) = self.access(&mut state, &mut program, short, torn)? {
            state.programs.push(Program { op, ..program });
        }
        Ok(state)
    }

    fn access(
        &self,
        state: &mut State,
        program: &mut Program,
        short: bool,
        torn: bool,
    ) -> Result<Goes, Violation> {
        let present = Held {
            rev: state.rev,
            run: state.run,
            wait: state.wait,
        };
        match program.op {
            Op::Load => {
                program.held = present;
                if torn {
                    Ok(Some(Op::LoadMore))
                } else {
                    self.loaded(program)
                }
            }
            // The mailbox is read first, so that it is the oldest.
            Op::LoadMore if self.lacks(Fence::MailboxFirst) => {
                program.held.wait = state.wait;
                Ok(Some(Op::LoadStep))
            }
            Op::LoadMore => {
                program.held = Held {
                    wait: program.held.wait,
                    ..present
                };
                Ok(Some(Op::LoadStep))
            }
            Op::LoadStep => self.load_step(state, program),
            Op::Status => self.status(state, program),
            Op::Audit if state.answered => Ok(None),
            Op::Audit => self.answer(program),
            Op::Commit { run, wait, then } => match self.commit(state, program.held, run, wait)? {
                Written::Conflict => Ok(Some(Op::Load)),
                Written::Yes => self.has_committed(program, run, wait, then, short),
            },
            Op::Put { wait, then } => match self.put(state, wait)? {
                Written::Yes if self.is_net(program, wait) => Err(Violation::NetNeeded),
                Written::Conflict if program.who == Who::Tick && then == Then::End => Ok(None),
                Written::Conflict => Ok(Some(Op::Load)),
                Written::Yes => {
                    program.held.wait = wait;
                    self.then(program, then)
                }
            },
            Op::Start => {
                self.start_job(state, &self.records.run(program.held.run));
                match program.who {
                    Who::Driver(entry) => self.park(entry, program.held),
                    _ => Ok(None),
                }
            }
            Op::Release(next) => {
                if let Who::Driver(entry) = program.who {
                    self.send(state, &token(entry), next)?;
                }
                Ok(None)
            }
            Op::Deliver { again, then } => {
                let wait = self.records.wait(program.held.wait);
                if let (Some(next), Some(token)) = (wait.wake, &wait.token)
                    && !self.send(state, token, next)?
                {
                    if self.lacks(Fence::GoneIsChecked) {
                        return self.delivered_to(program, true, again, then);
                    }
                    return Ok(Some(Op::Reread { again, then }));
                }
                self.delivered_to(program, false, again, then)
            }
            Op::Reread { again, then } => {
                let sent = self.records.wait(program.held.wait);
                let stored = self.records.wait(state.wait);
                program.held.wait = state.wait;
                let more =
                    stored.token != sent.token && stored.wake.is_some() && stored.token.is_some();
                match more {
                    true => Ok(Some(Op::Deliver { again, then })),
                    false => self.delivered_to(program, true, again, then),
                }
            }
            Op::StartExecution { gone, again, then } => {
                let generation = self.records.wait(program.held.wait).generation;
                self.start_execution(state, generation);
                self.noted(program, gone, again, then)
            }
            Op::Delivered(then) => {
                let mut noted = program.held.wait;
                if self.lacks(Fence::GoneIsChecked) {
                    noted = state.wait;
                }
                let wait = self.name(self.records.wait(noted).delivered(NOW));
                // Whoever was faster has noted it, or has something else to deliver.
                self.put(state, wait)?;
                self.then(program, then)
            }
            Op::StopJob(slot, then) => {
                self.stop_job(state, slot);
                Ok(Some(Op::Reaped(slot, then)))
            }
            Op::Reaped(slot, then) => {
                state.reap[slot] = false;
                self.goes_on(program, then, short)
            }
            Op::TickRead => {
                program.held = present;
                Ok(self.tick(program))
            }
            Op::Describe => Ok(self.describe(state, program)),
            Op::StartFirst { run, wait } => {
                self.start_job(state, &self.records.run(run));
                let (wait, then) = (Some(wait), Then::End);
                Ok(Some(Op::Commit { run, wait, then }))
            }
            Op::SendFirst { run, wait } => {
                if let Who::Driver(entry) = program.who {
                    self.send(state, &token(entry), Next::Succeed)?;
                }
                let (wait, then) = (Some(wait), Then::End);
                Ok(Some(Op::Commit { run, wait, then }))
            }
        }
    }

    /// Completes a load that saw the head, the mailbox and the step at different moments.
    fn load_step(&self, state: &State, program: &mut Program) -> Result<Goes, Violation> {
        let (head, now) = (
            self.records.run(program.held.run),
            self.records.run(state.run),
        );
        let step = match (now.head.current == head.head.current, state.left) {
            (false, Some(left)) => self.records.run(left).step.clone(),
            _ => now.step.clone(),
        };
        if step != head.step && !self.lacks(Fence::RevOfStep) {
            return Ok(Some(Op::Load));
        }
        program.held.run = self.records.name_run(Run {
            step,
            ..(*head).clone()
        });
        self.loaded(program)
    }

    /// What the program does with a run it has loaded.
    fn loaded(&self, program: &mut Program) -> Result<Goes, Violation> {
        let held = program.held;
        let (run, wait) = (self.records.run(held.run), self.records.wait(held.wait));
        let over = run.head.status.is_terminal();
        match program.who {
            Who::Starter => Ok(None),
            Who::Driver(entry) => self.enter(entry, held),
            Who::Look(heard) => {
                let stale = run.step.live_job().map(slot) != Some(heard);
                Ok(if stale {
                    None
                } else {
                    self.look(&run, &wait, true)
                })
            }
            Who::Tick => Ok(self.look(&run, &wait, false)),
            Who::Human => Ok(Some(Op::Audit)),
            Who::Stopper if over => Ok(None),
            Who::Stopper => {
                let mut after = (*run).clone();
                stop(&mut after, "somebody", None, NOW);
                Ok(Some(self.commit_and_wake(held, after, Next::Succeed)))
            }
            Who::Settle(generation) => {
                let other =
                    run.head.generation != generation && !self.lacks(Fence::GenerationOfDeath);
                if other || over {
                    return Ok(None);
                }
                let mut after = (*run).clone();
                driver_died(&mut after, "an error", NOW);
                let wait = wait.without_driver();
                let mut wait = match after.head.status.is_terminal() {
                    true => wait.over(NOW),
                    false => wait.hand_over(after.head.generation, NOW),
                };
                wait.drive &= !self.lacks(Fence::DriveInCommit);
                let (run, wait) = (self.records.name_run(after), Some(self.name(wait)));
                let then = Then::Deliver;
                Ok(Some(Op::Commit { run, wait, then }))
            }
        }
    }

    /// What the runtime says of the job of the run that the program holds.
    fn status(&self, state: &State, program: &mut Program) -> Result<Goes, Violation> {
        let held = program.held;
        let mut run = (*self.records.run(held.run)).clone();
        let Some(job) = run.step.live_job() else {
            return Err(Violation::BrokenRecord);
        };
        let said = match state.jobs[slot(job)] {
            Job::Never => return Ok(Some(Op::Start)),
            Job::Running => JobAnswer::Running,
            Job::Ended => JobAnswer::Done(AgentAnswer {
                output: "made".to_owned(),
                ..AgentAnswer::default()
            }),
            Job::Stopped => JobAnswer::Failed {
                kind: FailureKind::JobFailed,
                error: "the job was stopped from outside".to_owned(),
                detail: None,
            },
        };
        let ended = said != JobAnswer::Running;
        match program.who {
            Who::Driver(entry) => {
                let outcome = poll_job(&mut run, said, NOW).map_err(broken)?;
                self.acted(entry, held, run, outcome)
            }
            _ => {
                let wait = self.records.wait(held.wait);
                let heard = matches!(program.who, Who::Look(_));
                Ok(match ended {
                    true => Some(Op::Put {
                        wait: self.name(wait.wake(Next::PollJob, NOW)),
                        then: Then::Deliver,
                    }),
                    false if heard => None,
                    false => Some(self.looked(&wait)),
                })
            }
        }
    }

    /// Looks at what the run waits for.
    fn look(&self, run: &Rc<Run>, wait: &Wait, heard: bool) -> Goes {
        if wait.token.is_none() || wait.wake.is_some() {
            return None;
        }
        let put = |wait| {
            let (wait, then) = (self.name(wait), Then::Deliver);
            Some(Op::Put { wait, then })
        };
        if run.head.status.is_terminal() {
            return put(wait.over(NOW));
        }
        if reason(run).as_ref() != Some(&wait.reason) {
            return put(wait.wake(Next::Advance, NOW));
        }
        match run.step.activity {
            Activity::Job(_) => Some(Op::Status),
            _ if heard => None,
            _ => Some(self.looked(wait)),
        }
    }

    /// Whether a look mends what should have been right without it: it wakes a driver that waits for something else
    /// than its run does.
    fn is_net(&self, program: &Program, wait: WaitRef) -> bool {
        let wait = self.records.wait(wait);
        let looks = matches!(program.who, Who::Look(_) | Who::Tick);
        looks && matches!(wait.wake, Some(Next::Advance | Next::Succeed))
    }

    fn looked(&self, wait: &Wait) -> Op {
        let (wait, then) = (self.name(wait.looked(NOW)), Then::End);
        Op::Put { wait, then }
    }

    fn answer(&self, program: &Program) -> Result<Goes, Violation> {
        let mut run = (*self.records.run(program.held.run)).clone();
        let approve = Reply::Approve { proposal: None };
        match answer(&mut run, "apr-0-1", &approve, "somebody", NOW) {
            Ok(_) => Ok(Some(self.commit_and_wake(program.held, run, Next::Advance))),
            Err(Refused::Illegal(_)) => Err(Violation::BrokenRecord),
            // They are told that nobody asks.
            Err(_) => Ok(None),
        }
    }

    /// Commits a change that somebody from outside made to the run, and wakes its driver.
    fn commit_and_wake(&self, held: Held, after: Run, next: Next) -> Op {
        let wait = self.records.wait(held.wait);
        let over = after.head.status.is_terminal();
        let run = self.records.name_run(after);
        if self.lacks(Fence::WakeInCommit) {
            let (wait, then) = (None, Then::Wake(next));
            return Op::Commit { run, wait, then };
        }
        let wait = if over {
            wait.over(NOW)
        } else {
            wait.wake(next, NOW)
        };
        let (wait, then) = (Some(self.name(wait)), Then::Deliver);
        Op::Commit { run, wait, then }
    }

    /// After a commit: jobs that must be gone are asked to go, then the program goes on.
    fn has_committed(
        &self,
        program: &mut Program,
        run: RunRef,
        wait: Option<WaitRef>,
        then: Then,
        short: bool,
    ) -> Result<Goes, Violation> {
        let committed = self.records.run(run);
        program.held = Held {
            rev: program.held.rev + 1,
            run: self.committed(&committed),
            wait: wait.unwrap_or(program.held.wait),
        };
        match committed.changes.reap.first() {
            Some(job) => Ok(Some(Op::StopJob(slot(job), then))),
            None => self.goes_on(program, then, short),
        }
    }

    fn goes_on(&self, program: &mut Program, then: Then, short: bool) -> Result<Goes, Violation> {
        match then {
            Then::Turn if short => Ok(Some(Op::Release(Next::Advance))),
            then => self.then(program, then),
        }
    }

    fn then(&self, program: &mut Program, then: Then) -> Result<Goes, Violation> {
        let again = false;
        Ok(match (then, program.who) {
            (Then::Turn, Who::Driver(entry)) => return self.turn(entry, program.held),
            (Then::Turn | Then::End, _) => None,
            (Then::Start, _) => Some(Op::Start),
            (Then::Release(next), _) => Some(Op::Release(next)),
            (Then::Deliver, _) => {
                let then = Then::End;
                Some(Op::Deliver { again, then })
            }
            (Then::DeliverAndRelease(next), _) => {
                let then = Then::Release(next);
                Some(Op::Deliver { again, then })
            }
            (Then::Wake(next), _) => {
                let wait = self.records.wait(program.held.wait);
                let over = self.records.run(program.held.run).head.status.is_terminal();
                let wait = if over {
                    wait.over(NOW)
                } else {
                    wait.wake(next, NOW)
                };
                let (wait, then) = (self.name(wait), Then::Deliver);
                Some(Op::Put { wait, then })
            }
        })
    }

    /// The waiting driver is let go; is there one to be started?
    fn delivered_to(
        &self,
        program: &mut Program,
        gone: bool,
        again: bool,
        then: Then,
    ) -> Result<Goes, Violation> {
        let wait = self.records.wait(program.held.wait);
        // Without the fence the commit does not say so, but whoever made it knows.
        let told = self.lacks(Fence::DriveInCommit)
            && wait.fence.is_none()
            && matches!(program.who, Who::Settle(_) | Who::Driver(_));
        if wait.drive || told {
            return Ok(Some(Op::StartExecution { gone, again, then }));
        }
        self.noted(program, gone, again, then)
    }

    /// Where no driver will write the mailbox next, it is on whoever delivered to say so.
    fn noted(
        &self,
        program: &mut Program,
        gone: bool,
        again: bool,
        then: Then,
    ) -> Result<Goes, Violation> {
        let wait = self.records.wait(program.held.wait);
        let nobody = gone || again || wait.reason == Reason::Nothing;
        if nobody && (wait.wake.is_some() || wait.drive) {
            return Ok(Some(Op::Delivered(then)));
        }
        self.then(program, then)
    }

    /// Sees to a mailbox that is due.
    fn tick(&self, program: &Program) -> Goes {
        let wait = self.records.wait(program.held.wait);
        wait.due?;
        if wait.wake.is_some() || wait.drive {
            let (again, then) = (true, Then::End);
            return Some(Op::Deliver { again, then });
        }
        (wait.reason != Reason::Nothing).then_some(Op::Describe)
    }

    fn describe(&self, state: &State, program: &mut Program) -> Goes {
        let wait = self.records.wait(program.held.wait);
        if !matches!(
            state.executions[wait.generation as usize - 1],
            Execution::Waits(_)
        ) {
            program.who = Who::Settle(wait.generation);
            return Some(Op::Load);
        }
        match wait.token {
            Some(_) => Some(Op::Load),
            None => Some(self.looked(&wait)),
        }
    }
}
