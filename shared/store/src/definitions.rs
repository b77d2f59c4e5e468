//! Pipelines and blocks.

use serde::{Deserialize, Serialize};
use towpath_engine::{Block, BlockId, Pipeline, PipelineId, WorkspaceId};

use crate::keys::Key;
use crate::rows::{Item, Write, attribute, item, listed, number, record};
use crate::{Error, Store};

/// A version of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredPipeline {
    /// Its number, from 1.
    pub version: u32,
    /// What it does.
    pub pipeline: Pipeline,
}

impl Store {
    /// The newest version of a pipeline.
    pub async fn pipeline(
        &self,
        workspace: &WorkspaceId,
        id: &PipelineId,
    ) -> Result<Option<StoredPipeline>, Error> {
        self.get(&Key::pipeline(workspace, id))
            .await?
            .map(record)
            .transpose()
    }

    /// Puts a pipeline as its next version; the versions before stay, for the runs that pinned them. One that is the
    /// same as the newest makes no new version.
    pub async fn put_pipeline(
        &self,
        workspace: &WorkspaceId,
        pipeline: &Pipeline,
    ) -> Result<StoredPipeline, Error> {
        let newest = self.pipeline(workspace, &pipeline.id).await?;
        if let Some(newest) = newest
            .as_ref()
            .filter(|newest| newest.pipeline == *pipeline)
        {
            return Ok(newest.clone());
        }
        let before = newest.map_or(0, |newest| newest.version);
        let stored = StoredPipeline {
            version: before + 1,
            pipeline: pipeline.clone(),
        };
        let versioned = item(
            &Key::pipeline_version(workspace, &pipeline.id, stored.version),
            &stored,
        )?;
        let mut latest = item(&Key::pipeline(workspace, &pipeline.id), &stored)?;
        listed(
            &mut latest,
            format!("{workspace}#pipeline"),
            pipeline.id.to_string(),
        );
        let latest = match before {
            0 => Write::New(latest),
            before => Write::Replace(latest, "version", number(before)),
        };
        self.transact(vec![Write::New(versioned), latest]).await?;
        Ok(stored)
    }

    /// The block of this name.
    pub async fn block(
        &self,
        workspace: &WorkspaceId,
        id: &BlockId,
    ) -> Result<Option<Block>, Error> {
        self.get(&Key::block(workspace, id))
            .await?
            .map(record)
            .transpose()
    }

    /// Puts what a block's owner says of it. What runs say of it stays as it is.
    pub async fn put_block(&self, block: &Block) -> Result<Block, Error> {
        let key = Key::block(&block.workspace, &block.id);
        let mut new: Item = item(&key, block)?;
        listed(
            &mut new,
            format!("{}#block", block.workspace),
            block.id.to_string(),
        );
        match self.transact(vec![Write::New(new)]).await {
            Ok(()) => return Ok(block.clone()),
            Err(Error::Conflict) => {}
            Err(other) => return Err(other),
        }
        let values = vec![
            ("title", attribute("title", &block.title)?),
            ("description", attribute("description", &block.description)?),
            ("level", attribute("level", &block.level)?),
            ("repository", attribute("repository", &block.repository)?),
        ];
        self.transact(vec![Write::Set(key, values)]).await?;
        let stored = self.block(&block.workspace, &block.id).await?;
        stored.ok_or_else(|| Error::damaged("BLOCK", "it is gone"))
    }
}
