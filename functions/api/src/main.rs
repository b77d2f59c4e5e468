//! The `api` function.

fn main() {}
