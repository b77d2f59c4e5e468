//! State machine definitions: `machine` is what a loaded one is, `load` reads and checks it, so that the interpreter
//! meets no surprises.

mod load;
mod machine;
mod policy;
mod transitions;

pub use machine::{Definition, DefinitionError};
pub(crate) use machine::{Kind, Next, State, Task};
