//! What clients read: lists, and a run's steps and audit.

use serde::de::DeserializeOwned;
use towpath_engine::{Audit, Block, Head, JobId, JobRef, RunId, Step, WorkspaceId};
use towpath_table::{Found, Item, Key, Range, Search, string, text};

use crate::form::record;
use crate::{Error, PipelineSummary, Store, definitions, index, keys, old_form};

/// A part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The records.
    pub items: Vec<T>,
    /// The cursor of the next part, if there is one.
    pub next: Option<String>,
}

/// A list of records: a partition of an index, and the order of the list.
struct Listing {
    index: &'static str,
    partition: (&'static str, String),
    ascending: bool,
}

/// The list of the definitions of one sort, by id.
fn by_id(listing: String) -> Listing {
    Listing {
        index: index::LISTING,
        partition: ("listing", listing),
        ascending: true,
    }
}

/// The most records of one part of a list.
const PAGE: i32 = 50;

impl Store {
    /// A part of the runs of a workspace, the newest first, behind the one named `after`.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn runs(
        &self,
        workspace: &WorkspaceId,
        after: Option<&str>,
    ) -> Result<Page<Head>, Error> {
        let listing = format!("{workspace}#run");
        let listing = Listing {
            index: index::LISTING,
            partition: ("listing", listing),
            ascending: false,
        };
        self.page(listing, after, |item| match Key::of(&item).sk.as_str() {
            keys::HEAD => record(item),
            _ => old_form::head_of(item, 0),
        })
        .await
    }

    /// A part of the runs of a workspace that are not over, the newest first, behind the one named `after`. Runs of
    /// 0.1.0 that this release has not touched yet are not among them.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn live_runs(
        &self,
        workspace: &WorkspaceId,
        after: Option<&str>,
    ) -> Result<Page<Head>, Error> {
        let listing = Listing {
            index: index::LIVE,
            partition: ("live", keys::live_listing(workspace)),
            ascending: false,
        };
        self.page(listing, after, record).await
    }

    /// A part of the blocks of a workspace, by id, behind the one named `after`.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn blocks(
        &self,
        workspace: &WorkspaceId,
        after: Option<&str>,
    ) -> Result<Page<Block>, Error> {
        self.page(by_id(format!("{workspace}#block")), after, record)
            .await
    }

    /// A part of the pipelines of a workspace, by id, behind the one named `after`.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn pipelines(
        &self,
        workspace: &WorkspaceId,
        after: Option<&str>,
    ) -> Result<Page<PipelineSummary>, Error> {
        let listing = by_id(format!("{workspace}#pipeline"));
        self.page(listing, after, definitions::summary).await
    }

    async fn page<T>(
        &self,
        listing: Listing,
        after: Option<&str>,
        read: impl Fn(Item) -> Result<T, Error>,
    ) -> Result<Page<T>, Error> {
        let search = Search {
            index: listing.index,
            partition: listing.partition,
            sort: "listedAt",
            range: match after {
                None => Range::All,
                Some(after) if listing.ascending => Range::Above(string(after)),
                Some(after) => Range::Below(string(after)),
            },
            ascending: listing.ascending,
            limit: PAGE,
        };
        let Found { items: found, more } = self.runs.search(&search).await?;
        let keys: Vec<Key> = found.iter().map(Key::of).collect();
        let next = found.last().filter(|_| more);
        let next = next.map(|item| text(item, "listedAt"));
        let items = self.runs.get_many(&keys).await?;
        // What the index still names may be gone, or have moved, by now.
        let there = |item: &Item| item.contains_key(search.partition.0);
        let items = items.into_iter().flatten().filter(there).map(read);
        Ok(Page {
            items: items.collect::<Result<_, _>>()?,
            next,
        })
    }

    /// The record of every step that a run has left, and of the one it is at, in order.
    ///
    /// # Errors
    /// If one cannot be read.
    pub async fn steps(&self, run: &RunId) -> Result<Vec<Step>, Error> {
        let left = self.runs.query(run.as_str(), keys::STEPS).await?;
        let present = self.runs.get(&keys::present_step(run)).await?;
        let mut steps = Vec::with_capacity(left.len() + 1);
        for item in left {
            steps.push(old_form::step_of(item)?);
        }
        if let Some(present) = present.map(record::<Step>).transpose()? {
            // What lies ahead of the run was left in an earlier round, and is to be done again.
            steps.retain(|step| step.index < present.index);
            steps.push(present);
        }
        Ok(steps)
    }

    /// Every answer a human gave to a run.
    ///
    /// # Errors
    /// If one cannot be read.
    pub async fn audits(&self, run: &RunId) -> Result<Vec<Audit>, Error> {
        self.all(run, keys::AUDITS).await
    }

    /// The answer that settled a subject.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn audit(&self, run: &RunId, subject: &str) -> Result<Option<Audit>, Error> {
        let item = self.runs.get(&keys::audit(run, subject)).await?;
        item.map(record).transpose()
    }

    /// The jobs of a run that must be gone and are not known to be.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn reaps(&self, run: &RunId) -> Result<Vec<JobRef>, Error> {
        let items = self.runs.query(run.as_str(), keys::REAPS).await?;
        items.into_iter().map(job_ref).collect()
    }

    /// A job that must be gone, if it is not known to be.
    ///
    /// # Errors
    /// If its row cannot be read.
    pub async fn reap(&self, job: &JobId) -> Result<Option<JobRef>, Error> {
        let item = self.runs.get(&keys::reap(job)).await?;
        item.map(job_ref).transpose()
    }

    async fn all<T: DeserializeOwned>(&self, run: &RunId, prefix: &str) -> Result<Vec<T>, Error> {
        let items = self.runs.query(run.as_str(), prefix).await?;
        items.into_iter().map(record).collect()
    }
}

/// The job of a row of what must be gone. Rows of 0.1.0 name no runtime.
pub(crate) fn job_ref(mut item: Item) -> Result<JobRef, Error> {
    item.entry("runtime".to_owned())
        .or_insert_with(|| string(old_form::RUNTIME));
    record(item)
}
