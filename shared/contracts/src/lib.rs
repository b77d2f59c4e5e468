//! The wire types at Towpath's edges.
