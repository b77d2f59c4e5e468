//! The invariants, on the raw items: of each change of one item, and of all items together.

use std::collections::BTreeMap;

use towpath_table::{Item, Key, integer, text};

/// Whether a status is that of a run which is over.
pub(crate) fn is_over(head: &Item) -> bool {
    matches!(text(head, "status").as_str(), "done" | "failed")
}

/// Checks the change of one item.
///
/// # Errors
/// The broken invariants, in words.
pub(crate) fn change(key: &Key, before: Option<&Item>, after: Option<&Item>) -> Result<(), String> {
    let (Some(before), Some(after)) = (before, after) else {
        return match (before, key.sk.as_str()) {
            // Only locks, kept stops and rows of what must be gone are ever deleted.
            (Some(_), sk) if !matches!(sk, "LOCK" | "STOP") && !sk.starts_with("REAP#") => {
                Err("a record was deleted".to_owned())
            }
            _ => Ok(()),
        };
    };
    // What could not be seen to is pushed back: that says nothing about the record.
    let record = |item: &Item| {
        let mut item = item.clone();
        item.remove("dueAt");
        item.remove("dueTries");
        item
    };
    if record(before) == record(after) && before.contains_key("dueAt") {
        return Ok(());
    }
    let rises = |name: &str, strictly: bool| {
        let (old, new) = (integer(before, name), integer(after, name));
        match new > old || (!strictly && new == old) {
            true => Ok(()),
            false => Err(format!("{name} went from {old:?} to {new:?}")),
        }
    };
    match key.sk.as_str() {
        "NOW#HEAD" => {
            if is_over(before) {
                return Err("a run changed after its end".to_owned());
            }
            if before.contains_key("stop") && !is_over(after) {
                return Err("a run went on past the mark of a stop".to_owned());
            }
            rises("rev", true)?;
            for name in ["calls", "generation", "epoch"] {
                rises(name, false)?;
            }
            Ok(())
        }
        "NOW#WAIT" => {
            rises("seq", true)?;
            rises("generation", false)
        }
        "NOW#STEP" => budgets(after),
        "BLOCK" => rises("rev", true),
        sk if ["AUDIT#", "OUT#"].iter().any(|it| sk.starts_with(it)) && before != after => {
            Err("what is written once was written again".to_owned())
        }
        _ => Ok(()),
    }
}

/// Whether a mission is over, by its record.
pub(crate) fn mission_is_over(mission: &Item) -> bool {
    matches!(
        text(mission, "state").as_str(),
        "done" | "failed" | "aborted"
    )
}

/// Checks the change of one item of the table of executors.
///
/// # Errors
/// The broken invariants, in words.
pub(crate) fn executors_change(
    key: &Key,
    before: Option<&Item>,
    after: Option<&Item>,
) -> Result<(), String> {
    let (Some(before), Some(after)) = (before, after) else {
        return Ok(());
    };
    if key.pk.contains("#mission#") && key.sk == "MISSION" && mission_is_over(before) {
        let (was, is) = (text(before, "state"), text(after, "state"));
        if was != is {
            return Err(format!("a mission that was {was} is {is}"));
        }
    }
    if before.contains_key("end") && before.get("end") != after.get("end") {
        return Err("a job ended twice".to_owned());
    }
    Ok(())
}

/// Whether the counters of a step are within their budgets.
fn budgets(step: &Item) -> Result<(), String> {
    let map = |name: &str| step.get(name).and_then(|value| value.as_m().ok());
    if let Some(evictions) = map("evictions") {
        let count = |name: &str| integer(evictions, name).unwrap_or(0);
        if count("crashes") > 1 || count("transient") > 5 {
            return Err(format!("evictions beyond the budget: {evictions:?}"));
        }
    }
    if let Some(gate) = map("state") {
        let count = |name: &str| integer(gate, name).unwrap_or(0);
        if count("attempts") > count("maxAttempts") {
            return Err(format!("a helper was sent too often: {gate:?}"));
        }
    }
    Ok(())
}

/// Checks all items together.
///
/// # Errors
/// The broken invariants, in words.
pub(crate) fn all(items: &BTreeMap<Key, Item>) -> Result<(), String> {
    let mut live: BTreeMap<String, &str> = BTreeMap::new();
    for (key, head) in items.iter().filter(|(key, _)| key.sk == "NOW#HEAD") {
        if is_over(head) {
            continue;
        }
        let block = text(head, "block");
        if let Some(other) = live.insert(block.clone(), &key.pk) {
            return Err(format!("{other} and {} are both live on {block}", key.pk));
        }
        let wait = items.get(&Key::new(&key.pk, "NOW#WAIT"));
        let Some(wait) = wait.filter(|wait| wait.contains_key("dueAt")) else {
            return Err(format!(
                "{} is live, and nobody will look: {wait:?}",
                key.pk
            ));
        };
        let reason = wait.get("reason").and_then(|reason| reason.as_m().ok());
        let reason = reason.map(|reason| text(reason, "for")).unwrap_or_default();
        if reason.is_empty() || reason == "nothing" {
            return Err(format!("{} is live and waits for {reason:?}", key.pk));
        }
        let locked = items
            .keys()
            .find(|lock| lock.sk == "LOCK" && lock.pk.ends_with(&format!("#block#{block}")));
        let holder = locked.and_then(|lock| items.get(lock));
        if holder.map(|lock| text(lock, "run")).as_deref() != Some(&key.pk) {
            return Err(format!("{} is live without the lock of {block}", key.pk));
        }
    }
    Ok(())
}
