//! The `advance` function.
