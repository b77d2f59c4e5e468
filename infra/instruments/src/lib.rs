//! What looks on at AWS calls, or breaks them: the meter of table units, faults, and deaths of invocations.
//!
//! [`Instruments`] are passed into the clients from outside: see [`towpath_aws::Instrument`]. They are for the local cloud
//! and for tests; no function that is deployed links this crate.

mod faults;
mod instruments;
mod meter;
mod size;

pub use faults::{Deaths, Fault, Faults, Injected, Moment};
pub use instruments::Instruments;
pub use meter::{Index, Meter, Units};
pub use size::{Item, item_size, value_size};
