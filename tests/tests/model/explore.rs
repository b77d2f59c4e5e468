//! The explorer: every state that can be reached, breadth first, so that the way to the first violation is a shortest.

use std::collections::HashSet;
use std::rc::Rc;

use towpath_engine::{Fence as Entry, Status, Timestamp};

use crate::fences::Violation;
use crate::model::Model;
use crate::state::{Execution, Job, Op, Program, State, Then, Who};

/// What was found when nothing was violated.
#[derive(Debug)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    /// States in which nothing more happens by itself.
    pub(crate) at_rest: usize,
    /// How many of those had their run over.
    pub(crate) over: usize,
}

/// A violation, and how it comes to it.
#[derive(Debug)]
pub(crate) struct Counterexample {
    pub(crate) violation: Violation,
    pub(crate) way: Vec<String>,
}

/// Something that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Step(usize),
    StepWithoutTime(usize),
    TornLoad(usize),
    Crash(usize),
    Duplicate(usize),
    JobEnds(usize),
    HumanAnswers,
    Stop,
    Timeout(usize),
    MachineRetries(usize),
    ExecutionDies(usize),
    Tick,
    /// The tick, with nothing else under way.
    QuietTick,
}

/// More than this, and the bounds are not what they should be.
const LIMIT: usize = 4_000_000;

impl Model {
    pub(crate) fn explore(&self) -> Result<Explored, Counterexample> {
        let first = Rc::new(self.in_order(self.first()));
        let mut known = HashSet::from([Rc::clone(&first)]);
        let mut states: Vec<(Rc<State>, usize, Option<Act>)> = vec![(first, 0, None)];
        let mut explored = Explored {
            states: 0,
            at_rest: 0,
            over: 0,
        };
        let mut next = 0;
        while let Some((state, _, _)) = states.get(next) {
            let state = Rc::clone(state);
            let found = |violation, act: Option<Act>| Counterexample {
                violation,
                way: self.way(&states, next, act),
            };
            let mut after = Vec::new();
            if state.programs.is_empty() {
                let ticked = self
                    .quiet_tick(&state)
                    .map_err(|v| found(v, Some(Act::QuietTick)))?;
                let untroubled =
                    state.faults.any == self.faults.any && state.executions[1] == Execution::Never;
                if untroubled {
                    self.judge(&state, false).map_err(|v| found(v, None))?;
                }
                if ticked == *state {
                    self.judge(&state, true).map_err(|v| found(v, None))?;
                    explored.at_rest += 1;
                    explored.over +=
                        usize::from(self.records.run(state.run).head.status.is_terminal());
                } else {
                    self.ticks_end(&state)
                        .map_err(|v| found(v, Some(Act::QuietTick)))?;
                    after.push((Act::QuietTick, ticked));
                }
            }
            for act in self.acts(&state) {
                let became = self.act(&state, act).map_err(|v| found(v, Some(act)))?;
                after.push((act, self.in_order(became)));
            }
            for (act, became) in after {
                if !known.contains(&became) {
                    let became = Rc::new(became);
                    known.insert(Rc::clone(&became));
                    states.push((became, next, Some(act)));
                }
            }
            next += 1;
            assert!(next < LIMIT, "more than {LIMIT} states");
        }
        explored.states = states.len();
        Ok(explored)
    }

    /// Everything that can happen.
    fn acts(&self, state: &State) -> Vec<Act> {
        let mut acts = Vec::new();
        let faults = &state.faults;
        let may = |left: u8| left > 0 && faults.any > 0;
        for (index, program) in state.programs.iter().enumerate() {
            acts.push(Act::Step(index));
            let steps_on = matches!(
                program.op,
                Op::Commit {
                    then: Then::Turn,
                    ..
                }
            );
            if may(faults.short) && steps_on {
                acts.push(Act::StepWithoutTime(index));
            }
            if may(faults.torn) && program.op == Op::Load {
                acts.push(Act::TornLoad(index));
            }
            if may(faults.crash) {
                acts.push(Act::Crash(index));
            }
            if may(faults.duplicate) && program.op == Op::Load && program.who != Who::Tick {
                acts.push(Act::Duplicate(index));
            }
        }
        for (slot, job) in state.jobs.iter().enumerate() {
            if *job == Job::Running {
                acts.push(Act::JobEnds(slot));
            }
        }
        let run = self.records.run(state.run);
        if run.head.status == Status::Blocked && !state.answering {
            acts.push(Act::HumanAnswers);
        }
        if may(faults.stop) && !run.head.status.is_terminal() {
            acts.push(Act::Stop);
        }
        for (index, execution) in state.executions.iter().enumerate() {
            let Execution::Waits(entry) = execution else {
                continue;
            };
            // No invocation lasts as long as the machine's timeout; it gives up earlier on one that it has lost.
            let at_work = |program: &Program| program.who == Who::Driver(*entry);
            if state.programs.iter().any(at_work) {
                if may(faults.retry) {
                    acts.push(Act::MachineRetries(index));
                }
            } else if may(faults.timeout) {
                acts.push(Act::Timeout(index));
            }
            if may(faults.death) {
                acts.push(Act::ExecutionDies(index));
            }
        }
        if may(faults.tick) && !state.programs.is_empty() {
            acts.push(Act::Tick);
        }
        acts
    }

