//! Runner events: what a job tells while it is at work, in batches, in the order of their sequence numbers.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of the form of batches.
pub const EVENT_VERSION: u64 = 1;
/// The most events of one batch.
pub const BATCH_MAX: usize = 256;
/// The largest number that JSON's readers agree on: 2^53 - 1.
const LARGEST: u64 = (1 << 53) - 1;

/// One event of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunnerEvent {
    /// The place of the event among those of its job. Each is greater than the one before; there may be gaps.
    pub seq: u64,
    /// The time of the event in milliseconds, by the sender's clock. Never less than that of the event before.
    pub t_ms: u64,
    /// The kind of the event.
    pub kind: EventKind,
    /// What the event says, by its kind.
    pub data: Map<String, Value>,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The job's command is about to start.
    RuntimeStarted,
    /// A text of the model.
    AssistantText,
    /// The model asks for a tool.
    ToolRequest,
    /// A tool has answered.
    ToolResponse,
    /// A skill was loaded.
    SkillLoaded,
    /// A file can be read by the agent.
    FileUploaded,
    /// Anything else: a printed line (`stream`, `text`), a measurement.
    Notification,
    /// Something went wrong with the stream. The job goes on.
    StreamError,
    /// The job is over. The last event of every job.
    RuntimeTerminal,
}

impl EventKind {
    const ALL: [(&'static str, Self); 9] = [
        ("runtime_started", Self::RuntimeStarted),
        ("assistant_text", Self::AssistantText),
        ("tool_request", Self::ToolRequest),
        ("tool_response", Self::ToolResponse),
        ("skill_loaded", Self::SkillLoaded),
        ("file_uploaded", Self::FileUploaded),
        ("notification", Self::Notification),
        ("stream_error", Self::StreamError),
        ("runtime_terminal", Self::RuntimeTerminal),
    ];

    /// The kind as it is written.
    pub fn as_str(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, kind)| *kind == self);
        found.map_or("notification", |(name, _)| name)
    }

    fn parse(text: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, kind)| *kind)
    }
}

/// A batch of events of one job: written whole or not at all.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventBatch {
    /// The version, [`EVENT_VERSION`].
    pub v: u64,
    /// The id of the job, which is a runner's `runId`.
    pub run_id: String,
    /// The events, from 1 to [`BATCH_MAX`].
    pub events: Vec<RunnerEvent>,
}

/// A batch that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BatchError {
    /// The rule that the batch breaks.
    pub code: BatchCode,
    /// The place and what is expected there.
    pub message: String,
}

/// The rules of batches, in the order in which they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchCode {
    /// A batch is a JSON object.
    InvalidEnvelope,
    /// `v` is 1.
    VersionMismatch,
    /// `runId` is a text that is not empty.
    MissingRunId,
    /// `events` is a list that is not empty.
    EmptyBatch,
    /// `events` has at most 256 entries.
    BatchTooLarge,
    /// Each event has its members, each of its type.
    InvalidEvent,
    /// `seq` rises from event to event.
    SeqNotMonotonic,
    /// `tMs` does not fall from event to event.
    TMsNotMonotonic,
}

impl BatchCode {
    /// The code as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidEnvelope => "invalid_envelope",
            Self::VersionMismatch => "version_mismatch",
            Self::MissingRunId => "missing_run_id",
            Self::EmptyBatch => "empty_batch",
            Self::BatchTooLarge => "batch_too_large",
            Self::InvalidEvent => "invalid_event",
            Self::SeqNotMonotonic => "seq_not_monotonic",
            Self::TMsNotMonotonic => "t_ms_not_monotonic",
        }
    }
}

impl fmt::Display for BatchCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn wrong(code: BatchCode, message: impl Into<String>) -> BatchError {
    BatchError {
        code,
        message: message.into(),
    }
}

