//! Typed HTTP client of the AgentWrit broker.
