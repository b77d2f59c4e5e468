//! The records of 0.1.0, turned into the present form when they are first read. To be deleted by the release after this
//! one.
//!
//! 0.1.0 kept the head in `HEAD`, the mailbox in `WAIT` and every step, the present one too, in `STEP#n`. A run is turned
//! into the present form in one transaction, and leaves items in place of `HEAD` and `WAIT` that no function of 0.1.0 can
//! read: one that is still at work fails, rather than write over a newer record.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use towpath_engine::{Head, Phase, Reason, Role, Run, RunId, Step, Timestamp, Wait, reason};
use towpath_table::{Condition, Item, Key, Write, integer, number, string, text};

use crate::form::{FORM, record, update, whole};
use crate::{Error, Store, keys};

const HEAD: &str = "HEAD";
const WAIT: &str = "WAIT";

/// The sort keys of a head and a mailbox of 0.1.0.
pub(crate) const SORT_KEYS: [&str; 2] = [HEAD, WAIT];

/// The number of times a migration is tried against functions of 0.1.0 that write on.
const TRIES: u32 = 16;

/// The runtime of every job of 0.1.0.
pub(crate) const RUNTIME: &str = "process";

impl Store {
    /// Turns a run of 0.1.0 into the present form. Whether there is such a run, in the present form by now.
    pub(crate) async fn migrate(&self, run: &RunId) -> Result<bool, Error> {
        for _ in 0..TRIES {
            let Some(old) = self.runs.get(&Key::new(run.as_str(), HEAD)).await? else {
                return Ok(false);
            };
            if moved(&old) {
                return Ok(true);
            }
            match self.migrate_once(run, old).await {
                Ok(()) => return Ok(true),
                Err(Error::Conflict) => {}
                Err(other) => return Err(other),
            }
        }
        Err(Error::Conflict)
    }

    async fn migrate_once(&self, run: &RunId, old: Item) -> Result<(), Error> {
        let key = Key::new(run.as_str(), WAIT);
        let wait = self.runs.get(&key).await?;
        let wait = wait.ok_or_else(|| Error::missing(&key))?;
        let steps = self.runs.query(run.as_str(), keys::STEPS).await?;
        // Ids of 0.1.0 count attempts of a step; the present ones go on behind all of them.
        let attempts = steps.iter().filter_map(|step| integer(step, "attempt"));
        let calls = attempts.max().unwrap_or(0);
        let (rev, seq) = (number_of(&old, "rev")?, number_of(&wait, "seq")?);
        let head = head_of(old, calls)?;
        let pin = &head.pipeline;
        let plan = self.plan(&head.workspace, &pin.id, pin.version).await?;
        let present = keys::step(run, head.current);
        let present = steps.into_iter().find(|step| Key::of(step) == present);
        let mut step = match present.map(step_of).transpose()? {
            Some(step) if step.epoch == head.epoch => step,
            Some(step) => step.again(head.epoch),
            None => {
                let spec = plan.step(head.current);
                let spec = spec.ok_or_else(|| Error::missing(&keys::step(run, head.current)))?;
                Step::pending(head.current, spec.agent_kind.clone(), head.epoch)
            }
        };
        if let (Phase::Calling(call), Some(spec)) = (&mut step.phase, plan.step(head.current)) {
            // The budget of a probe is its gate's.
            if let (Role::Probe, Some(gate)) = (call.role, &spec.gate) {
                call.deadline = call.deadline.plus(gate.budget());
            }
        }
        let loaded = Run::new(head, step, plan);
        let mailbox = wait_of(wait, &loaded)?;
        self.runs
            .transact(moves(run, &loaded, &mailbox, rev, seq)?)
            .await?;
        Ok(())
    }
}

/// The writes that move a run from its old items to its new ones.
fn moves(run: &RunId, loaded: &Run, wait: &Wait, rev: u64, seq: u64) -> Result<Vec<Write>, Error> {
    let tombstone = |sk, name, value| {
        let item = HashMap::from([
            ("v".to_owned(), number(FORM)),
            ("moved".to_owned(), AttributeValue::Bool(true)),
        ]);
        let write = Write::put(Key::new(run.as_str(), sk), item);
        write.when(Condition::Equals(name, number(value)))
    };
    let head = &loaded.head;
    let key = keys::head(run);
    let listed = keys::head_listed(update(&key, head)?, head);
    let due = head.stop.as_ref().map(|mark| mark.at);
    let head = whole(key.clone(), keys::due(listed, &key.pk, due));
    let key = keys::present_step(run);
    let step = whole(key.clone(), update(&key, &loaded.step)?);
    let key = keys::wait(run);
    let mailbox = whole(
        key.clone(),
        keys::due(update(&key, wait)?, &key.pk, wait.due),
    );
    Ok(vec![
        head.when(Condition::Absent),
        step.when(Condition::Absent),
        mailbox.when(Condition::Absent),
        tombstone(HEAD, "rev", rev),
        tombstone(WAIT, "seq", seq),
    ])
}

