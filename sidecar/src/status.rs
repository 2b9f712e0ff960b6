//! What the listeners may know, kept by the driver.

use std::sync::{Arc, Mutex, PoisonError};

use agentwrit_protocol::Sensitive;

#[derive(Default)]
struct Inner {
    token: Option<Sensitive>,
    ready: bool,
}

/// The token that stands, and whether this process has written it.
#[derive(Clone, Default)]
pub struct Status(Arc<Mutex<Inner>>);

impl Status {
    /// Replaces both.
    pub fn set(&self, token: Option<Sensitive>, ready: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Inner { token, ready };
    }

    /// The token, for the endpoint.
    pub fn token(&self) -> Option<Sensitive> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).token.clone()
    }

    /// For the probes.
    pub fn is_ready(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ready
    }
}
