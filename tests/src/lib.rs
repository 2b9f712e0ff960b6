//! API-server tests, end-to-end tests and benchmarks of AgentWrit.

pub mod documents;
