//! The wire types at Towpath's edges: the public API's requests and answers, and its errors.

mod error;
mod requests;
mod views;

pub use error::*;
pub use requests::*;
pub use views::*;
