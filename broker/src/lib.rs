//! The AgentWrit token broker.
