//! What may happen to a node of a session, decided from the nodes on the way to it.

use super::chain::MAX_DEPTH;
use super::{EndReason, end_of_second};
use crate::ttl::clamp_ttl;

/// How long a renewal can be asked for again with its key, milliseconds.
const REPLAY_MILLIS: i64 = 60_000;

/// The direct predecessor of a node's current token.
#[derive(Debug, Clone, Copy)]
pub struct Previous<'a> {
    /// Its id.
    pub jti: &'a str,
    /// Until when it still stands, Unix milliseconds.
    pub until: i64,
    /// Its last second, Unix time.
    pub exp: i64,
    /// The Idempotency-Key of the renewal that replaced it.
    pub key: Option<&'a str>,
}

/// When and why a node ends; the moment may be in the future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// From when on its tokens are refused, Unix milliseconds.
    pub at: i64,
}

/// A session (its root) or a delegation, as the rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Id of the current token.
    pub jti: &'a str,
    /// Issue of the current token, Unix seconds.
    pub iat: i64,
    /// Last second of the current token, Unix time.
    pub exp: i64,
    /// The token before.
    pub previous: Option<Previous<'a>>,
    /// Of a delegation: the `exp` of the delegating token, which no token of this node outlives.
    pub ceiling: Option<i64>,
    /// When it was opened, Unix milliseconds.
    pub opened_at: i64,
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
    /// How long the predecessor still stands, milliseconds.
    pub overlap_millis: i64,
    /// Makes a retry safe; only honoured where `retries` is true.
    pub key: Option<&'a str>,
    /// Whether keys are honoured for this session.
    pub retries: bool,
}

/// What the configuration says about renewals.
#[derive(Debug, Clone, Copy)]
pub struct RenewLimits {
    /// Longest life of a token, seconds; 0 = no ceiling.
    pub max_ttl: i64,
    /// Longest life of a session, seconds; 0 = no limit.
    pub max_session_age: i64,
}

/// A renewal that may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// Issue of the new token, Unix seconds.
    pub iat: i64,
    /// Its last second, Unix time.
    pub exp: i64,
    /// Until when the predecessor still stands, Unix milliseconds.
    pub predecessor_until: i64,
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
    /// Issue of the token, Unix seconds.
    pub iat: i64,
    /// Its last second, Unix time.
    pub exp: i64,
    /// What no renewal of it outlives, Unix seconds.
    pub ceiling: i64,
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

    /// Why it has ended at this moment (Unix milliseconds), if it has: the outermost reason.
    pub fn ended(&self, now: i64) -> Option<EndReason> {
        self.nodes()
            .filter_map(|node| node.end)
            .find(|end| end.at <= now)
            .map(|end| end.reason)
    }

    /// How a token of this node stands at this moment.
    pub fn standing(&self, jti: &str, now: i64) -> Standing {
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
    pub fn renew(&self, jti: &str, now: i64, wish: RenewWish<'_>, limits: RenewLimits) -> RenewalDecision {
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
        let oldest = self
            .root()
            .opened_at
            .saturating_add(limits.max_session_age.saturating_mul(1000));
        if limits.max_session_age > 0 && now >= oldest {
            return RenewalDecision::Refused(RenewRefusal::TooOld);
        }
        let iat = now.div_euclid(1000);
        let ttl = clamp_ttl(self.node.exp.saturating_sub(self.node.iat), limits.max_ttl);
        let exp = iat.saturating_add(ttl);
        RenewalDecision::Granted(Granted {
            iat,
            exp: self.node.ceiling.map_or(exp, |ceiling| exp.min(ceiling)),
            predecessor_until: now
                .saturating_add(wish.overlap_millis)
                .min(end_of_second(self.node.exp)),
        })
    }

    /// Whether this repeats the renewal that made the current token.
    fn is_retry(&self, jti: &str, now: i64, wish: RenewWish<'_>) -> bool {
        let renewed_at = self.node.iat.saturating_mul(1000);
        wish.retries
            && wish.key.is_some()
            && now.saturating_sub(renewed_at) <= REPLAY_MILLIS
            && self.node.previous.is_some_and(|previous| {
                previous.jti == jti && previous.key == wish.key && now < end_of_second(previous.exp)
            })
    }

    /// Decides about a delegation by a token with this `exp`, for `ttl` seconds.
    ///
    /// # Errors
    /// When the token doesn't stand, or the chain is as long as it may be.
    pub fn delegate(
        &self,
        jti: &str,
        exp: i64,
        now: i64,
        ttl: i64,
        max_ttl: i64,
    ) -> Result<DelegationGrant, DelegationRefusal> {
        match self.standing(jti, now) {
            Standing::Ended(reason) => return Err(DelegationRefusal::Ended(reason)),
            Standing::Replaced => return Err(DelegationRefusal::Replaced),
            Standing::Current | Standing::Overlap => {}
        }
        if self.depth() >= MAX_DEPTH {
            return Err(DelegationRefusal::TooDeep);
        }
        let iat = now.div_euclid(1000);
        Ok(DelegationGrant {
            iat,
            exp: iat.saturating_add(clamp_ttl(ttl, max_ttl)).min(exp),
            ceiling: exp,
        })
    }

    /// Decides about giving a token back.
    pub fn release(&self, jti: &str, now: i64) -> ReleaseDecision {
        match self.standing(jti, now) {
            Standing::Ended(reason) => ReleaseDecision::Ended(reason),
            Standing::Replaced => ReleaseDecision::Replaced,
            Standing::Current | Standing::Overlap => ReleaseDecision::Done,
        }
    }
}
