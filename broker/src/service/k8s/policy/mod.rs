//! Policies: the custom resources AgentApp and LaunchToken as the controller writes them.

pub(crate) mod ceilings;
mod client;
pub(crate) mod crossings;
pub(crate) mod input;
pub(crate) mod list;
pub(crate) mod removal;
pub(crate) mod rules;
pub(crate) mod write;
