//! The `settle` function.
