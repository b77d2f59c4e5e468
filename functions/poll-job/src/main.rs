//! The `poll-job` function.

fn main() {}
