//! The `poll-gate` function.
