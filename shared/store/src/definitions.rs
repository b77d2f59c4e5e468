//! Pipelines and blocks.

use serde::{Deserialize, Serialize};
use towpath_engine::{Block, BlockId, Pipeline, PipelineId, WorkspaceId};
use towpath_table::{Condition, Item, Update, Write, number};

use crate::form::{attributes, put, record, whole};
use crate::{Error, Store, keys};

/// A version of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredPipeline {
    /// The version's number, from 1.
    pub version: u32,
    /// The pipeline.
    pub pipeline: Pipeline,
}

/// A pipeline in a list, without its steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineSummary {
    /// The pipeline's id.
    pub id: PipelineId,
    /// The number of the newest version, from 1.
    pub version: u32,
    /// The pipeline's name, for people.
    #[serde(default)]
    pub name: String,
    /// Words to find the pipeline by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Whether the pipeline starts no runs any more.
    #[serde(default)]
    pub archived: bool,
    /// The number of steps that a run has.
    #[serde(default)]
    pub steps: u16,
    /// Whether the pipeline was deleted: only its versions are left, for the runs that pinned them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

impl From<&StoredPipeline> for PipelineSummary {
    fn from(stored: &StoredPipeline) -> Self {
        let pipeline = &stored.pipeline;
        Self {
            id: pipeline.id.clone(),
            version: stored.version,
            name: pipeline.name.clone(),
            labels: pipeline.labels.clone(),
            archived: pipeline.archived,
            steps: u16::try_from(pipeline.enabled().len()).unwrap_or(u16::MAX),
            deleted: false,
        }
    }
}

impl Store {
    /// The newest version of a pipeline.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn pipeline(
        &self,
        workspace: &WorkspaceId,
        id: &PipelineId,
    ) -> Result<Option<StoredPipeline>, Error> {
        match self.latest(workspace, id).await? {
            Some(latest) if !latest.deleted => self.version(workspace, id, latest.version).await,
            _ => Ok(None),
        }
    }

    async fn latest(
        &self,
        workspace: &WorkspaceId,
        id: &PipelineId,
    ) -> Result<Option<PipelineSummary>, Error> {
        let item = self.runs.get(&keys::pipeline(workspace, id)).await?;
        item.map(summary).transpose()
    }

    async fn version(
        &self,
        workspace: &WorkspaceId,
        id: &PipelineId,
        version: u32,
    ) -> Result<Option<StoredPipeline>, Error> {
        let key = keys::pipeline_version(workspace, id, version);
        let item = self.runs.get(&key).await?;
        item.map(record).transpose()
    }

    /// Deletes a pipeline: no run of it starts any more. Its versions stay, for the runs that pinned them, and a pipeline
    /// of this id that is put later goes on counting. False: there is none.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another request has put it meanwhile.
    pub async fn delete_pipeline(
        &self,
        workspace: &WorkspaceId,
        id: &PipelineId,
    ) -> Result<bool, Error> {
        let Some(latest) = self.latest(workspace, id).await?.filter(|it| !it.deleted) else {
            return Ok(false);
        };
        let version = latest.version;
        let key = keys::pipeline(workspace, id);
        let deleted = PipelineSummary {
            deleted: true,
            ..latest
        };
        // Out of the listing, since it is put without the listing's keys.
        let write = put(key, &deleted)?.when(Condition::Equals("version", number(version)));
        self.runs.write(write).await?;
        Ok(true)
    }

    /// Puts a pipeline as its next version; the versions before stay, for the runs that pinned them. One that is the
    /// same as the newest makes no new version.
    ///
    /// # Errors
    /// [`Error::Conflict`] if another request has put it meanwhile.
    pub async fn put_pipeline(
        &self,
        workspace: &WorkspaceId,
        pipeline: &Pipeline,
    ) -> Result<StoredPipeline, Error> {
        let latest = self.latest(workspace, &pipeline.id).await?;
        let before = latest.as_ref().map_or(0, |latest| latest.version);
        if latest.is_some_and(|latest| !latest.deleted) {
            let newest = self.version(workspace, &pipeline.id, before).await?;
            if let Some(newest) = newest.filter(|it| it.pipeline == *pipeline) {
                return Ok(newest);
            }
        }
        let stored = StoredPipeline {
            version: before + 1,
            pipeline: pipeline.clone(),
        };
        let key = keys::pipeline_version(workspace, &pipeline.id, stored.version);
        let versioned = put(key, &stored)?.when(Condition::Absent);
        let key = keys::pipeline(workspace, &pipeline.id);
        let latest = Update {
            set: attributes(&key, &PipelineSummary::from(&stored))?
                .into_iter()
                .collect(),
            ..Update::default()
        };
        let listing = format!("{workspace}#pipeline");
        let latest = whole(key, keys::listed(latest, listing, &pipeline.id));
        let latest = latest.when(match before {
            0 => Condition::Absent,
            before => Condition::Equals("version", number(before)),
        });
        self.runs.transact(vec![versioned, latest]).await?;
        Ok(stored)
    }

    /// The block of this id.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn block(
        &self,
        workspace: &WorkspaceId,
        id: &BlockId,
    ) -> Result<Option<Block>, Error> {
        let item = self.runs.get(&keys::block(workspace, id)).await?;
        item.map(record).transpose()
    }

    /// Deletes a block that no run is live on. Its runs stay. False: there is none.
    ///
    /// # Errors
    /// [`Error::Conflict`] if a run is live on the block, or another request has written it meanwhile.
    pub async fn delete_block(&self, workspace: &WorkspaceId, id: &BlockId) -> Result<bool, Error> {
        let Some(block) = self.block(workspace, id).await? else {
            return Ok(false);
        };
        let delete = Write::delete(keys::block(workspace, id));
        let delete = delete.when(Condition::Equals("rev", number(block.rev)));
        // Deletes nothing: it holds only if no run has the lock.
        let unlocked = Write::delete(keys::lock(workspace, id)).when(Condition::Absent);
        self.runs.transact(vec![delete, unlocked]).await?;
        Ok(true)
    }

    /// Puts what a block's owner says of it. What runs say of it stays as it is.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the block was deleted meanwhile.
    pub async fn put_block(&self, block: &Block) -> Result<Block, Error> {
        let key = keys::block(&block.workspace, &block.id);
        let item = attributes(&key, block)?;
        let new = Update {
            set: item.clone().into_iter().collect(),
            ..Update::default()
        };
        let listing = format!("{}#block", block.workspace);
        let new = whole(key.clone(), keys::listed(new, listing, &block.id));
        match self.runs.write(new.when(Condition::Absent)).await {
            Ok(()) => return Ok(block.clone()),
            Err(towpath_table::Error::Conflict) => {}
            Err(other) => return Err(other.into()),
        }
        let owned = Write::update(key.clone(), owners(item).add("rev", 1));
        self.runs.write(owned.when(Condition::Present)).await?;
        let stored = self.block(&block.workspace, &block.id).await?;
        stored.ok_or_else(|| Error::missing(&key))
    }
}

/// The changes of what is the owner's to say.
fn owners(mut item: Item) -> Update {
    let names = ["title", "description", "level", "repository"];
    names
        .into_iter()
        .fold(Update::default(), |update, name| match item.remove(name) {
            Some(value) => update.set(name, value),
            None => update.remove(name),
        })
}

/// The summary of a pipeline's newest version. 0.1.0 kept the whole version in its place.
pub(crate) fn summary(item: Item) -> Result<PipelineSummary, Error> {
    match item.contains_key("pipeline") {
        true => Ok(PipelineSummary::from(&record::<StoredPipeline>(item)?)),
        false => record(item),
    }
}