    fn act(&self, state: &State, act: Act) -> Result<State, Violation> {
        let mut next = state.clone();
        let faults = &mut next.faults;
        let left = match act {
            Act::StepWithoutTime(_) => Some(&mut faults.short),
            Act::TornLoad(_) => Some(&mut faults.torn),
            Act::Crash(_) => Some(&mut faults.crash),
            Act::Duplicate(_) => Some(&mut faults.duplicate),
            Act::Stop => Some(&mut faults.stop),
            Act::Timeout(_) => Some(&mut faults.timeout),
            Act::MachineRetries(_) => Some(&mut faults.retry),
            Act::ExecutionDies(_) => Some(&mut faults.death),
            Act::Tick => Some(&mut faults.tick),
            _ => None,
        };
        if let Some(left) = left {
            *left -= 1;
            faults.any -= 1;
        }
        match act {
            Act::Step(index) => return self.step(&next, index, false, false),
            Act::StepWithoutTime(index) => return self.step(&next, index, true, false),
            Act::TornLoad(index) => return self.step(&next, index, false, true),
            Act::Crash(index) => self.crash(&mut next, index),
            Act::Duplicate(index) => next.programs.push(next.programs[index]),
            Act::JobEnds(slot) => {
                next.jobs[slot] = Job::Ended;
                self.begin(&mut next, Who::Look(slot), Op::Load);
            }
            Act::HumanAnswers => {
                next.answering = true;
                self.begin(&mut next, Who::Human, Op::Load);
            }
            Act::Stop => self.begin(&mut next, Who::Stopper, Op::Load),
            Act::Timeout(index) => {
                if let Execution::Waits(entry) = next.executions[index] {
                    let entered = Timestamp(entry.entered.0 + 1);
                    let retry = 0;
                    self.invoke(
                        &mut next,
                        Entry {
                            entered,
                            retry,
                            ..entry
                        },
                    );
                }
            }
            Act::MachineRetries(index) => self.retry(&mut next, index),
            Act::ExecutionDies(index) => {
                next.executions[index] = Execution::Died;
                let generation = u32::try_from(index + 1).unwrap();
                self.begin(&mut next, Who::Settle(generation), Op::Load);
            }
            Act::Tick | Act::QuietTick => self.begin(&mut next, Who::Tick, Op::TickRead),
        }
        Ok(next)
    }

    /// A program ends. The machine notices if it was the one that its execution waits for.
    fn crash(&self, state: &mut State, index: usize) {
        let program = state.programs.remove(index);
        match program.who {
            Who::Driver(entry) => {
                let waits = Execution::Waits(entry);
                if let Some(index) = state.executions.iter().position(|held| *held == waits) {
                    self.retry(state, index);
                }
            }
            Who::Human => state.answering = false,
            _ => {}
        }
    }

    fn retry(&self, state: &mut State, index: usize) {
        if let Execution::Waits(entry) = state.executions[index] {
            let retry = entry.retry + 1;
            self.invoke(state, Entry { retry, ..entry });
        }
    }

    /// The tick sees to all that is due, while nobody else does anything.
    fn quiet_tick(&self, state: &State) -> Result<State, Violation> {
        let mut state = state.clone();
        let mut others = Vec::new();
        let run_alone = |mut state: State, others: &mut Vec<Program>| {
            // Whoever the tick sets going waits until it is done.
            while let Some(program) = state.programs.pop() {
                others.append(&mut state.programs);
                state.programs.push(program);
                state = self.step(&state, 0, false, false)?;
                let mine = |p: &Program| matches!(p.who, Who::Tick | Who::Settle(_));
                state.programs.sort_by_key(mine);
                if state.programs.last().is_some_and(|last| !mine(last)) {
                    others.append(&mut state.programs);
                }
            }
            Ok(state)
        };
        self.begin(&mut state, Who::Tick, Op::TickRead);
        state = run_alone(state, &mut others)?;
        for slot in 0..state.reap.len() {
            if state.reap[slot] {
                self.begin(&mut state, Who::Tick, Op::StopJob(slot, Then::End));
                state = run_alone(state, &mut others)?;
            }
        }
        state.programs = others;
        Ok(self.in_order(state))
    }

    /// Ticks alone come to an end: somebody sets to work, or nothing changes any more.
    fn ticks_end(&self, state: &State) -> Result<(), Violation> {
        let mut state = state.clone();
        for _ in 0..8 {
            let ticked = self.quiet_tick(&state)?;
            if ticked == state || !ticked.programs.is_empty() {
                return Ok(());
            }
            state = ticked;
        }
        Err(Violation::Stuck)
    }

    /// How it came to a state, and what happened there.
    fn way(
        &self,
        states: &[(Rc<State>, usize, Option<Act>)],
        mut at: usize,
        last: Option<Act>,
    ) -> Vec<String> {
        let mut way = vec![self.show(&states[at].0)];
        way.extend(last.map(|act| self.tell(&states[at].0, act)));
        while let (_, before, Some(act)) = &states[at] {
            way.insert(0, self.tell(&states[*before].0, *act));
            at = *before;
        }
        way
    }

    fn tell(&self, state: &State, act: Act) -> String {
        match act {
            Act::Step(i)
            | Act::StepWithoutTime(i)
            | Act::TornLoad(i)
            | Act::Crash(i)
            | Act::Duplicate(i) => {
                let program = &state.programs[i];
                format!("{act:?} {:?} {:?}", program.who, program.op)
            }
            other => format!("{other:?}"),
        }
    }

    fn show(&self, state: &State) -> String {
        let (run, wait) = (self.records.run(state.run), self.records.wait(state.wait));
        format!(
            "{:?} at {} {:?}\n{wait:?}\n{:?} {:?} {:?} {:?}",
            run.head.status,
            run.head.current,
            run.step.activity,
            state.jobs,
            state.executions,
            state.reap,
            state.programs
        )
    }
}
