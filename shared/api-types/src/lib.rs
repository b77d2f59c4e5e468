//! The wire types at Towpath's edges: the public API's requests and answers, and its errors.

mod error;
mod requests;
mod views;
mod words;

pub use error::*;
pub use requests::*;
pub use views::*;
pub use words::plain_words;
