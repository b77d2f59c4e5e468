//! The local cloud: stands the template up in one process on loopback.
