//! What may happen to a node of a session, decided from the nodes on the way to it.

use std::time::Duration;

use super::EndReason;
use super::chain::MAX_DEPTH;
use crate::ids::Jti;
use crate::time::{UnixMillis, UnixSeconds};
use crate::ttl::Ttl;

/// How long a renewal can be asked for again with its key.
const REPLAY: Duration = Duration::from_mins(1);

/// The direct predecessor of a node's current token.
#[derive(Debug, Clone, Copy)]
pub struct Previous<'a> {
    /// Its id.
    pub jti: &'a Jti,
    /// Until when it still stands.
    pub until: UnixMillis,
    /// Its last second.
    pub exp: UnixSeconds,
    /// The Idempotency-Key of the renewal that replaced it.
    pub key: Option<&'a str>,
}

/// When and why a node ends; the moment may be in the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// From when on its tokens are refused.
    pub at: UnixMillis,
}

/// A session (its root) or a delegation, as the rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Id of the current token.
    pub jti: &'a Jti,
    /// Issue of the current token.
    pub iat: UnixSeconds,
    /// Last second of the current token.
    pub exp: UnixSeconds,
    /// The token before.
    pub previous: Option<Previous<'a>>,
    /// Of a delegation: the `exp` of the delegating token, which no token of this node outlives.
    pub ceiling: Option<UnixSeconds>,
    /// When it was opened.
    pub opened_at: UnixMillis,
    /// Its end, when there is one.
    pub end: Option<End>,
}

/// The nodes from a session's root to one of its nodes, that one last.
#[derive(Debug, Clone)]
pub struct Lineage<'a> {
    ancestors: Vec<Node<'a>>,
    node: Node<'a>,
}

/// How a token stands to its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the node's current token.
    Current,
    /// It was replaced, and still stands for a moment.
    Overlap,
    /// It was replaced.
    Replaced,
    /// The node, or one above it, has ended.
    Ended(EndReason),
}

/// What a renewal may ask for.
#[derive(Debug, Clone, Copy, Default)]
pub struct RenewWish<'a> {
    /// How long the predecessor still stands.
    pub overlap: Duration,
    /// Makes a retry safe; only honoured where `retries` is true.
    pub key: Option<&'a str>,
    /// Whether keys are honoured for this session.
    pub retries: bool,
}

/// What the configuration says about renewals.
#[derive(Debug, Clone, Copy)]
pub struct RenewLimits {
    /// Longest life of a token; 0 = no ceiling.
    pub max_ttl: Ttl,
    /// Longest life of a session; 0 = no limit.
    pub max_session_age: Ttl,
}

/// A renewal that may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Issue of the new token.
    pub iat: UnixSeconds,
    /// Its last second.
    pub exp: UnixSeconds,
    /// Until when the predecessor still stands.
    pub predecessor_until: UnixMillis,
}

/// Why a token is not renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewRefusal {
    /// Its node, or one above, has ended.
    Ended(EndReason),
    /// Its node, or one above, is on its way out: it still stands, and is not carried on.
    Ending(EndReason),
    /// Another renewal was first.
    Replaced,
    /// The session is older than it may become.
    TooOld,
}

/// What comes of a wish to renew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewalDecision {
    /// Write this.
    Granted(Granted),
    /// It was done before, with the same key: answer with the current token.
    Again,
    /// Refuse.
    Refused(RenewRefusal),
}

/// A delegation that may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelegationGrant {
    /// Issue of the token.
    pub iat: UnixSeconds,
    /// Its last second.
    pub exp: UnixSeconds,
    /// What no renewal of it outlives.
    pub ceiling: UnixSeconds,
}

/// Why nothing is delegated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DelegationRefusal {
    /// The delegating node, or one above, has ended.
    Ended(EndReason),
    /// A renewal has replaced the delegating token.
    Replaced,
    /// The chain is as long as it may be.
    TooDeep,
}

/// What comes of giving a token back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseDecision {
    /// End the node.
    Done,
    /// The node, or one above, has ended before.
    Ended(EndReason),
    /// A renewal has replaced the token.
    Replaced,
}

impl<'a> Lineage<'a> {
    /// `node` under `ancestors`, the session's root first; none for the root itself.
    pub fn new(ancestors: Vec<Node<'a>>, node: Node<'a>) -> Self {
        Self { ancestors, node }
    }

