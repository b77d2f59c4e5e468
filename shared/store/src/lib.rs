//! The DynamoDB adapter: keys, transactions, queries.
