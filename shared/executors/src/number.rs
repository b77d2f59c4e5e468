//! The numbers of the contract. As in JSON Schema, a number without a fraction is an integer however it is written: 1.0 is 1.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Defines a newtype of numbers, read from any number that `$read` takes.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($type:ty), $read:expr, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "serde_json::Number")]
        pub struct $name($type);

        impl $name {
            /// The number.
            pub fn get(self) -> $type {
                self.0
            }
        }

        impl $name {
            /// The number, which the caller knows to be one of these.
            pub fn of(number: $type) -> Self {
                Self(number)
            }
        }

        impl From<$name> for $type {
            fn from(number: $name) -> $type {
                number.0
            }
        }

        impl TryFrom<serde_json::Number> for $name {
            type Error = String;
            fn try_from(number: serde_json::Number) -> Result<Self, String> {
                let read: fn(&serde_json::Number) -> Result<$type, String> = $read;
                read(&number).map(Self)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

number!(
    /// A number of things.
    Count(u64),
    |number| {
        let count = u64::try_from(whole(number)?);
        count.map_err(|_| format!("{number} is less than 0"))
    },
    { "type": "integer", "minimum": 0 }
);
number!(
    /// An integer, such as an exit code.
    Integer(i64),
    whole,
    { "type": "integer" }
);
number!(
    /// A part of a whole, in percent.
    Percent(f64),
    |number| {
        let percent = number.as_f64().filter(|it| (0.0..=100.0).contains(it));
        percent.ok_or_else(|| format!("{number} is not from 0 to 100"))
    },
    { "type": "number", "minimum": 0, "maximum": 100 }
);

/// The largest integer up to which a double holds every one, 2 to the power of 53.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn whole(number: &serde_json::Number) -> Result<i64, String> {
    if let Some(whole) = number.as_i64() {
        return Ok(whole);
    }
    let exact = number
        .as_f64()
        .filter(|it| it.fract() == 0.0 && it.abs() <= EXACT);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is an integer, and small enough"
    )]
    let whole = exact.map(|it| it as i64);
    whole.ok_or_else(|| format!("{number} is not an integer"))
}
