//! The `resolve-decision` function.

fn main() {}
