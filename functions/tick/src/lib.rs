//! The `tick` function.
