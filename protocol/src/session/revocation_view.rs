//! Everything that a token check needs besides signature and times: which nodes have ended, which tokens were replaced,
//! what people revoked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{EndReason, Revocation, RevocationLevel, ViewChange};
use crate::claims::Claims;
use crate::ids::{Jti, SessionId};
use crate::judging::Times;
use crate::time::{UnixMillis, UnixSeconds};

/// Whether a token stands, as far as revocation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    /// It stands.
    Active,
    /// A renewal has replaced it.
    Renewed,
    /// Its node or one above has ended, or a revocation hits it.
    Ended(EndReason),
    /// It is older than the store, which therefore can't know whether it was revoked.
    IssuedBeforeStore,
    /// The store has not been loaded yet: nothing can be said.
    Unknown,
}

/// When something that has ended, or will, is refused. Once it was seen over, it stays over: a step of the clock that is
/// taken back later revives nothing.
#[derive(Debug)]
struct Over {
    overlap_until: Option<UnixMillis>,
    seen: AtomicBool,
}

impl Over {
    const fn new(overlap_until: Option<UnixMillis>) -> Self {
        Self {
            overlap_until,
            seen: AtomicBool::new(false),
        }
    }

    fn is_over(&self, judged: UnixMillis) -> bool {
        let Some(until) = self.overlap_until else {
            return true;
        };
        if self.seen.load(Ordering::Relaxed) {
            return true;
        }
        let over = until <= judged;
        if over {
            self.seen.store(true, Ordering::Relaxed);
        }
        over
    }

    /// Brings the end forward, never back.
    fn hasten(&mut self, overlap_until: Option<UnixMillis>) -> bool {
        let sooner = match (self.overlap_until, overlap_until) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(known), Some(new)) => new < known,
        };
        if sooner {
            self.overlap_until = overlap_until;
        }
        sooner
    }
}

#[derive(Debug)]
struct Ending {
    reason: EndReason,
    over: Over,
    until: UnixMillis,
}

/// The tokens of a node that was renewed: one entry, however many there were.
#[derive(Debug)]
struct Current {
    jti: Jti,
    previous: Jti,
    over: Over,
    until: UnixMillis,
}

impl Current {
    fn stands(&self, jti: &Jti, judged: UnixMillis) -> bool {
        self.jti == *jti || (self.previous == *jti && !self.over.is_over(judged))
    }
}

/// The state. An entry goes when the last token that it can hit has expired.
#[derive(Debug, Default)]
pub struct RevocationView {
    loaded: bool,
    min_iat: UnixSeconds,
    ended: HashMap<SessionId, Ending>,
    renewed: HashMap<SessionId, Current>,
    expired: HashMap<Jti, UnixMillis>,
    tokens: HashMap<String, Option<UnixMillis>>,
    agents: HashMap<String, Option<UnixMillis>>,
    tasks: HashMap<String, Option<UnixMillis>>,
    chains: HashMap<String, Option<UnixMillis>>,
}

impl RevocationView {
    /// What a store holds; tokens issued before `min_iat` are older than it.
    pub fn loaded(min_iat: UnixSeconds, changes: impl IntoIterator<Item = ViewChange>) -> Self {
        let mut view = Self {
            loaded: true,
            min_iat,
            ..Self::default()
        };
        for change in changes {
            view.apply(change);
        }
        view
    }

    const fn level(&self, level: RevocationLevel) -> &HashMap<String, Option<UnixMillis>> {
        match level {
            RevocationLevel::Token => &self.tokens,
            RevocationLevel::Agent => &self.agents,
            RevocationLevel::Task => &self.tasks,
            RevocationLevel::Chain => &self.chains,
        }
    }

    const fn level_mut(&mut self, level: RevocationLevel) -> &mut HashMap<String, Option<UnixMillis>> {
        match level {
            RevocationLevel::Token => &mut self.tokens,
            RevocationLevel::Agent => &mut self.agents,
            RevocationLevel::Task => &mut self.tasks,
            RevocationLevel::Chain => &mut self.chains,
        }
    }

