//! The `resolve-decision` function.
