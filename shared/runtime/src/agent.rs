//! What makes an answer of a contract: the agent runtime interface.
