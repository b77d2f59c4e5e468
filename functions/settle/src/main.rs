//! The `settle` function.

fn main() {}
