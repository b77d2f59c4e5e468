//! The survey: every run's head and mailbox, every lock and every job that must be gone. It reads the whole table, so it
//! is for an operator's eye, never for a request.

use aws_sdk_dynamodb::types::AttributeValue;
use towpath_engine::{BlockId, Head, JobId, RunId, Timestamp, Wait, WorkspaceId};

use crate::keys::Key;
use crate::rows::{Item, Lock, Reap, key_map, record, string};
use crate::{Error, Store};

/// What there is.
#[derive(Debug, Default)]
pub struct Survey {
    /// Where each run stands.
    pub heads: Vec<Head>,
    /// What each run waits for.
    pub waits: Vec<(RunId, Wait)>,
    /// Who may have a live run on each block.
    pub locks: Vec<(WorkspaceId, BlockId, RunId)>,
    /// The jobs that must be gone, and when somebody looks at each next.
    pub reaps: Vec<(JobId, Timestamp)>,
}

impl Store {
    /// Surveys everything. A thousand items cost about 128 read units.
    pub async fn survey(&self) -> Result<Survey, Error> {
        let (mut survey, mut from) = (Survey::default(), None);
        loop {
            let scan = self
                .db
                .scan()
                .table_name(&self.runs)
                .consistent_read(true)
                .filter_expression("sk IN (:head, :wait, :lock) OR begins_with(sk, :reap)")
                .expression_attribute_values(":head", AttributeValue::S("HEAD".to_owned()))
                .expression_attribute_values(":wait", AttributeValue::S("WAIT".to_owned()))
                .expression_attribute_values(":lock", AttributeValue::S("LOCK".to_owned()))
                .expression_attribute_values(":reap", AttributeValue::S(Key::REAPS.to_owned()))
                .set_exclusive_start_key(from);
            let page = scan.send().await.map_err(Error::from_sdk)?;
            for item in page.items.unwrap_or_default() {
                survey.add(item)?;
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(survey);
            }
        }
    }

    /// Lets a block go whose lock names a run that is over.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the lock names another run by now.
    pub async fn release(
        &self,
        workspace: &WorkspaceId,
        block: &BlockId,
        run: &RunId,
    ) -> Result<(), Error> {
        let delete = self
            .db
            .delete_item()
            .table_name(&self.runs)
            .set_key(Some(key_map(&Key::lock(workspace, block))))
            .condition_expression("#run = :run")
            .expression_attribute_names("#run", "run")
            .expression_attribute_values(":run", string(run));
        delete.send().await.map_err(Error::from_sdk)?;
        Ok(())
    }
}

impl Survey {
    fn add(&mut self, item: Item) -> Result<(), Error> {
        let text = |name: &str| {
            item.get(name)
                .and_then(|value| value.as_s().ok())
                .cloned()
                .unwrap_or_default()
        };
        let (pk, sk) = (text("pk"), text("sk"));
        let due = item
            .get("dueAt")
            .and_then(|value| value.as_n().ok()?.parse().ok())
            .map_or(Timestamp(0), Timestamp);
        match sk.as_str() {
            "HEAD" => self.heads.push(record(item)?),
            "WAIT" => {
                let run = pk.parse().map_err(|e| Error::damaged(&pk, e))?;
                self.waits.push((run, record(item)?));
            }
            "LOCK" => {
                let broken = || Error::damaged(&pk, "it is no block's");
                let (workspace, block) = pk.split_once("#block#").ok_or_else(broken)?;
                let parsed = workspace.parse().ok().zip(block.parse().ok());
                let (workspace, block) = parsed.ok_or_else(broken)?;
                self.locks
                    .push((workspace, block, record::<Lock>(item)?.run));
            }
            _ => self.reaps.push((record::<Reap>(item)?.job, due)),
        }
        Ok(())
    }
}
