//! The keys of every item.

use sha2::{Digest, Sha256};
use towpath_engine::{
    BlockId, Head, JobId, PipelineId, RunId, SecretName, StepIndex, Timestamp, WorkspaceId,
};
use towpath_executors::{ExecutorId, MissionId};
use towpath_table::{Key, Update, string};

use crate::{DUE_SHARDS, Error};

/// The prefix of the sort keys that a driver loads together.
pub(crate) const NOW: &str = "NOW#";
pub(crate) const HEAD: &str = "NOW#HEAD";
pub(crate) const STEP: &str = "NOW#STEP";
pub(crate) const WAIT: &str = "NOW#WAIT";
pub(crate) const LOCK: &str = "LOCK";
pub(crate) const STOP: &str = "STOP";
/// The prefix of the sort keys of steps that a run has left.
pub(crate) const STEPS: &str = "STEP#";
pub(crate) const AUDITS: &str = "AUDIT#";
pub(crate) const REAPS: &str = "REAP#";

pub(crate) fn head(run: &RunId) -> Key {
    Key::new(run.as_str(), HEAD)
}

pub(crate) fn present_step(run: &RunId) -> Key {
    Key::new(run.as_str(), STEP)
}

pub(crate) fn wait(run: &RunId) -> Key {
    Key::new(run.as_str(), WAIT)
}

pub(crate) fn input(run: &RunId) -> Key {
    Key::new(run.as_str(), "INPUT")
}

pub(crate) fn step(run: &RunId, step: StepIndex) -> Key {
    Key::new(run.as_str(), format!("{STEPS}{:04}", step.0))
}

pub(crate) fn output(run: &RunId, step: StepIndex, number: u32) -> Key {
    Key::new(run.as_str(), format!("OUT#{:04}#{number:05}", step.0))
}

/// The part of the sort keys of a step's outputs that its number does not tell: every output of an earlier step sorts
/// before it.
pub(crate) fn outputs_of(step: StepIndex) -> String {
    format!("OUT#{:04}", step.0)
}

/// The step whose output has this key.
pub(crate) fn step_of_output(key: &Key) -> Result<StepIndex, Error> {
    let number = key.sk.strip_prefix("OUT#").and_then(|rest| rest.get(..4));
    let number = number.and_then(|digits| digits.parse().ok());
    number
        .map(StepIndex)
        .ok_or_else(|| Error::damaged(key, "it is no key of an output"))
}

pub(crate) fn audit(run: &RunId, subject: &str) -> Key {
    Key::new(run.as_str(), format!("{AUDITS}{subject}"))
}

pub(crate) fn stop_request(run: &RunId) -> Key {
    Key::new(run.as_str(), STOP)
}

pub(crate) fn reap(job: &JobId) -> Key {
    Key::new(job.run().as_str(), format!("{REAPS}{job}"))
}

/// The prefix of the sort keys of events: those of all jobs of a run, in the order of the jobs.
pub(crate) const EVENTS: &str = "EV#";

pub(crate) fn job(job: &JobId) -> Result<Key, Error> {
    Ok(Key::new(
        job.run().as_str(),
        format!("JOB#{:010}", number(job)?),
    ))
}

/// The part of the sort keys of a job's events that is the same for all of them.
pub(crate) fn events_of(job: &JobId) -> Result<String, Error> {
    Ok(format!("{EVENTS}{:010}#", number(job)?))
}

/// A job that runs elsewhere has a number: those of 0.1.0 ran on the laptop only.
fn number(job: &JobId) -> Result<u32, Error> {
    let nameless = || Error::Broken(format!("the job {job} is of release 0.1.0"));
    job.number().ok_or_else(nameless)
}

pub(crate) fn block(workspace: &WorkspaceId, block: &BlockId) -> Key {
    Key::new(format!("{workspace}#block#{block}"), "BLOCK")
}

pub(crate) fn lock(workspace: &WorkspaceId, block: &BlockId) -> Key {
    Key::new(format!("{workspace}#block#{block}"), LOCK)
}

