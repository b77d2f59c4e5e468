//! The texts of the contract that have a form of their own, each in a type.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use towpath_engine::is_capability;

/// Defines a newtype of texts. `$check` decides whether a text is one, and `$schema` says so to others.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $def:literal, $expected:literal, $check:expr, $schema:tt) => {
        towpath_engine::id!($(#[$doc])* $name, $expected, $check);

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                $def.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

text!(
    /// The identity of an executor: a UUID that it keeps across restarts.
    ExecutorId, "executor_id", "a UUID, such as 6f1e2a52-6d0a-4f0e-9a53-0c5b2f3a7d11", is_uuid,
    { "type": "string", "format": "uuid" }
);
text!(
    /// The identity of a mission, opaque to an executor.
    MissionId, "mission_id", "a mission id (1 to 128 visible ASCII characters)",
    |text| (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()),
    { "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" }
);
text!(
    /// A capability of an executor: `category:specifier`, a flag such as `resumable`, or an extension `x-…`.
    Capability, "capability",
    "a capability (isolation:…, runtime:…, platform:os/arch, resumable, hitl, multi-tenant or x-…)", is_capability,
    { "type": "string", "pattern": CAPABILITY }
);
text!(
    /// The version of the contract that an executor speaks: any 1.x.
    SpecVersion, "spec_version", "a version 1.x of the contract, such as 1.0.0", is_version_1,
    { "type": "string", "pattern": "^1\\.(0|[1-9][0-9]{0,5})\\.(0|[1-9][0-9]{0,5})$" }
);
text!(
    /// A time as RFC 3339 writes it.
    Instant, "ts", "a time such as 2026-01-02T03:04:05.678Z",
    |text| text.parse::<jiff::Timestamp>().is_ok(),
    { "type": "string", "format": "date-time" }
);

impl ExecutorId {
    /// The executor of a mission that waits for one: the nil UUID.
    pub fn nobody() -> Self {
        Self("00000000-0000-0000-0000-000000000000".to_owned())
    }
}

impl SpecVersion {
    /// The version of the contract that this deployment speaks.
    pub const OURS: &'static str = "1.0.0";

    /// Whether the version is newer than this deployment's: it is served, with a warning.
    pub fn is_newer(&self) -> bool {
        self.0 != Self::OURS
    }
}

impl Instant {
    /// The time of this many milliseconds since the epoch. Times that no calendar has are the epoch.
    pub fn of_ms(ms: u64) -> Self {
        let ms = i64::try_from(ms).unwrap_or_default();
        let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
        Self(format!("{time:.3}"))
    }

    /// The time in milliseconds since the epoch; times before it are 0.
    pub fn as_ms(&self) -> u64 {
        let time = self.0.parse::<jiff::Timestamp>().unwrap_or_default();
        u64::try_from(time.as_millisecond()).unwrap_or_default()
    }
}

/// The form of a capability, for the schema; [`is_capability`] holds the same.
const CAPABILITY: &str = "^(isolation:[a-z][a-z0-9_-]*|runtime:(claude-code|codex|cursor|aider|custom:[a-z][a-z0-9_-]*)\
     |platform:[a-z][a-z0-9_-]*/[a-z][a-z0-9_-]+|resumable|hitl|multi-tenant|x-[a-z][a-z0-9_:-]*)$";

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12])
        && text
            .bytes()
            .all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

fn is_version_1(text: &str) -> bool {
    let is_number = |part: &str| {
        (1..=6).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let mut parts = text.split('.');
    let parts = [parts.next(), parts.next(), parts.next(), parts.next()];
    matches!(parts, [Some("1"), Some(minor), Some(patch), None] if is_number(minor) && is_number(patch))
}
