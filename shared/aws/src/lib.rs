//! The AWS clients that every function is given: one way to configure them, a meter of the units they use, faults to
//! test against, and what an error means.
//!
//! ```no_run
//! # async fn example() -> Result<(), towpath_aws::Error> {
//! let settings = towpath_aws::Settings::from_lookup(|name| std::env::var(name).ok())?;
//! let clients = towpath_aws::Clients::connect(&settings)?;
//! clients.warm("runs", [("pk", "warm"), ("sk", "warm")]).await;
//! let before = clients.meter.units();
//! // … work with clients.dynamodb and clients.sfn …
//! let used = clients.meter.units() - before;
//! tracing::info!(writes = used.write_computed, reads = used.read_computed, "units");
//! # Ok(())
//! # }
//! ```

mod bucket;
mod clients;
pub mod faults;
pub mod meter;
mod secrets;
mod settings;
mod size;
mod trouble;

pub use bucket::{Bucket, Presigned, Refused};
pub use clients::Clients;
pub use faults::{Deaths, Fault, Faults, Injected, Moment};
pub use meter::{Index, Meter, Units};
pub use secrets::Secrets;
pub use settings::{Credentials, Error, Secret, Settings};
pub use size::{Item, item_size, value_size};
pub use trouble::{Reason, Trouble, cancellation, classify};