pub(crate) fn pipeline(workspace: &WorkspaceId, pipeline: &PipelineId) -> Key {
    Key::new(format!("{workspace}#pipeline#{pipeline}"), "LATEST")
}

pub(crate) fn pipeline_version(
    workspace: &WorkspaceId,
    pipeline: &PipelineId,
    version: u32,
) -> Key {
    let pk = format!("{workspace}#pipeline#{pipeline}");
    Key::new(pk, format!("V#{version:010}"))
}

pub(crate) fn idempotency(workspace: &WorkspaceId, key: &str) -> Key {
    Key::new(format!("{workspace}#idempotency#{key}"), "KEY")
}

pub(crate) fn secrets(workspace: &WorkspaceId) -> String {
    format!("{workspace}#secrets")
}

pub(crate) fn secret(workspace: &WorkspaceId, name: &SecretName) -> Key {
    Key::new(secrets(workspace), name.as_str())
}

pub(crate) fn listed_keys(workspace: &WorkspaceId) -> String {
    format!("{workspace}#keys")
}

pub(crate) fn listed_key(workspace: &WorkspaceId, id: &str) -> Key {
    Key::new(listed_keys(workspace), id)
}

pub(crate) fn api_key(hash: &str) -> Key {
    Key::new(format!("apikey#{hash}"), "KEY")
}

/// The partition of a workspace's executors.
pub(crate) fn executors(workspace: &WorkspaceId) -> String {
    format!("{workspace}#executors")
}

pub(crate) fn executor(workspace: &WorkspaceId, id: &ExecutorId) -> Key {
    Key::new(executors(workspace), id.as_str())
}

pub(crate) fn executor_token(hash: &str) -> Key {
    Key::new(format!("xtoken#{hash}"), "TOKEN")
}

pub(crate) fn connection(id: &str) -> Key {
    Key::new(format!("connection#{id}"), "CONNECTION")
}

/// The partition of the messages that wait for an executor.
pub(crate) fn messages(workspace: &WorkspaceId, id: &ExecutorId) -> String {
    format!("{workspace}#executor#{id}")
}

/// The sort key of a mission.
pub(crate) const MISSION: &str = "MISSION";
/// The prefix of the sort keys of a mission's events.
pub(crate) const MISSION_EVENTS: &str = "EVENT#";

pub(crate) fn mission(workspace: &WorkspaceId, id: &MissionId) -> Key {
    Key::new(format!("{workspace}#mission#{id}"), MISSION)
}

/// The partition of a workspace's missions that wait for an executor.
pub(crate) fn queue(workspace: &WorkspaceId) -> String {
    format!("{workspace}#queue")
}

/// The partition of the due index that a partition's items are in.
pub(crate) fn shard(pk: &str) -> u16 {
    let first = Sha256::digest(pk.as_bytes()).first().copied().unwrap_or(0);
    u16::from(first) % DUE_SHARDS
}

pub(crate) fn shard_name(shard: u16) -> String {
    format!("due#{shard:02}")
}

/// Puts an item into the index of what is due, or takes it out. How often it was pushed back is forgotten.
pub(crate) fn due(update: Update, pk: &str, at: Option<Timestamp>) -> Update {
    let update = update.remove("dueTries");
    match at {
        Some(at) => update
            .set("dueShard", string(shard_name(shard(pk))))
            .set("dueAt", towpath_table::number(at.0)),
        None => update.remove("dueShard").remove("dueAt"),
    }
}

/// Puts an item into the listing of a workspace.
pub(crate) fn listed(update: Update, listing: String, at: impl ToString) -> Update {
    update
        .set("listing", string(listing))
        .set("listedAt", string(at))
}

/// Puts a new head into the listings of its workspace: that of all runs, and that of the live ones.
pub(crate) fn head_listed(update: Update, head: &Head) -> Update {
    let update = listed(update, format!("{}#run", head.workspace), &head.id);
    match head.status.is_terminal() {
        true => update,
        false => update.set("live", string(live_listing(&head.workspace))),
    }
}

/// The listing of the live runs of a workspace.
pub(crate) fn live_listing(workspace: &WorkspaceId) -> String {
    format!("{workspace}#live")
}
