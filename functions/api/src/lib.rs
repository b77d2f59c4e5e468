//! The `api` function.
