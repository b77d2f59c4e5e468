//! The kernel's behaviour, as a user would say it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy does not see that these are tests"
)]

mod again;
mod answers;
mod driver;
mod ends;
mod gates;
mod humans;
mod ids;
mod jobs;
mod mailbox;
mod pipelines;
mod properties;
mod records;
mod sizes;
mod support;
mod table;
mod trial_kind;
