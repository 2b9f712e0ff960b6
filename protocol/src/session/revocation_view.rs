//! Everything that a token check needs besides signature and times: which nodes have ended, which tokens were replaced,
//! what people revoked.

mod entries;
mod fingerprint;
mod table;

use entries::{Current, Ending, Moment, Over};
use fingerprint::Fingerprints;
use table::Table;

use super::{EndReason, Revocation, RevocationLevel, ViewChange};
use crate::claims::Claims;
use crate::judging::Times;
use crate::time::UnixSeconds;

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

/// The state. An entry goes when the last token that it can hit has expired. A million entries fit in 100 MiB
/// (`protocol/tests/view_memory.rs`).
#[derive(Debug, Default)]
pub struct RevocationView {
    loaded: bool,
    min_iat: UnixSeconds,
    fingerprints: Fingerprints,
    ended: Table<Ending>,
    renewed: Table<Current>,
    expired: Table<Moment>,
    tokens: Table<Moment>,
    agents: Table<Moment>,
    tasks: Table<Moment>,
    chains: Table<Moment>,
}

impl RevocationView {
    /// In so many pieces it is pruned.
    pub const PIECES: u8 = table::PIECES;

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

    /// Tokens that were issued before are refused.
    pub const fn min_iat(&self) -> UnixSeconds {
        self.min_iat
    }

    const fn level(&self, level: RevocationLevel) -> &Table<Moment> {
        match level {
            RevocationLevel::Token => &self.tokens,
            RevocationLevel::Agent => &self.agents,
            RevocationLevel::Task => &self.tasks,
            RevocationLevel::Chain => &self.chains,
        }
    }

    const fn level_mut(&mut self, level: RevocationLevel) -> &mut Table<Moment> {
        match level {
            RevocationLevel::Token => &mut self.tokens,
            RevocationLevel::Agent => &mut self.agents,
            RevocationLevel::Task => &mut self.tasks,
            RevocationLevel::Chain => &mut self.chains,
        }
    }

    /// The entry of an id.
    fn find<'t, V>(&self, table: &'t Table<V>, id: &str) -> Option<&'t V> {
        if table.is_empty() {
            return None;
        }
        table.get(self.fingerprints.of(id))
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
                let ending = Ending {
                    reason,
                    over: Over::new(overlap_until),
                    until: until.into(),
                };
                self.ended.merge(self.fingerprints.of(&sid), ending, Ending::merge);
            }
            ViewChange::Renewed {
                node,
                jti,
                previous,
                overlap_until,
                until,
            } => {
                let current = Current {
                    jti: self.fingerprints.of(&jti),
                    previous: self.fingerprints.of(&previous),
                    over: Over::new(overlap_until),
                    until: until.into(),
                };
                self.renewed.merge(self.fingerprints.of(&node), current, Current::merge);
            }
            ViewChange::Expired { jti, until } => {
                self.expired
                    .merge(self.fingerprints.of(&jti), until.into(), Moment::prolong);
            }
            ViewChange::Lifted { level, target } => {
                let target = self.fingerprints.of(&target);
                self.level_mut(level).remove(target);
            }
            ViewChange::Revoked(Revocation { level, target, until }) => {
                let target = self.fingerprints.of(&target);
                let until = until.unwrap_or(Moment::NEVER);
                self.level_mut(level).merge(target, until.into(), Moment::prolong);
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
            .filter_map(|node| self.find(&self.ended, node))
            .find(|ending| ending.over.is_over(times.judged));
        if let Some(ending) = ending {
            return TokenState::Ended(ending.reason);
        }
        let node = claims.delegation_nodes.last().unwrap_or(&claims.sid);
        let current = self.find(&self.renewed, node);
        let stands = current.is_none_or(|current| current.stands(self.fingerprints.of(&claims.jti), times.judged));
        if stands && self.find(&self.expired, &claims.jti).is_none() {
            TokenState::Active
        } else {
            TokenState::Renewed
        }
    }

    /// Whether a revocation of this level hits a token with these claims. It is over when both clocks say so.
    pub fn is_revoked(&self, level: RevocationLevel, claims: &Claims, times: Times) -> bool {
        let entries = self.level(level);
        let listed = |target: &str| {
            let until = self.find(entries, target);
            until.is_some_and(|until| !until.has_come(times.passed()))
        };
        !entries.is_empty() && level.hits(claims, listed)
    }

    /// Forgets entries that can hit no token any more, by both clocks: what a jump of the wall clock has expired may
    /// stand again when the jump is taken back.
    pub fn prune(&mut self, times: Times) {
        for piece in 0..Self::PIECES {
            self.prune_piece(piece, times);
        }
    }

    /// Does so in one piece: who prunes a view that others read does it piece by piece, and lets them in between.
    pub fn prune_piece(&mut self, piece: u8, times: Times) {
        let passed = times.passed();
        self.ended.prune(piece, |ending| !ending.until.has_come(passed));
        self.renewed.prune(piece, |current| !current.until.has_come(passed));
        self.expired.prune(piece, |until| !until.has_come(passed));
        for level in RevocationLevel::ALL {
            self.level_mut(level).prune(piece, |until| !until.has_come(passed));
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
