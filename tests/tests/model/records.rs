//! Records as the model keeps them: real ones, each kept once and named by a small number, so that a state is small and
//! two states are quickly told apart.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::json;
use towpath_engine::{
    Activity, Fence, JobId, NewRun, Outcome, Pin, Plan, Reason, Role, Run, RunId, StepIndex,
    Timestamp, Wait, start,
};

/// Time stands still in the model: whatever may happen in time may happen at any moment. Only entries of a state are
/// told apart by their time, and count it up themselves.
pub(crate) const NOW: Timestamp = Timestamp(1_000_000);

/// The name of a run's head, present step and wanted changes, all but the head's `rev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RunRef(u16);

/// The name of a mailbox's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WaitRef(u16);

/// Every record that any state holds.
pub(crate) struct Records {
    runs: RefCell<Table<Run>>,
    waits: RefCell<Table<Wait>>,
}

struct Table<T> {
    names: HashMap<String, u16>,
    kept: Vec<Rc<T>>,
}

impl<T> Table<T> {
    fn name(&mut self, key: String, record: T) -> u16 {
        *self.names.entry(key).or_insert_with(|| {
            self.kept.push(Rc::new(record));
            u16::try_from(self.kept.len() - 1).unwrap()
        })
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            names: HashMap::new(),
            kept: Vec::new(),
        }
    }
}

impl RunRef {
    /// The run as it was made.
    pub(crate) const FIRST: Self = Self(0);
}

impl WaitRef {
    /// The mailbox as it was made.
    pub(crate) const FIRST: Self = Self(0);
}

impl Records {
    pub(crate) fn new() -> Self {
        Self {
            runs: RefCell::default(),
            waits: RefCell::default(),
        }
    }

    pub(crate) fn run(&self, name: RunRef) -> Rc<Run> {
        Rc::clone(&self.runs.borrow().kept[usize::from(name.0)])
    }

    pub(crate) fn wait(&self, name: WaitRef) -> Rc<Wait> {
        Rc::clone(&self.waits.borrow().kept[usize::from(name.0)])
    }

    pub(crate) fn name_run(&self, mut run: Run) -> RunRef {
        run.head.rev = 0;
        let key = format!("{:?} {:?} {:?}", run.head, run.step, run.changes);
        RunRef(self.runs.borrow_mut().name(key, run))
    }

    /// How often somebody looked in vain only moves the time of the next look, and time is not modelled.
    pub(crate) fn name_wait(&self, wait: Wait) -> WaitRef {
        let wait = Wait {
            polls: 0,
            due: wait.due.map(|_| NOW),
            ..wait
        };
        WaitRef(self.waits.borrow_mut().name(format!("{wait:?}"), wait))
    }
}

/// A run at its start. Its plan: a job, approved by a human if `approval`, and then a job or an inline agent.
pub(crate) fn fresh_run(approval: bool, second_job: bool) -> Run {
    let job = json!({ "kind": "process", "command": ["make"] });
    let inline = json!({ "kind": "simulated", "output": "Done." });
    let last = if second_job { &job } else { &inline };
    let steps = json!([
        { "agentKind": "coder", "requiresApproval": approval, "runtime": job },
        { "agentKind": "closer", "runtime": last },
    ]);
    let plan = Plan::new(serde_json::from_value(steps).unwrap()).unwrap();
    let new = NewRun {
        id: RunId::from_ulid("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap(),
        workspace: "w".parse().unwrap(),
        block: "b".parse().unwrap(),
        pipeline: Pin {
            id: "p".parse().unwrap(),
            version: 1,
            name: String::new(),
            steps: plan.len(),
        },
        initiated_by: None,
    };
    start(new, Arc::new(plan), NOW).unwrap()
}

/// What a run waits for, by its outcome; as the shell sees it.
pub(crate) fn reason(run: &Run) -> Option<Reason> {
    match (run.outcome(), &run.step.activity) {
        (Outcome::AwaitingDecision { decision }, _) => Some(Reason::Human { subject: decision }),
        (Outcome::AwaitingJob { .. }, Activity::Job(job)) => Some(Reason::Job {
            job: job.id.clone(),
            deadline: job.deadline,
        }),
        _ => None,
    }
}

/// A job's place in a state: each step has one attempt in the model.
pub(crate) fn slot(job: &JobId) -> usize {
    usize::from(job.origin().0.0)
}

/// The job in a place.
pub(crate) fn job_in(run: &Run, slot: usize) -> JobId {
    let step = StepIndex(u16::try_from(slot).unwrap());
    JobId::derive(&run.head.id, step, 1, Role::Main)
}

/// An entry of a state has one task token, and no other entry has it.
pub(crate) fn token(entry: Fence) -> String {
    format!("{}/{}/{}", entry.generation, entry.entered.0, entry.retry)
}
