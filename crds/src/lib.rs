//! AgentApp and LaunchToken custom resources.
