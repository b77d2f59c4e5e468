//! End-to-end and simulation tests.
