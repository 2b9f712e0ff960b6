//! What the sidecar serves: the token on localhost, and the probes.

pub(crate) mod endpoint;
pub(crate) mod listener;