    /// Takes a committed change in.
    pub fn apply(&mut self, change: ViewChange) {
        match change {
            ViewChange::SessionEnded {
                sid,
                reason,
                overlap_until,
                until,
            } => {
                let entry = self.ended.entry(sid).or_insert_with(|| Ending {
                    reason,
                    over: Over::new(overlap_until),
                    until,
                });
                if entry.over.hasten(overlap_until) {
                    entry.reason = reason;
                }
                entry.until = entry.until.max(until);
            }
            ViewChange::Renewed {
                node,
                jti,
                previous,
                overlap_until,
                until,
            } => match self.renewed.get_mut(&node) {
                Some(known) if known.previous == previous => {
                    known.jti = jti;
                    known.over.hasten(overlap_until);
                    known.until = known.until.max(until);
                }
                known => {
                    let until = known.map_or(until, |known| known.until.max(until));
                    let over = Over::new(overlap_until);
                    self.renewed.insert(
                        node,
                        Current {
                            jti,
                            previous,
                            over,
                            until,
                        },
                    );
                }
            },
            ViewChange::Expired { jti, until } => {
                let entry = self.expired.entry(jti).or_insert(until);
                *entry = until.max(*entry);
            }
            ViewChange::Lifted { level, target } => {
                self.level_mut(level).remove(&target);
            }
            ViewChange::Revoked(Revocation { level, target, until }) => {
                let entry = self.level_mut(level).entry(target).or_insert(until);
                *entry = match (*entry, until) {
                    (Some(a), Some(b)) => Some(a.max(b)),
                    _ => None,
                };
            }
        }
    }

    /// Whether a token with these claims stands.
    pub fn state(&self, claims: &Claims, times: Times) -> TokenState {
        if !self.loaded {
            return TokenState::Unknown;
        }
        if claims.iat < self.min_iat {
            return TokenState::IssuedBeforeStore;
        }
        if RevocationLevel::ALL
            .into_iter()
            .any(|level| self.is_revoked(level, claims, times))
        {
            return TokenState::Ended(EndReason::Revoked);
        }
        let lineage = std::iter::once(&claims.sid).chain(&claims.delegation_nodes);
        let ending = lineage
            .filter_map(|node| self.ended.get(node))
            .find(|ending| ending.over.is_over(times.judged));
        if let Some(ending) = ending {
            return TokenState::Ended(ending.reason);
        }
        let node = claims.delegation_nodes.last().unwrap_or(&claims.sid);
        let current = self.renewed.get(node);
        let stands = current.is_none_or(|current| current.stands(&claims.jti, times.judged));
        if stands && !self.expired.contains_key(&claims.jti) {
            TokenState::Active
        } else {
            TokenState::Renewed
        }
    }

    /// Whether a revocation of this level hits a token with these claims. It is over when both clocks say so.
    pub fn is_revoked(&self, level: RevocationLevel, claims: &Claims, times: Times) -> bool {
        let entries = self.level(level);
        let listed = |target: &str| {
            let until = entries.get(target);
            until.is_some_and(|until| until.is_none_or(|until| times.passed() < until))
        };
        !entries.is_empty() && level.hits(claims, listed)
    }

    /// Forgets entries that can hit no token any more, by both clocks: what a jump of the wall clock has expired may
    /// stand again when the jump is taken back.
    pub fn prune(&mut self, times: Times) {
        let passed = times.passed();
        self.ended.retain(|_, ending| ending.until > passed);
        self.renewed.retain(|_, current| current.until > passed);
        self.expired.retain(|_, until| *until > passed);
        for level in RevocationLevel::ALL {
            self.level_mut(level)
                .retain(|_, until| until.is_none_or(|until| until > passed));
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        let levels = RevocationLevel::ALL.into_iter().map(|level| self.level(level).len());
        self.ended.len() + self.renewed.len() + self.expired.len() + levels.sum::<usize>()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests;
