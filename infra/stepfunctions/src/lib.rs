//! A small Step Functions: the JSONata subset that Towpath's machine uses, strict and durable.
