//! The `tick` function.

fn main() {}
