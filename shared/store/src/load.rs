//! Loading a run as a transition needs it: three small reads, whatever the length of the pipeline.

use std::sync::Arc;

use aws_sdk_dynamodb::types::KeysAndAttributes;
use towpath_engine::{Head, PipelineId, Plan, Run, RunId, Step, Wait, WorkspaceId};

use crate::commit::HEAD_REV;
use crate::definitions::StoredPipeline;
use crate::keys::Key;
use crate::rows::{Input, Item, key_map, record};
use crate::{Error, Store};

/// A run and its mailbox, read consistently one by one. What changes between the reads is caught by the commit's
/// conditions.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The run.
    pub run: Run,
    /// Its mailbox.
    pub wait: Wait,
}

/// How often a run that is written while it is read is read again. Steps that take no time follow each other in
/// milliseconds, and a reader is not to be told that there is too much to do.
const TRIES: u32 = 64;

impl Store {
    /// The run, or `None` if there is none of this id.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is written faster than it can be read.
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
        // The mailbox first: whatever changes the run after that raises its `seq`, so that a wait begun on what is read
        // here, in whichever order it changed, is refused.
        let Some(wait) = self.wait(id).await? else {
            return Ok(None);
        };
        let Some(head) = self.head(id).await? else {
            return Ok(None);
        };
        let plan = self
            .plan(&head.workspace, &head.pipeline.id, head.pipeline.version)
            .await?;
        let step = self.step(&head, &plan).await?;
        Ok(Some(Loaded {
            run: Run::new(head, step, plan),
            wait,
        }))
    }

    /// The run's mailbox alone.
    pub async fn wait(&self, id: &RunId) -> Result<Option<Wait>, Error> {
        self.get(&Key::wait(id)).await?.map(record).transpose()
    }

    /// The run's head alone.
    pub async fn head(&self, id: &RunId) -> Result<Option<Head>, Error> {
        self.get(&Key::head(id)).await?.map(record).transpose()
    }

    /// What the run was started with.
    pub async fn input(&self, id: &RunId) -> Result<Input, Error> {
        let item = self.get(&Key::input(id)).await?;
        record(item.ok_or_else(|| Error::damaged("INPUT", "it is missing"))?)
    }

    /// The step the run is at. A record of an older epoch is one that a loop went back to: it reads as pending.
    async fn step(&self, head: &Head, plan: &Plan) -> Result<Step, Error> {
        let kind = plan.step(head.current).map(|spec| spec.agent_kind.clone());
        let kind = kind.ok_or_else(|| Error::damaged("HEAD", "its step is not in its pipeline"))?;
        let Some(item) = self.get(&Key::step(&head.id, head.current)).await? else {
            return Ok(Step::pending(head.current, kind, head.epoch));
        };
        // Written after the head was read: together the two are a run that never was.
        let written = item.get(HEAD_REV).and_then(|rev| rev.as_n().ok());
        if written.is_some_and(|rev| rev.parse::<u64>().is_ok_and(|rev| rev > head.rev)) {
            return Err(Error::Conflict);
        }
        let step: Step = record(item)?;
        Ok(if step.epoch < head.epoch {
            step.again(head.epoch)
        } else {
            step
        })
    }

    /// The pinned plan of a pipeline version.
    pub async fn plan(
        &self,
        workspace: &WorkspaceId,
        id: &PipelineId,
        version: u32,
    ) -> Result<Arc<Plan>, Error> {
        let name = (workspace.clone(), id.clone(), version);
        if let Some(plan) = self
            .plans
            .lock()
            .ok()
            .and_then(|plans| plans.get(&name).cloned())
        {
            return Ok(plan);
        }
        let key = Key::pipeline_version(workspace, id, version);
        let item = self
            .get(&key)
            .await?
            .ok_or_else(|| Error::damaged(&key.pk, "the version is missing"))?;
        let stored: StoredPipeline = record(item)?;
        let plan = Plan::new(stored.pipeline.enabled())
            .ok_or_else(|| Error::damaged(&key.pk, "it has no steps"))?;
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

    pub(crate) async fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        self.get_from(&self.runs, key).await
    }

    pub(crate) async fn get_from(&self, table: &str, key: &Key) -> Result<Option<Item>, Error> {
        let request = self
            .db
            .get_item()
            .table_name(table)
            .set_key(Some(key_map(key)))
            .consistent_read(true);
        Ok(request.send().await.map_err(Error::from_sdk)?.item)
    }

    /// The items of these keys, in their order. At most 100.
    pub(crate) async fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Item>>, Error> {
        let mut found: std::collections::HashMap<Key, Item> = std::collections::HashMap::new();
        let mut wanted: Vec<Item> = keys.iter().map(key_map).collect();
        for _ in 0..8 {
            let ask = KeysAndAttributes::builder()
                .set_keys(Some(wanted))
                .consistent_read(true)
                .build();
            let ask = ask.map_err(|e| Error::Broken(e.to_string()))?;
            let answer = self
                .db
                .batch_get_item()
                .request_items(&self.runs, ask)
                .send()
                .await;
            let answer = answer.map_err(Error::from_sdk)?;
            for item in answer
                .responses
                .unwrap_or_default()
                .remove(&self.runs)
                .unwrap_or_default()
            {
                let part = |name: &str| {
                    item.get(name)
                        .and_then(|v| v.as_s().ok())
                        .cloned()
                        .unwrap_or_default()
                };
                found.insert(
                    Key {
                        pk: part("pk"),
                        sk: part("sk"),
                    },
                    item,
                );
            }
            let left = answer
                .unprocessed_keys
                .unwrap_or_default()
                .remove(&self.runs);
            wanted = left.map(|left| left.keys).unwrap_or_default();
            if wanted.is_empty() {
                return Ok(keys.iter().map(|key| found.remove(key)).collect());
            }
        }
        Err(Error::Throttled)
    }
}
