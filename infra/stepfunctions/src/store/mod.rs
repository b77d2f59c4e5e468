//! The store of everything: one SQLite database, in memory or in a file.
//!
//! A turn is one transaction, written before any of its effects. In a file, the write-ahead log with
//! `synchronous=NORMAL` survives the death of the process at any instant (not that of the machine).

mod database;
#[cfg(test)]
pub(crate) mod fuse;
mod lock;
mod read;
mod row;
mod schema;

pub(crate) use database::{RETENTION_MS, Store};
pub use read::Counts;
pub(crate) use read::Page;
