//! The imperative shell: load, decide, commit, do, fold, commit.
