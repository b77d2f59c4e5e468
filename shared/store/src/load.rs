//! Loading a run as a transition needs it: one query, whatever the length of the pipeline.

use std::sync::Arc;

use towpath_engine::{Head, PipelineId, Plan, Run, RunId, Step, StepIndex, Wait, WorkspaceId};
use towpath_table::{Item, Key, integer};

use crate::commit::HEAD_REV;
use crate::form::{Record, attributes, record};
use crate::{Error, Input, Store, StoredPipeline, keys};

/// A run and its mailbox, each item read consistently. What changes between the reads is caught by the conditions of the
/// commit, or by a step or mailbox that is newer than its head.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The run.
    pub run: Run,
    /// The run's mailbox.
    pub wait: Wait,
    /// The attributes of the present step's item that this release does not know.
    pub(crate) unknown: Item,
}

/// The number of times a run that is written while it is read is read again. Steps that take no time follow each other in
/// milliseconds, and a reader is not to be told that there is too much to do.
const TRIES: u32 = 64;

impl Store {
    /// The run, or `None` if there is none of this id.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is written faster than it can be read; [`Error::Newer`] if a newer release wrote it.
    pub async fn load(&self, id: &RunId) -> Result<Option<Loaded>, Error> {
        for _ in 0..TRIES {
            match self.load_once(id).await {
                Err(Error::Conflict) => {}
                other => return other,
            }
        }
        Err(Error::Conflict)
    }

    async fn load_once(&self, id: &RunId) -> Result<Option<Loaded>, Error> {
        let Some(now) = self.now(id).await? else {
            return Ok(None);
        };
        // Written after the head was read: together they are a run that never was.
        let head: Head = record(now.head)?;
        let newer = |item: &Item| integer(item, HEAD_REV).is_some_and(|rev| rev > head.rev);
        if newer(&now.step) || newer(&now.wait) {
            return Err(Error::Conflict);
        }
        let pin = &head.pipeline;
        let plan = self.plan(&head.workspace, &pin.id, pin.version).await?;
        if plan.step(head.current).is_none() {
            let why = "its step is not in its pipeline";
            return Err(Error::damaged(&keys::head(id), why));
        }
        let unknown = now.step.clone();
        let step: Step = record(now.step)?;
        if step.index != head.current {
            return Err(Error::Conflict);
        }
        Ok(Some(Loaded {
            unknown: unknown_of(&step, unknown)?,
            wait: record(now.wait)?,
            run: Run::new(head, step, plan),
        }))
    }

    /// The items that a driver loads. `None`: there is no such run.
    pub(crate) async fn now(&self, id: &RunId) -> Result<Option<Now>, Error> {
        for again in [true, false] {
            let (mut head, mut step, mut wait) = (None, None, None);
            for item in self.runs.query(id.as_str(), keys::NOW).await? {
                match Key::of(&item).sk.as_str() {
                    keys::HEAD => head = Some(item),
                    keys::STEP => step = Some(item),
                    keys::WAIT => wait = Some(item),
                    _ => {}
                }
            }
            if let Some(head) = head {
                let missing = |key| move || Error::missing(&key);
                return Ok(Some(Now {
                    head,
                    step: step.ok_or_else(missing(keys::present_step(id)))?,
                    wait: wait.ok_or_else(missing(keys::wait(id)))?,
                }));
            }
            // A run of 0.1.0 is turned into this form, once.
            if !(again && self.migrate(id).await?) {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// The run's mailbox alone.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn wait(&self, id: &RunId) -> Result<Option<Wait>, Error> {
        self.live(id, &keys::wait(id)).await
    }

    /// The run's head alone.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn head(&self, id: &RunId) -> Result<Option<Head>, Error> {
        self.live(id, &keys::head(id)).await
    }

    async fn live<T: Record>(&self, id: &RunId, key: &Key) -> Result<Option<T>, Error> {
        if let Some(item) = self.runs.get(key).await? {
            return record(item).map(Some);
        }
        match self.migrate(id).await? {
            true => self.runs.get(key).await?.map(record).transpose(),
            false => Ok(None),
        }
    }

    /// The inputs of a run.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn input(&self, id: &RunId) -> Result<Input, Error> {
        let key = keys::input(id);
        let item = self.runs.get(&key).await?;
        record(item.ok_or_else(|| Error::missing(&key))?)
    }

    /// The record of a step that the run has left, in an earlier round perhaps. `None`: it never was at that step.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn step_left(&self, id: &RunId, step: StepIndex) -> Result<Option<Step>, Error> {
        let item = self.runs.get(&keys::step(id, step)).await?;
        item.map(crate::old_form::step_of).transpose()
    }

    /// The pinned plan of a pipeline version.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn plan(
        &self,
        workspace: &WorkspaceId,
        id: &PipelineId,
        version: u32,
    ) -> Result<Arc<Plan>, Error> {
        let name = (workspace.clone(), id.clone(), version);
        let known = self.plans.lock().ok();
        if let Some(plan) = known.and_then(|plans| plans.get(&name).cloned()) {
            return Ok(plan);
        }
        let key = keys::pipeline_version(workspace, id, version);
        let item = self.runs.get(&key).await?;
        let stored: StoredPipeline = record(item.ok_or_else(|| Error::missing(&key))?)?;
        let plan = Plan::new(stored.pipeline.enabled())
            .ok_or_else(|| Error::damaged(&key, "it has no steps"))?;
        let plan = Arc::new(plan);
        if let Ok(mut plans) = self.plans.lock() {
            // A function that serves very many pipelines forgets them all now and then rather than growing.
            if plans.len() >= 256 {
                plans.clear();
            }
            plans.insert(name, plan.clone());
        }
        Ok(plan)
    }
}

/// The items that a driver loads.
pub(crate) struct Now {
    pub(crate) head: Item,
    pub(crate) step: Item,
    pub(crate) wait: Item,
}

/// The attributes of a step's item that are not of its record.
fn unknown_of(step: &Step, mut item: Item) -> Result<Item, Error> {
    let known = attributes(&Key::of(&item), step)?;
    let ours = ["pk", "sk", "v", HEAD_REV];
    item.retain(|name, _| {
        let name = name.as_str();
        !known.contains_key(name) && !Step::OPTIONAL.contains(&name) && !ours.contains(&name)
    });
    Ok(item)
}
