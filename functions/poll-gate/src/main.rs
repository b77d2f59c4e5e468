//! The `poll-gate` function.

fn main() {}
