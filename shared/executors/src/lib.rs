//! Executors: machines that dial in and take missions.
//!
//! The contract between them and a deployment is `executor.v1`: messages over HTTP and a WebSocket. The types here are its
//! only description: what they cannot be read from is refused ([`validate_register_payload`],
//! [`validate_event_envelope`], [`validate_dispatch_payload`]), and the schema that is published ([`schema`]) is derived
//! from them. Beside the messages stand the pure rules: which events a mission takes in which state ([`MissionState`]),
//! and which executor gets a mission ([`select`]).

mod event;
mod extension;
mod messages;
mod mission;
mod number;
mod object;
mod schema;
mod select;
mod text;
mod validate;
mod words;

pub use event::*;
pub use extension::*;
pub use messages::*;
pub use mission::{IllegalTransition, MissionState, Operation};
pub use number::{Count, Integer, Percent};
pub use schema::{SCHEMA, schema};
pub use select::{Candidate, Isolation, NobodyFits, Selected, select};
pub use text::{Capability, ExecutorId, Instant, MissionId, SpecVersion};
pub use validate::{
    Validity, read_message, validate_dispatch_payload, validate_event_envelope,
    validate_register_payload,
};
