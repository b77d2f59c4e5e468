//! The `poll-job` function.
