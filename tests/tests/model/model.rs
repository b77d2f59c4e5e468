//! The model: what surrounds the programs. The tables with their conditions, the machine, the runtime of jobs.

use towpath_engine::{Changes, Fence as Entry, Next, Reason, Run, Say, Timestamp, Wait};

use crate::fences::{Fence, Violation};
use crate::records::{NOW, Records, RunRef, WaitRef, fresh_run, job_in, reason, slot, token};
use crate::state::{
    Execution, Faults, GENERATIONS, Held, Job, Op, Program, State, Then, Who, fingerprint,
};

pub(crate) struct Model {
    pub(crate) records: Records,
    /// The fence that is removed.
    pub(crate) without: Option<Fence>,
    /// Commits do not look at the head's `rev`.
    pub(crate) rev_unchecked: bool,
    /// How many waits an execution begins before the next takes over.
    pub(crate) entries_limit: u32,
    pub(crate) approval: bool,
    pub(crate) second_job: bool,
    pub(crate) faults: Faults,
}

/// What a write with a condition comes to.
pub(crate) enum Written {
    Yes,
    Conflict,
}

impl Model {
    pub(crate) fn new(faults: Faults) -> Self {
        Self {
            records: Records::new(),
            without: None,
            rev_unchecked: false,
            entries_limit: u32::MAX,
            approval: true,
            second_job: false,
            faults,
        }
    }

    pub(crate) fn lacks(&self, fence: Fence) -> bool {
        self.without == Some(fence)
    }

    /// A run was just made, and whoever made it is about to start its first execution.
    pub(crate) fn first(&self) -> State {
        let run = self
            .records
            .name_run(fresh_run(self.approval, self.second_job));
        let wait = self.name(Wait::fresh(NOW));
        let held = Held { rev: 0, run, wait };
        State {
            rev: 0,
            run,
            left: None,
            wait,
            answered: false,
            reap: [false; 2],
            results: [false; 2],
            jobs: [Job::Never; 2],
            executions: [Execution::Never; GENERATIONS],
            programs: vec![Program {
                who: Who::Starter,
                op: Op::Deliver {
                    again: false,
                    then: Then::End,
                },
                held,
            }],
            answering: false,
            faults: self.faults,
        }
    }

    /// Names a mailbox. How many waits were begun matters only where there is a limit to it.
    pub(crate) fn name(&self, wait: Wait) -> WaitRef {
        let entries = match self.entries_limit {
            u32::MAX => 0,
            limit => wait.entries.min(limit),
        };
        self.records.name_wait(Wait { entries, ..wait })
    }

    /// The mailbox as it is when nobody holds a copy of it.
    fn at_rest(&self, wait: WaitRef) -> WaitRef {
        let wait = self.records.wait(wait);
        self.name(Wait {
            seq: 0,
            ..(*wait).clone()
        })
    }

    /// Brings states that mean the same to one form. It does not matter in which order programs are listed, nor what
    /// one holds that is about to read it anew, or whose write comes too late; nor, while nobody holds a copy of it,
    /// which numbers a record has come to.
    pub(crate) fn in_order(&self, mut state: State) -> State {
        let (rev, seq) = (state.rev, self.records.wait(state.wait).seq);
        for program in &mut state.programs {
            let late = match program.op {
                Op::Commit { .. } => program.held.rev != rev && !self.rev_unchecked,
                Op::Put { wait, then } => {
                    let ends = program.who == Who::Tick && then == Then::End;
                    let late = self.records.wait(wait).seq - 1 != seq;
                    late && !ends && !self.lacks(Fence::Seq)
                }
                _ => false,
            };
            if late {
                program.op = Op::Load;
            }
            if matches!(program.op, Op::Load | Op::TickRead) {
                program.held = self.nothing();
            }
        }
        state.programs.sort_by_cached_key(fingerprint);
        if state.programs.is_empty() {
            state.rev = 0;
            state.wait = self.at_rest(state.wait);
        }
        state
    }

    /// What a program holds before it has read anything.
    fn nothing(&self) -> Held {
        Held {
            rev: 0,
            run: RunRef::FIRST,
            wait: WaitRef::FIRST,
        }
    }

    /// Writes the mailbox in place of the one whose `seq` was one less.
    pub(crate) fn put(&self, state: &mut State, wait: WaitRef) -> Result<Written, Violation> {
        let stored = self.records.wait(state.wait);
        let mut new = (*self.records.wait(wait)).clone();
        if stored.seq != new.seq - 1 {
            if !self.lacks(Fence::Seq) {
                return Ok(Written::Conflict);
            }
            new.seq = stored.seq + 1;
        }
        self.check_wait(state, &stored, &new)?;
        state.wait = self.name(new);
        Ok(Written::Yes)
    }

    fn check_wait(&self, state: &State, old: &Wait, new: &Wait) -> Result<(), Violation> {
        if new.seq <= old.seq {
            return Err(Violation::NotRising);
        }
        if old.fence.zip(new.fence).is_some_and(|(old, new)| new < old) {
            return Err(Violation::TokenOverwritten);
        }
        let head = &self.records.run(state.run).head;
        if new.generation != head.generation {
            return Err(Violation::TwoDrivers);
        }
        Ok(())
    }

