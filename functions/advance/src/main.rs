//! The `advance` function.

fn main() {}
