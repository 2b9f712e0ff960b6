//! The revocation view: everything that a token check needs besides the signature, in memory.
//!
//! The committer changes it after each commit and before the answer; at start it is loaded from the store.
//! An entry goes when the last token that it can hit has expired.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use agentwrit_protocol::claims::Claims;

use crate::store::{EndReason, Revocation, RevocationLevel};

/// A change that a commit publishes. Moments are Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewChange {
    /// A session ends.
    SessionEnded {
        /// Which.
        sid: String,
        /// Why.
        reason: EndReason,
        /// From when on its tokens are refused; may be in the future.
        effective_at: i64,
        /// When its last token has expired.
        until: i64,
    },
    /// A renewal replaced a token.
    TokenSpent {
        /// Which.
        jti: String,
        /// From when on it is refused.
        effective_at: i64,
        /// When it has expired.
        until: i64,
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

impl ViewChange {
    /// The first millisecond in which a token with this `exp` (Unix seconds) has expired.
    pub const fn end_of_second(exp: i64) -> i64 {
        exp.saturating_add(1).saturating_mul(1000)
    }
}

/// Whether a token stands, as far as revocation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    /// It stands.
    Active,
    /// A renewal has replaced it.
    Renewed,
    /// Its session has ended, or a revocation hits it.
    Ended(EndReason),
    /// It is older than the store, which therefore can't know whether it was revoked.
    Forgotten,
    /// The store has not been loaded yet: nothing can be said.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
struct Ending {
    reason: EndReason,
    effective_at: i64,
    until: i64,
}

#[derive(Debug, Clone, Copy)]
struct Spent {
    effective_at: i64,
    until: i64,
}

#[derive(Debug, Default)]
struct Entries {
    loaded: bool,
    min_iat: i64,
    ended: HashMap<String, Ending>,
    spent: HashMap<String, Spent>,
    tokens: HashMap<String, Option<i64>>,
    agents: HashMap<String, Option<i64>>,
    tasks: HashMap<String, Option<i64>>,
    chains: HashMap<String, Option<i64>>,
}

impl Entries {
    fn level(&mut self, level: RevocationLevel) -> &mut HashMap<String, Option<i64>> {
        match level {
            RevocationLevel::Token => &mut self.tokens,
            RevocationLevel::Agent => &mut self.agents,
            RevocationLevel::Task => &mut self.tasks,
            RevocationLevel::Chain => &mut self.chains,
        }
    }

    fn apply(&mut self, change: ViewChange) {
        match change {
            ViewChange::SessionEnded {
                sid,
                reason,
                effective_at,
                until,
            } => {
                let entry = self.ended.entry(sid).or_insert(Ending {
                    reason,
                    effective_at,
                    until,
                });
                if effective_at < entry.effective_at {
                    *entry = Ending {
                        reason,
                        effective_at,
                        until: until.max(entry.until),
                    };
                }
            }
            ViewChange::TokenSpent {
                jti,
                effective_at,
                until,
            } => {
                self.spent.insert(jti, Spent { effective_at, until });
            }
            ViewChange::Lifted { level, target } => {
                self.level(level).remove(&target);
            }
            ViewChange::Revoked(Revocation { level, target, until }) => {
                let entry = self.level(level).entry(target).or_insert(until);
                *entry = match (*entry, until) {
                    (Some(a), Some(b)) => Some(a.max(b)),
                    _ => None,
                };
            }
        }
    }

    fn revoked(&self, claims: &Claims) -> bool {
        self.tokens.contains_key(&claims.jti)
            || self.agents.contains_key(&claims.sub)
            || (!claims.task_id.is_empty() && self.tasks.contains_key(&claims.task_id))
            || claims
                .delegation_chain
                .first()
                .is_some_and(|root| self.chains.contains_key(&root.agent))
    }
}

/// The view, shared by every request.
#[derive(Debug, Default)]
pub struct View {
    entries: RwLock<Entries>,
}

impl View {
    /// An empty view that knows nothing: every token is [`TokenState::Unknown`].
    pub fn unloaded() -> Self {
        Self::default()
    }

    /// Replaces everything by what a store holds.
    pub fn load(&self, min_iat: i64, changes: impl IntoIterator<Item = ViewChange>) {
        let mut fresh = Entries {
            loaded: true,
            min_iat,
            ..Entries::default()
        };
        for change in changes {
            fresh.apply(change);
        }
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    /// Publishes the changes of a commit, all at once.
    pub fn apply(&self, changes: Vec<ViewChange>) {
        if changes.is_empty() {
            return;
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            entries.apply(change);
        }
    }

    /// Whether a token with these claims stands at this moment (Unix milliseconds).
    pub fn state(&self, claims: &Claims, now_millis: i64) -> TokenState {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        if !entries.loaded {
            return TokenState::Unknown;
        }
        if claims.iat < entries.min_iat {
            return TokenState::Forgotten;
        }
        if entries.revoked(claims) {
            return TokenState::Ended(EndReason::Revoked);
        }
        if !claims.sid.is_empty()
            && let Some(ending) = entries.ended.get(&claims.sid)
            && ending.effective_at <= now_millis
        {
            return TokenState::Ended(ending.reason);
        }
        if entries
            .spent
            .get(&claims.jti)
            .is_some_and(|spent| spent.effective_at <= now_millis)
        {
            return TokenState::Renewed;
        }
        TokenState::Active
    }

    /// Forgets entries that can hit no token any more.
    pub fn prune(&self, now_millis: i64) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.ended.retain(|_, ending| ending.until > now_millis);
        entries.spent.retain(|_, spent| spent.until > now_millis);
        for level in RevocationLevel::ALL {
            entries
                .level(level)
                .retain(|_, until| until.is_none_or(|until| until > now_millis));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(sid: &str, jti: &str) -> Claims {
        let text = format!(r#"{{"sub":"agent","exp":2000,"iat":1000,"jti":"{jti}","sid":"{sid}","task_id":"t"}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn ended(reason: EndReason, effective_at: i64) -> ViewChange {
        ViewChange::SessionEnded {
            sid: "s".into(),
            reason,
            effective_at,
            until: ViewChange::end_of_second(2000),
        }
    }

    #[test]
    fn before_it_is_loaded_nothing_is_known_and_older_tokens_are_forgotten() {
        let view = View::unloaded();
        assert_eq!(view.state(&claims("s", "j"), 0), TokenState::Unknown);
        view.load(1001, []);
        assert_eq!(view.state(&claims("s", "j"), 0), TokenState::Forgotten);
        view.load(1000, []);
        assert_eq!(view.state(&claims("s", "j"), 0), TokenState::Active);
    }

    #[test]
    fn an_end_takes_effect_at_its_moment_and_the_earlier_end_wins() {
        let view = View::unloaded();
        view.load(0, [ended(EndReason::Superseded, 500)]);
        assert_eq!(view.state(&claims("s", "j"), 499), TokenState::Active);
        assert_eq!(
            view.state(&claims("s", "j"), 500),
            TokenState::Ended(EndReason::Superseded)
        );
        assert_eq!(view.state(&claims("other", "j"), 500), TokenState::Active);
        view.apply(vec![ended(EndReason::Released, 600)]);
        assert_eq!(
            view.state(&claims("s", "j"), 700),
            TokenState::Ended(EndReason::Superseded)
        );
        view.apply(vec![ended(EndReason::Revoked, 100)]);
        assert_eq!(
            view.state(&claims("s", "j"), 100),
            TokenState::Ended(EndReason::Revoked)
        );
    }

    #[test]
    fn entries_go_when_they_can_hit_nothing_more() {
        let view = View::unloaded();
        let revoked = |level, target: &str, until| {
            ViewChange::Revoked(Revocation {
                level,
                target: target.into(),
                until,
            })
        };
        let spent = ViewChange::TokenSpent {
            jti: "j".into(),
            effective_at: 0,
            until: 10,
        };
        view.load(0, [spent, revoked(RevocationLevel::Agent, "nobody", None)]);
        assert_eq!(view.state(&claims("s", "j"), 0), TokenState::Renewed);
        view.apply(vec![revoked(RevocationLevel::Task, "t", Some(20))]);
        assert_eq!(view.state(&claims("s", "x"), 0), TokenState::Ended(EndReason::Revoked));
        view.prune(10);
        assert!(view.entries.read().unwrap().spent.is_empty());
        view.apply(vec![revoked(RevocationLevel::Task, "t", Some(5))]);
        view.prune(19);
        assert_eq!(
            view.state(&claims("s", "x"), 19),
            TokenState::Ended(EndReason::Revoked),
            "not shortened"
        );
        view.prune(20);
        assert_eq!(view.state(&claims("s", "x"), 20), TokenState::Active);
        assert_eq!(view.entries.read().unwrap().agents.len(), 1, "never forgotten");
    }
}