    /// Commits what a transition made of the run: whole or not at all.
    pub(crate) fn commit(
        &self,
        state: &mut State,
        held: Held,
        run: RunRef,
        wait: Option<WaitRef>,
    ) -> Result<Written, Violation> {
        let (before, after) = (self.records.run(state.run), self.records.run(run));
        if held.rev != state.rev && !self.rev_unchecked {
            return Ok(Written::Conflict);
        }
        let answers = after.changes.audit.as_ref();
        let answers = answers.is_some_and(|audit| audit.action != Say::Stop);
        if answers && state.answered {
            return Ok(Written::Conflict);
        }
        let mut next = state.clone();
        next.rev = state.rev + 1;
        next.run = self.committed(&after);
        next.answered |= answers;
        if let Some(wait) = wait
            && matches!(self.put(&mut next, wait)?, Written::Conflict)
        {
            return Ok(Written::Conflict);
        }
        if before.head.status.is_terminal() {
            return Err(Violation::TerminalRunChanged);
        }
        for output in &after.changes.outputs {
            if std::mem::replace(&mut next.results[usize::from(output.step.0)], true) {
                return Err(Violation::TwoResults);
            }
        }
        if next.answered && matches!(reason(&after), Some(Reason::Human { .. })) {
            return Err(Violation::AnswerLost);
        }
        let driver = next.executions[before.head.generation as usize - 1];
        if after.head.deaths > before.head.deaths && driver != Execution::Died {
            return Err(Violation::MournedAlive);
        }
        if let Some(step) = after.changes.left.first() {
            let left = Run {
                step: step.clone(),
                ..(*before).clone()
            };
            next.left = Some(self.records.name_run(left));
        }
        if !self.lacks(Fence::ReapRow) {
            for job in &after.changes.reap {
                next.reap[slot(job)] = true;
            }
        }
        *state = next;
        Ok(Written::Yes)
    }

    /// The run of a commit as it is once its changes are made.
    pub(crate) fn committed(&self, run: &Run) -> RunRef {
        let changes = Changes::default();
        self.records.name_run(Run {
            changes,
            ..run.clone()
        })
    }

    /// Sends a token: whether the machine took it.
    pub(crate) fn send(
        &self,
        state: &mut State,
        sent: &str,
        next: Next,
    ) -> Result<bool, Violation> {
        let waits = |execution: &Execution| matches!(execution, Execution::Waits(entry) if token(*entry) == sent);
        let Some(index) = state.executions.iter().position(waits) else {
            return Ok(false);
        };
        let Execution::Waits(entry) = state.executions[index] else {
            return Ok(false);
        };
        match next {
            Next::Succeed | Next::Handover => {
                let head = &self.records.run(state.run).head;
                if head.generation == entry.generation && !head.status.is_terminal() {
                    return Err(Violation::DriverLeft);
                }
                state.executions[index] = Execution::Succeeded;
            }
            Next::Advance | Next::PollJob | Next::PollGate => {
                let entered = Timestamp(entry.entered.0 + 1);
                self.invoke(
                    state,
                    Entry {
                        entered,
                        retry: 0,
                        ..entry
                    },
                );
            }
        }
        Ok(true)
    }

    /// The machine comes to an entry of a state, and invokes its function.
    pub(crate) fn invoke(&self, state: &mut State, entry: Entry) {
        state.executions[entry.generation as usize - 1] = Execution::Waits(entry);
        self.begin(state, Who::Driver(entry), Op::Load);
    }

    /// Starts the execution of a generation, unless it was started before.
    pub(crate) fn start_execution(&self, state: &mut State, generation: u32) {
        if state.executions[generation as usize - 1] == Execution::Never {
            let first = Entry {
                generation,
                entered: Timestamp(1),
                retry: 0,
            };
            self.invoke(state, first);
        }
    }

    /// Starts the job that a run has, unless it was started or stopped before.
    pub(crate) fn start_job(&self, state: &mut State, run: &Run) {
        if let Some(job) = run.step.live_job() {
            let job = &mut state.jobs[slot(job)];
            if *job == Job::Never {
                *job = Job::Running;
            }
        }
    }

    pub(crate) fn stop_job(&self, state: &mut State, slot: usize) {
        let job = &mut state.jobs[slot];
        *job = match *job {
            Job::Never if self.lacks(Fence::Tombstone) => Job::Never,
            Job::Never | Job::Running => Job::Stopped,
            over => over,
        };
    }

    /// Somebody sets out.
    pub(crate) fn begin(&self, state: &mut State, who: Who, op: Op) {
        let held = self.nothing();
        state.programs.push(Program { who, op, held });
    }

    /// Whether a state in which nothing more happens is one to stay in.
    pub(crate) fn judge(&self, state: &State, after_ticks: bool) -> Result<(), Violation> {
        let (run, wait) = (self.records.run(state.run), self.records.wait(state.wait));
        let live_job = run
            .step
            .live_job()
            .filter(|_| !run.head.status.is_terminal());
        for (slot, job) in state.jobs.iter().enumerate() {
            if *job == Job::Running && live_job != Some(&job_in(&run, slot)) {
                return Err(Violation::JobOutlives);
            }
        }
        let waiting: Vec<String> = state
            .executions
            .iter()
            .filter_map(|execution| match execution {
                Execution::Waits(entry) => Some(token(*entry)),
                _ => None,
            })
            .collect();
        let stuck = if after_ticks {
            Violation::Stuck
        } else {
            Violation::WaitsForTick
        };
        let well = if run.head.status.is_terminal() {
            waiting.is_empty() && wait.due.is_none() && state.reap == [false; 2]
        } else {
            let reachable = wait
                .token
                .as_ref()
                .is_some_and(|token| waiting == [token.clone()]);
            let says_so = reason(&run).as_ref() == Some(&wait.reason) && wait.wake.is_none();
            let at_work = live_job.is_none_or(|job| state.jobs[slot(job)] == Job::Running);
            reachable && says_so && at_work && wait.due.is_some()
        };
        if well { Ok(()) } else { Err(stuck) }
    }
}