impl EventBatch {
    /// Reads and checks a batch.
    ///
    /// # Errors
    /// The first rule that the batch breaks.
    pub fn read(batch: &Value) -> Result<Self, BatchError> {
        use BatchCode::{
            BatchTooLarge, EmptyBatch, InvalidEnvelope, MissingRunId, VersionMismatch,
        };
        let Some(members) = batch.as_object() else {
            return Err(wrong(InvalidEnvelope, "a batch is a JSON object"));
        };
        let v = members.get("v").unwrap_or(&Value::Null);
        if integer(v) != Some(EVENT_VERSION) {
            return Err(wrong(
                VersionMismatch,
                format!("`v` is {EVENT_VERSION}, not {v}"),
            ));
        }
        let run_id = members.get("runId").and_then(Value::as_str);
        let Some(run_id) = run_id.filter(|id| !id.is_empty()) else {
            return Err(wrong(MissingRunId, "`runId` is a text that is not empty"));
        };
        let events = members.get("events").and_then(Value::as_array);
        let Some(events) = events.filter(|events| !events.is_empty()) else {
            return Err(wrong(EmptyBatch, "`events` is a list that is not empty"));
        };
        if events.len() > BATCH_MAX {
            let message = format!("`events` has {} entries, at most {BATCH_MAX}", events.len());
            return Err(wrong(BatchTooLarge, message));
        }
        Ok(Self {
            v: EVENT_VERSION,
            run_id: run_id.to_owned(),
            events: in_order(events)?,
        })
    }

    /// Reads a batch of newline-delimited JSON: one event a line. The job is named elsewhere.
    ///
    /// # Errors
    /// The first rule that the batch breaks.
    pub fn read_lines(run_id: &str, lines: &str) -> Result<Self, BatchError> {
        let lines = lines.lines().filter(|line| !line.trim().is_empty());
        let read = lines.enumerate().map(|(index, line)| {
            serde_json::from_str(line).map_err(|_| {
                let message = format!("events[{index}] is a JSON object on a line of its own");
                wrong(BatchCode::InvalidEvent, message)
            })
        });
        // One more than is allowed is enough to refuse them.
        let events: Vec<Value> = read.take(BATCH_MAX + 1).collect::<Result<_, _>>()?;
        let batch = serde_json::json!({ "v": EVENT_VERSION, "runId": run_id, "events": events });
        Self::read(&batch)
    }
}

fn in_order(events: &[Value]) -> Result<Vec<RunnerEvent>, BatchError> {
    let mut read: Vec<RunnerEvent> = Vec::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        let event = one(index, event)?;
        if let Some(last) = read.last() {
            follows(index, &event, last.seq, last.t_ms)?;
        }
        read.push(event);
    }
    Ok(read)
}

/// Checks that an event, the one at `index` of its batch, follows one with this sequence number and time.
///
/// # Errors
/// The rule that it breaks.
pub fn follows(index: usize, event: &RunnerEvent, seq: u64, t_ms: u64) -> Result<(), BatchError> {
    if event.seq <= seq {
        let message = format!(
            "events[{index}].seq is {}; it must be greater than {seq}, the one before",
            event.seq
        );
        return Err(wrong(BatchCode::SeqNotMonotonic, message));
    }
    if event.t_ms < t_ms {
        let message = format!(
            "events[{index}].tMs is {}; it must be at least {t_ms}, the one before",
            event.t_ms
        );
        return Err(wrong(BatchCode::TMsNotMonotonic, message));
    }
    Ok(())
}

fn one(index: usize, event: &Value) -> Result<RunnerEvent, BatchError> {
    let invalid = |what: String| wrong(BatchCode::InvalidEvent, format!("events[{index}]{what}"));
    let members = event
        .as_object()
        .ok_or_else(|| invalid(" is a JSON object".to_owned()))?;
    let number = |name: &str| {
        let found = members.get(name).and_then(integer);
        found.ok_or_else(|| invalid(format!(".{name} is an integer from 0 to {LARGEST}")))
    };
    let (seq, t_ms) = (number("seq")?, number("tMs")?);
    let kind = members.get("kind").and_then(Value::as_str);
    let kind = kind.and_then(EventKind::parse).ok_or_else(|| {
        let known: Vec<_> = EventKind::ALL.iter().map(|(name, _)| *name).collect();
        invalid(format!(".kind is one of {}", known.join(", ")))
    })?;
    let data = members.get("data").and_then(Value::as_object).cloned();
    Ok(RunnerEvent {
        seq,
        t_ms,
        kind,
        data: data.ok_or_else(|| invalid(".data is a JSON object".to_owned()))?,
    })
}

