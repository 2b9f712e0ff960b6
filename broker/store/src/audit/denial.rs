//! Denials: by whom they are counted, and what decides which of them the trail holds.

use std::net::IpAddr;

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::{PodUid, SessionId};

/// Whose denials count together. Nobody can use up what another one's denials pass by: who holds a delegated token
/// hides neither the denials of the session nor those of its other delegates, and no token hides those of a launch.
#[derive(Debug, Clone, Copy)]
pub enum Asker<'a> {
    /// A network address: its source, for a caller whose credential isn't verified.
    Source(IpAddr),
    /// Who a token or the API server vouches for, other than a pod: a session, a subject, a ServiceAccount.
    Known(&'a str),
    /// A pod by its UID, when the API server vouches for it.
    Pod(&'a PodUid),
    /// Who holds a token that a session delegated.
    Delegate {
        /// The session, or its pod.
        session: &'a str,
        /// The delegation by the session itself that the token descends from.
        branch: &'a SessionId,
    },
}

impl<'a> Asker<'a> {
    /// The bearer of a verified token. An attested agent counts by its pod, however often it registers.
    pub fn bearer(claims: &'a Claims) -> Self {
        let session: &str = if claims.is_attested() {
            &claims.task_id
        } else if claims.sid.is_empty() {
            &claims.sub
        } else {
            &claims.sid
        };
        match claims.branch() {
            Some(branch) => Self::Delegate { session, branch },
            None => Self::Known(session),
        }
    }
}

/// Decides which denials the trail holds, so that they can't fill the disk. The broker's limits are the one gate.
pub trait DenialGate: Send + Sync {
    /// Counts one against this asker's rate; false when the rate is used up, and the denial was only counted.
    fn admits(&self, asker: Asker<'_>) -> bool;

    /// Counts one against this pod's rate in the feed for the controller, whatever the trail does with the denial;
    /// false when the rate is used up.
    fn feeds(&self, pod_uid: &PodUid) -> bool;
}
