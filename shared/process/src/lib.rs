//! The process substrate: a job is a local process group under a small supervisor.