/// A whole number that is not negative, however it is written: `1.0` is one.
fn integer(value: &Value) -> Option<u64> {
    let whole = || {
        let number = value.as_f64()?;
        let whole = number.fract() == 0.0 && (0.0..=LARGEST as f64).contains(&number);
        whole.then_some(number as u64)
    };
    value.as_u64().or_else(whole).filter(|it| *it <= LARGEST)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(seq: u64, t_ms: u64) -> Value {
        json!({"seq": seq, "tMs": t_ms, "kind": "notification", "data": {"text": "x"}})
    }

    fn batch(events: Value) -> Value {
        json!({"v": 1, "runId": "job_1", "events": events})
    }

    fn code(batch: &Value) -> &'static str {
        EventBatch::read(batch).map_or_else(|error| error.code.as_str(), |_| "ok")
    }

    #[test]
    fn the_rules_are_checked_in_their_order() {
        let mut wrong = json!({"v": 2, "runId": "", "events": []});
        assert_eq!(code(&json!([wrong.clone()])), "invalid_envelope");
        for (fix, expected) in [
            (("v", json!(1)), "version_mismatch"),
            (("runId", json!("j")), "missing_run_id"),
            (("events", json!(vec![event(1, 1); 257])), "empty_batch"),
            (
                ("events", json!([event(2, 2), event(1, 1), {"seq": -1}])),
                "batch_too_large",
            ),
            (
                ("events", json!([event(2, 2), event(2, 1)])),
                "seq_not_monotonic",
            ),
            (
                ("events", json!([event(2, 2), event(3, 1)])),
                "seq_not_monotonic",
            ),
            (
                ("events", json!([event(2, 2), event(9, 2)])),
                "t_ms_not_monotonic",
            ),
        ] {
            assert_eq!(code(&wrong), expected);
            let (name, value) = fix;
            wrong[name] = value;
        }
        assert_eq!(code(&wrong), "ok");
        // Of two broken rules of one event the first counts, and an earlier event's before a later one's.
        assert_eq!(
            code(&batch(json!([event(2, 2), {"seq": 1}, event(1, 1)]))),
            "invalid_event"
        );
    }

    #[test]
    fn an_event_has_its_members_each_of_its_type() {
        assert_eq!(code(&batch(json!([event(0, 0)]))), "ok");
        for (name, value) in [
            ("seq", json!(-1)),
            ("seq", json!(1.5)),
            ("seq", json!("1")),
            ("seq", json!(1e300)),
            ("tMs", Value::Null),
            ("kind", json!("runtime_ended")),
            ("data", json!([1])),
        ] {
            let mut wrong = event(1, 1);
            wrong[name] = value.clone();
            assert_eq!(
                code(&batch(json!([wrong]))),
                "invalid_event",
                "{name} {value}"
            );
        }
        assert_eq!(
            code(&json!({"v": 1, "runId": "j", "events": {"0": event(1, 1)}})),
            "empty_batch"
        );
    }

    #[test]
    fn a_number_is_whole_however_it_is_written() {
        let read = |text: &str| {
            let batch = serde_json::from_str(text).unwrap();
            EventBatch::read(&batch).unwrap().events[0].seq
        };
        let text = r#"{"v": 1.0, "runId": "j", "events": [{"seq": 7.0, "tMs": 0, "kind": "notification", "data": {}}]}"#;
        assert_eq!(read(text), 7);
    }

    #[test]
    fn lines_are_a_batch_too() {
        let lines = format!("{}\n\n{}\n", event(1, 1), event(2, 1));
        let read = EventBatch::read_lines("job_1", &lines).unwrap();
        assert_eq!(
            read,
            EventBatch::read(&batch(json!([event(1, 1), event(2, 1)]))).unwrap()
        );
        let code = |lines: &str| EventBatch::read_lines("j", lines).unwrap_err().code;
        assert_eq!(code(""), BatchCode::EmptyBatch);
        assert_eq!(code("{}\nnonsense"), BatchCode::InvalidEvent);
        let many = format!("{}\n", event(1, 1)).repeat(300);
        assert_eq!(code(&many), BatchCode::BatchTooLarge);
    }
}
