//! Policies: the custom resources AgentApp and LaunchToken as the controller writes them.

pub mod input;
pub mod list;
pub mod removal;
pub mod rules;
pub mod write;
