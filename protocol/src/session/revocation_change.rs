//! A change of what is revoked, as data: a store hands it out with a commit, the revocation view takes it in. Neither
//! needs to know the other.

use super::{EndReason, Revocation, RevocationLevel};
use crate::ids::{Jti, SessionId};
use crate::time::UnixMillis;

/// A change that a commit publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewChange {
    /// A session or a delegation ends, and with it all below it.
    SessionEnded {
        /// Id of the session or of the delegation.
        sid: SessionId,
        /// Why.
        reason: EndReason,
        /// The end of its overlap, from when on its tokens are refused. An end without an overlap has no moment: it
        /// holds whatever the clock says.
        overlap_until: Option<UnixMillis>,
        /// When the last token that it can hit has expired.
        until: UnixMillis,
    },
    /// A renewal gave a session or a delegation its next token: of those that it had, only the direct predecessor
    /// stands, until its overlap is over.
    Renewed {
        /// Id of the session or of the delegation.
        node: SessionId,
        /// Id of the token that is current now.
        jti: Jti,
        /// Id of the token before.
        previous: Jti,
        /// The end of the predecessor's overlap, from when on it is refused; at once when there is none.
        overlap_until: Option<UnixMillis>,
        /// When the last token that the node ever had has expired.
        until: UnixMillis,
    },
    /// A token was refused because it had expired, and stays so whatever the clock says later.
    Expired {
        /// Which.
        jti: Jti,
        /// When it has expired by both clocks.
        until: UnixMillis,
    },
    /// A person revoked.
    Revoked(Revocation),
    /// A person took a revocation back.
    Lifted {
        /// What `target` is.
        level: RevocationLevel,
        /// As in the revocation.
        target: String,
    },
}