/// Whether an item of 0.1.0 has been turned into the present form.
pub(crate) fn moved(item: &Item) -> bool {
    item.contains_key("moved")
}

fn number_of(item: &Item, name: &str) -> Result<u64, Error> {
    integer(item, name).ok_or_else(|| Error::damaged(&Key::of(item), format!("it has no {name}")))
}

/// A head of 0.1.0.
pub(crate) fn head_of(mut item: Item, calls: u64) -> Result<Head, Error> {
    item.remove("deaths");
    item.insert("calls".to_owned(), number(calls));
    record(item)
}

/// A step of either form.
pub(crate) fn step_of(mut item: Item) -> Result<Step, Error> {
    let Some(activity) = item.remove("activity") else {
        return record(item);
    };
    let gate = item.remove("gate");
    let since = gate
        .as_ref()
        .and_then(|gate| gate.as_m().ok()?.get("since").cloned());
    let paused = item.get("pausedAt").cloned().unwrap_or_else(|| number(0));
    let phase = phase_of(
        activity.as_m().cloned().unwrap_or_default(),
        since.unwrap_or_else(|| number(0)),
        paused,
    );
    item.insert("phase".to_owned(), AttributeValue::M(phase));
    item.extend(gate.map(|gate| ("state".to_owned(), gate)));
    item.remove("unreadable");
    for (record, reference) in [("approval", "proposal"), ("revision", "previous")] {
        if let Some(AttributeValue::M(record)) = item.get_mut(record) {
            numbered(record.get_mut(reference));
        }
    }
    numbered(item.get_mut("output"));
    record(item)
}

/// Names the number of an output that 0.1.0 called the attempt.
fn numbered(output: Option<&mut AttributeValue>) {
    if let Some(AttributeValue::M(output)) = output
        && let Some(attempt) = output.remove("attempt")
    {
        output.insert("number".to_owned(), attempt);
    }
}

/// The phase of an activity. The deadline of a probe is when its gate began; its budget is still to be added.
fn phase_of(mut activity: Item, gate_since: AttributeValue, paused: AttributeValue) -> Item {
    let is = text(&activity, "is");
    let map = |members: Vec<(&str, AttributeValue)>| -> Item {
        let members = members.into_iter();
        members
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    };
    let asking = |subject: Option<AttributeValue>, about: &str| {
        map(vec![
            ("is", string("asking")),
            ("subject", subject.unwrap_or_else(|| string(""))),
            ("about", string(about)),
            ("since", paused.clone()),
        ])
    };
    match is.as_str() {
        "job" => {
            activity.insert("is".to_owned(), string("calling"));
            activity.insert("runtime".to_owned(), string(RUNTIME));
            activity
        }
        "checking" => match activity.remove("probe") {
            Some(probe) => map(vec![
                ("is", string("calling")),
                ("id", probe),
                ("role", string(Role::Probe.as_str())),
                ("runtime", string(RUNTIME)),
                ("deadline", gate_since),
            ]),
            None => map(vec![
                ("is", string("resting")),
                ("since", gate_since.clone()),
                ("until", gate_since),
                ("why", string("the gate looks again")),
            ]),
        },
        "deciding" => asking(activity.remove("decision"), "decision"),
        "approving" => asking(activity.remove("approval"), "approval"),
        "done" => map(vec![("is", string("done"))]),
        // An inline agent that was at work is asked again.
        _ => map(vec![("is", string("pending"))]),
    }
}

/// A mailbox of 0.1.0, of this run.
pub(crate) fn wait_of(mut item: Item, run: &Run) -> Result<Wait, Error> {
    let since = integer(&item, "since").unwrap_or(0);
    if item.remove("drive").is_some() {
        item.insert("driveAt".to_owned(), number(since));
    }
    let wake = match text(&item, "wake").as_str() {
        "Advance" => Some("advance"),
        "PollJob" => Some("poll-job"),
        "PollGate" => Some("poll-gate"),
        "Handover" => Some("handover"),
        "Succeed" => Some("over"),
        _ => None,
    };
    item.extend(wake.map(|wake| ("wake".to_owned(), string(wake))));
    item.entry("form".to_owned()).or_insert_with(|| number(1));
    let present = reason(run).unwrap_or(match run.head.status.is_terminal() {
        true => Reason::Nothing,
        false => Reason::Driver,
    });
    item.insert(
        "reason".to_owned(),
        AttributeValue::M(HashMap::from([("for".to_owned(), string("driver"))])),
    );
    let wait: Wait = record(item)?;
    Ok(Wait {
        reason: present,
        since: Timestamp(since),
        ..wait
    })
}
