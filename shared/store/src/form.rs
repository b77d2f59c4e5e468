//! Forms: how a record becomes an item and an item a record, and what keeps releases apart.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde::de::DeserializeOwned;
use towpath_table::{Item, Key, Update, Write, integer, number};

use crate::Error;

/// The form of the items that this release writes, and the newest that it reads. Items of 0.1.0 have none, or 1.
pub(crate) const FORM: u64 = 2;

/// The attributes that a live record may lack. An attribute that is in neither the record nor this list is somebody
/// else's, and stays as it is.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// The names of these attributes.
    const OPTIONAL: &'static [&'static str];
}

impl Record for towpath_engine::Head {
    const OPTIONAL: &'static [&'static str] = &[
        "driver",
        "stop",
        "failure",
        "initiatedBy",
        "retriedFrom",
        "finishedAt",
    ];
}

impl Record for towpath_engine::Wait {
    const OPTIONAL: &'static [&'static str] = &[
        "fence", "token", "due", "wake", "driveAt", "polls", "entries", "entered", "retrying",
    ];
}

impl Record for towpath_engine::Step {
    const OPTIONAL: &'static [&'static str] = &[
        "skipped",
        "startedAt",
        "pausedAt",
        "finishedAt",
        "output",
        "confidence",
        "decisions",
        "approval",
        "revision",
        "state",
        "evictions",
        "unreadable",
        "replaces",
        "model",
        "usage",
        "lastJob",
    ];
}

/// The attributes of a record, its form among them.
pub(crate) fn attributes<T: Serialize>(key: &Key, record: &T) -> Result<Item, Error> {
    let mut item: Item =
        serde_dynamo::aws_sdk_dynamodb_1::to_item(record).map_err(|e| Error::damaged(key, e))?;
    item.insert("v".to_owned(), number(FORM));
    pack(&mut item);
    Ok(item)
}

/// The task token of a mailbox: 700 to 800 characters of base64, of 1,024 bytes that one write unit pays for.
const TOKEN: &str = "token";

/// Stores the token as the bytes that it stands for, a quarter shorter. One that is no base64 stays a text.
fn pack(item: &mut Item) {
    let text = item.get(TOKEN).and_then(|token| token.as_s().ok());
    let Some(text) = text else { return };
    let bytes = BASE64.decode(text).ok();
    // Some other text might stand for the same bytes.
    if let Some(bytes) = bytes.filter(|bytes| BASE64.encode(bytes) == *text) {
        item.insert(TOKEN.to_owned(), AttributeValue::B(Blob::new(bytes)));
    }
}

/// The reverse of [`pack`].
fn unpack(item: &mut Item) {
    if let Some(AttributeValue::B(bytes)) = item.get(TOKEN) {
        let text = BASE64.encode(bytes);
        item.insert(TOKEN.to_owned(), AttributeValue::S(text));
    }
}

/// A write of a record that is never changed, or whose writer knows all of it.
pub(crate) fn put<T: Serialize>(key: Key, record: &T) -> Result<Write, Error> {
    let item = attributes(&key, record)?;
    Ok(Write::put(key, item))
}

/// The changes that make a live item say what its record says, and leave alone what this release does not know.
pub(crate) fn update<T: Record>(key: &Key, record: &T) -> Result<Update, Error> {
    let item = attributes(key, record)?;
    let gone = T::OPTIONAL.iter().filter(|name| !item.contains_key(**name));
    let gone = gone.map(ToString::to_string).collect();
    let mut set: Vec<_> = item.into_iter().collect();
    set.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(Update {
        set,
        remove: gone,
        ..Update::default()
    })
}

/// A write of a whole item, with the attributes that an update sets.
pub(crate) fn whole(key: Key, update: Update) -> Write {
    Write::put(key, update.set.into_iter().collect())
}

/// The record of an item.
pub(crate) fn record<T: DeserializeOwned>(mut item: Item) -> Result<T, Error> {
    let key = known(&item)?;
    unpack(&mut item);
    serde_dynamo::aws_sdk_dynamodb_1::from_item(item).map_err(|e| Error::damaged(&key, e))
}

