//! What the sidecar serves: the token on localhost, and the probes.

pub mod endpoint;
pub mod listener;