    fn nodes(&self) -> impl Iterator<Item = &Node<'a>> {
        self.ancestors.iter().chain(std::iter::once(&self.node))
    }

    /// The root: the session itself.
    pub fn root(&self) -> &Node<'a> {
        self.ancestors.first().unwrap_or(&self.node)
    }

    /// How many delegations lie between the session and this node.
    pub fn depth(&self) -> usize {
        self.ancestors.len()
    }

    /// Why it has ended at this moment, if it has: the outermost reason.
    pub fn ended(&self, now: UnixMillis) -> Option<EndReason> {
        self.nodes()
            .filter_map(|node| node.end)
            .find(|end| end.at <= now)
            .map(|end| end.reason)
    }

    /// How a token of this node stands at this moment.
    pub fn standing(&self, jti: &Jti, now: UnixMillis) -> Standing {
        if let Some(reason) = self.ended(now) {
            return Standing::Ended(reason);
        }
        if jti == self.node.jti {
            return Standing::Current;
        }
        match self.node.previous {
            Some(previous) if previous.jti == jti && now < previous.until => Standing::Overlap,
            _ => Standing::Replaced,
        }
    }

    /// Decides about the renewal of a token at this moment.
    pub fn renew(&self, jti: &Jti, now: UnixMillis, wish: RenewWish<'_>, limits: RenewLimits) -> RenewalDecision {
        if let Some(reason) = self.ended(now) {
            return RenewalDecision::Refused(RenewRefusal::Ended(reason));
        }
        if let Some(end) = self.nodes().find_map(|node| node.end) {
            return RenewalDecision::Refused(RenewRefusal::Ending(end.reason));
        }
        if jti != self.node.jti {
            return if self.is_retry(jti, now, wish) {
                RenewalDecision::Again
            } else {
                RenewalDecision::Refused(RenewRefusal::Replaced)
            };
        }
        let oldest = self.root().opened_at + limits.max_session_age;
        if limits.max_session_age.is_positive() && now >= oldest {
            return RenewalDecision::Refused(RenewRefusal::TooOld);
        }
        let iat = now.second();
        let exp = iat + (self.node.exp - self.node.iat).capped_at(limits.max_ttl);
        RenewalDecision::Granted(Granted {
            iat,
            exp: self.node.ceiling.map_or(exp, |ceiling| exp.min(ceiling)),
            predecessor_until: (now + wish.overlap).min(self.node.exp.end()),
        })
    }

    /// Whether this repeats the renewal that made the current token.
    fn is_retry(&self, jti: &Jti, now: UnixMillis, wish: RenewWish<'_>) -> bool {
        wish.retries
            && wish.key.is_some()
            && now.since(self.node.iat.start()) <= REPLAY
            && self
                .node
                .previous
                .is_some_and(|previous| previous.jti == jti && previous.key == wish.key && now < previous.exp.end())
    }

    /// Decides about a delegation by a token with this `exp`.
    ///
    /// # Errors
    /// When the token doesn't stand, or the chain is as long as it may be.
    pub fn delegate(
        &self,
        jti: &Jti,
        exp: UnixSeconds,
        now: UnixMillis,
        ttl: Ttl,
        max_ttl: Ttl,
    ) -> Result<DelegationGrant, DelegationRefusal> {
        match self.standing(jti, now) {
            Standing::Ended(reason) => return Err(DelegationRefusal::Ended(reason)),
            Standing::Replaced => return Err(DelegationRefusal::Replaced),
            Standing::Current | Standing::Overlap => {}
        }
        if self.depth() >= MAX_DEPTH {
            return Err(DelegationRefusal::TooDeep);
        }
        let iat = now.second();
        Ok(DelegationGrant {
            iat,
            exp: (iat + ttl.capped_at(max_ttl)).min(exp),
            ceiling: exp,
        })
    }

    /// Decides about giving a token back.
    pub fn release(&self, jti: &Jti, now: UnixMillis) -> ReleaseDecision {
        match self.standing(jti, now) {
            Standing::Ended(reason) => ReleaseDecision::Ended(reason),
            Standing::Replaced => ReleaseDecision::Replaced,
            Standing::Current | Standing::Overlap => ReleaseDecision::Done,
        }
    }
}
