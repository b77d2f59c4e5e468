//! The rules of the engine, as a user would say them. Everything here is pure: no clock, no store, no driver.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic, its helpers too"
)]

mod advance;
mod ends;
mod gates;
mod humans;
mod jobs;
mod pipelines;
mod properties;
mod records;
mod support;
mod table;
mod wait;
