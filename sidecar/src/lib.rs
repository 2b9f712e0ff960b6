//! The AgentWrit sidecar.