/// The key of an item, if its form is one that this release knows.
pub(crate) fn known(item: &Item) -> Result<Key, Error> {
    let key = Key::of(item);
    match integer(item, "v") {
        Some(form) if form > FORM => Err(Error::Newer(key.to_string())),
        _ => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;
    use towpath_engine::{Head, Step, Wait};

    use super::*;

    /// Asserts that the list of what a record may lack is what its two extremes differ by.
    fn lists<T: Record>(least: &serde_json::Value, most: &serde_json::Value) {
        let names = |value: &serde_json::Value| -> BTreeSet<String> {
            let record: T = serde_json::from_value(value.clone()).unwrap();
            let value = serde_json::to_value(record).unwrap();
            value.as_object().unwrap().keys().cloned().collect()
        };
        let differ: BTreeSet<_> = names(most).difference(&names(least)).cloned().collect();
        let listed = T::OPTIONAL.iter().map(ToString::to_string).collect();
        assert_eq!(differ, listed);
    }

    fn with(mut value: serde_json::Value, more: serde_json::Value) -> serde_json::Value {
        let serde_json::Value::Object(more) = more else {
            panic!("{more}")
        };
        value.as_object_mut().unwrap().extend(more);
        value
    }

    /// The size of a value as DynamoDB counts it, in bytes: at least.
    fn size(value: &AttributeValue) -> usize {
        match value {
            AttributeValue::S(text) => text.len(),
            AttributeValue::N(digits) => digits.len().div_ceil(2) + 1,
            AttributeValue::B(bytes) => bytes.as_ref().len(),
            AttributeValue::M(map) => {
                let entries = map.iter().map(|(name, value)| name.len() + size(value) + 1);
                3 + entries.sum::<usize>()
            }
            _ => 1,
        }
    }

    #[test]
    fn a_mailbox_with_a_long_token_is_one_write_unit() {
        let reasons = [
            json!({ "for": "job", "job": format!("job_{}-{}", &RUN[4..], u32::MAX), "role": "helper", "deadline": u64::from(u32::MAX) * 1000 }),
            json!({ "for": "rest", "step": 499, "until": u64::from(u32::MAX) * 1000 }),
            json!({ "for": "human", "subject": format!("apr-{}", u32::MAX) }),
        ];
        for reason in reasons {
            let late = u64::from(u32::MAX) * 1000;
            let wait: Wait = serde_json::from_value(json!({
                "seq": u32::MAX, "generation": 9_999, "token": "t".repeat(800), "form": 2, "reason": reason,
                "fence": { "generation": 9_999, "entered": late, "retry": 99 }, "since": late, "due": late,
                "polls": 99_999, "entries": 9_999,
            }))
            .unwrap();
            let key = crate::keys::wait(&RUN.parse().unwrap());
            let mut item = attributes(&key, &wait).unwrap();
            item.extend(key.attributes());
            let update = crate::keys::due(Update::default(), &key.pk, wait.due);
            item.extend(update.set);
            let bytes: usize = item
                .iter()
                .map(|(name, value)| name.len() + size(value))
                .sum();
            assert!(bytes <= 1024, "{bytes}: {item:?}");
            assert_eq!(record::<Wait>(item).unwrap(), wait);
        }
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let key = crate::keys::wait(&RUN.parse().unwrap());
        for (token, packed) in [
            ("AQCEAAAAKgAAAAMAAAAA", true),
            ("no base64", false),
            ("AB==", false),
            ("", true),
        ] {
            let wait: Wait = serde_json::from_value(json!({
                "seq": 1, "generation": 1, "token": token, "form": 2, "reason": { "for": "driver" }, "since": 1,
            }))
            .unwrap();
            let item = attributes(&key, &wait).unwrap();
            assert_eq!(item[TOKEN].is_b(), packed, "{token}");
            assert_eq!(record::<Wait>(item).unwrap(), wait);
        }
    }

    const RUN: &str = "run_01ARZ3NDEKTSV4RRFFQ69G5FAV";

    #[test]
    fn what_a_record_may_lack_is_listed() {
        let head = json!({"id": RUN, "workspace": "w", "block": "b", "status": "running", "current": 0,
            "pipeline": {"id": "p", "version": 1, "name": "", "steps": 1}, "epoch": 0, "calls": 0, "generation": 1,
            "createdAt": 0, "rev": 0});
        let more = json!({"driver": {"counted": 1, "excused": 0}, "stop": {"actor": "a", "at": 1}, "initiatedBy": "a",
            "retriedFrom": RUN, "finishedAt": 1,
            "failure": {"kind": "unknown", "message": "", "hint": "", "occurredAt": 1}});
        lists::<Head>(&head, &with(head.clone(), more));
        let wait =
            json!({"seq": 0, "generation": 1, "form": 2, "reason": {"for": "driver"}, "since": 0});
        let more = json!({"fence": {"generation": 1, "entered": 1, "retry": 0}, "token": "t", "due": 1,
            "wake": "advance", "driveAt": 1, "polls": 1, "entries": 1, "entered": 1, "retrying": true});
        lists::<Wait>(&wait, &with(wait.clone(), more));
        let step = json!({"index": 0, "agentKind": "coder", "epoch": 0, "attempt": 0, "phase": {"is": "pending"}});
        let output = json!({"number": 1, "bytes": 1});
        let more = json!({"skipped": true, "startedAt": 1, "pausedAt": 1, "finishedAt": 1, "output": output,
            "confidence": 0.5, "decisions": [{"id": "d", "question": "", "options": []}],
            "approval": {"id": "a", "status": "pending", "proposal": output}, "revision": {"previous": output},
            "state": {"a": 1}, "evictions": {"crashes": 1}, "unreadable": {"looks": 1},
            "replaces": [{"job": "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-1", "runtime": "process"}], "model": "m", "usage": {},
            "lastJob": "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-2"});
        lists::<Step>(&step, &with(step.clone(), more));
    }

    #[test]
    fn a_newer_form_is_told_apart_and_not_read() {
        let key = Key::new(RUN, "NOW#WAIT");
        let mut item = attributes(&key, &json!({"seq": 0})).unwrap();
        item.extend(key.attributes());
        item.insert("v".to_owned(), number(FORM + 1));
        let read = record::<Wait>(item);
        assert!(matches!(read, Err(Error::Newer(_))), "{read:?}");
    }
}
