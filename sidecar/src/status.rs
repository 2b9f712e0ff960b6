//! What the listeners may know, kept by the runtime.

use std::sync::Arc;

use agentwrit_protocol::Sensitive;
use parking_lot::Mutex;

use crate::cause::Cause;

#[derive(Default)]
struct Inner {
    token: Option<Sensitive>,
    ready: bool,
    cause: Cause,
}

/// The valid token, whether this process has written it, and if not, why.
#[derive(Clone, Default)]
pub(crate) struct Status(Arc<Mutex<Inner>>);

impl Status {
    /// Replaces both.
    pub(crate) fn set(&self, token: Option<Sensitive>, ready: bool) {
        let mut inner = self.0.lock();
        (inner.token, inner.ready) = (token, ready);
    }

    /// Replaces the cause why there is no token.
    pub(crate) fn set_cause(&self, cause: Cause) {
        self.0.lock().cause = cause;
    }

    /// The token, for the endpoint.
    pub(crate) fn token(&self) -> Option<Sensitive> {
        self.0.lock().token.clone()
    }

    /// For the probes: why the pod isn't ready, if it isn't.
    pub(crate) fn not_ready(&self) -> Option<Cause> {
        let inner = self.0.lock();
        (!inner.ready).then_some(inner.cause)
    }
}
