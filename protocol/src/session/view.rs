//! Everything that a token check needs besides signature and times: which nodes have ended, which tokens were replaced,
//! what people revoked.

use std::collections::HashMap;

use super::{EndReason, Revocation, RevocationLevel};
use crate::claims::Claims;

/// A change that a commit publishes. Moments are Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A session or a delegation ends, and with it all below it.
    SessionEnded {
        /// Id of the session or of the delegation.
        sid: String,
        /// Why.
        reason: EndReason,
        /// From when on its tokens are refused; may be in the future.
        effective_at: i64,
        /// When the last token that it can hit has expired.
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

impl Change {
    /// The first millisecond in which a token with this `exp` (Unix seconds) has expired.
    pub const fn end_of_second(exp: i64) -> i64 {
        super::end_of_second(exp)
    }
}

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

/// The state. An entry goes when the last token that it can hit has expired.
#[derive(Debug, Default)]
pub struct RevocationView {
    loaded: bool,
    min_iat: i64,
    ended: HashMap<String, Ending>,
    spent: HashMap<String, Spent>,
    tokens: HashMap<String, Option<i64>>,
    agents: HashMap<String, Option<i64>>,
    tasks: HashMap<String, Option<i64>>,
    chains: HashMap<String, Option<i64>>,
}

impl RevocationView {
    /// What a store holds; tokens issued before `min_iat` (Unix seconds) are older than it.
    pub fn loaded(min_iat: i64, changes: impl IntoIterator<Item = Change>) -> Self {
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

    const fn level(&self, level: RevocationLevel) -> &HashMap<String, Option<i64>> {
        match level {
            RevocationLevel::Token => &self.tokens,
            RevocationLevel::Agent => &self.agents,
            RevocationLevel::Task => &self.tasks,
            RevocationLevel::Chain => &self.chains,
        }
    }

    const fn level_mut(&mut self, level: RevocationLevel) -> &mut HashMap<String, Option<i64>> {
        match level {
            RevocationLevel::Token => &mut self.tokens,
            RevocationLevel::Agent => &mut self.agents,
            RevocationLevel::Task => &mut self.tasks,
            RevocationLevel::Chain => &mut self.chains,
        }
    }

    /// Takes a committed change in.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::SessionEnded {
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
            Change::TokenSpent {
                jti,
                effective_at,
                until,
            } => {
                self.spent.insert(jti, Spent { effective_at, until });
            }
            Change::Lifted { level, target } => {
                self.level_mut(level).remove(&target);
            }
            Change::Revoked(Revocation { level, target, until }) => {
                let entry = self.level_mut(level).entry(target).or_insert(until);
                *entry = match (*entry, until) {
                    (Some(a), Some(b)) => Some(a.max(b)),
                    _ => None,
                };
            }
        }
    }

    /// Whether a token with these claims stands at this moment (Unix milliseconds).
    pub fn state(&self, claims: &Claims, now: i64) -> TokenState {
        if !self.loaded {
            return TokenState::Unknown;
        }
        if claims.iat < self.min_iat {
            return TokenState::Forgotten;
        }
        if RevocationLevel::ALL
            .into_iter()
            .any(|level| self.is_revoked(level, claims, now))
        {
            return TokenState::Ended(EndReason::Revoked);
        }
        let lineage = std::iter::once(&claims.sid).chain(&claims.delegation_nodes);
        let ending = lineage
            .filter_map(|node| self.ended.get(node))
            .find(|ending| ending.effective_at <= now);
        if let Some(ending) = ending {
            return TokenState::Ended(ending.reason);
        }
        match self.spent.get(&claims.jti) {
            Some(spent) if spent.effective_at <= now => TokenState::Renewed,
            _ => TokenState::Active,
        }
    }

    /// Whether a revocation of this level hits a token with these claims at this moment (Unix milliseconds).
    pub fn is_revoked(&self, level: RevocationLevel, claims: &Claims, now: i64) -> bool {
        let entries = self.level(level);
        let listed = |target: &str| {
            let until = entries.get(target);
            until.is_some_and(|until| until.is_none_or(|until| now < until))
        };
        !entries.is_empty() && level.hits(claims, listed)
    }

    /// Forgets entries that can hit no token any more.
    pub fn prune(&mut self, now: i64) {
        self.ended.retain(|_, ending| ending.until > now);
        self.spent.retain(|_, spent| spent.until > now);
        for level in RevocationLevel::ALL {
            self.level_mut(level)
                .retain(|_, until| until.is_none_or(|until| until > now));
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        let levels = RevocationLevel::ALL.into_iter().map(|level| self.level(level).len());
        self.ended.len() + self.spent.len() + levels.sum::<usize>()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(sid: &str, jti: &str) -> Claims {
        let text = format!(r#"{{"sub":"agent","exp":2000,"iat":1000,"jti":"{jti}","sid":"{sid}","task_id":"t"}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn ended(reason: EndReason, effective_at: i64) -> Change {
        Change::SessionEnded {
            sid: "s".into(),
            reason,
            effective_at,
            until: Change::end_of_second(2000),
        }
    }

    #[test]
    fn before_it_is_loaded_nothing_is_known_and_older_tokens_are_forgotten() {
        let view = RevocationView::default();
        assert_eq!(view.state(&claims("s", "j"), 0), TokenState::Unknown);
        let view = RevocationView::loaded(1001, []);
        assert_eq!(view.state(&claims("s", "j"), 0), TokenState::Forgotten);
        let view = RevocationView::loaded(1000, []);
        assert_eq!(view.state(&claims("s", "j"), 0), TokenState::Active);
    }

    #[test]
    fn an_end_takes_effect_at_its_moment_and_the_earlier_end_wins() {
        let mut view = RevocationView::loaded(0, [ended(EndReason::Superseded, 500)]);
        assert_eq!(view.state(&claims("s", "j"), 499), TokenState::Active);
        assert_eq!(
            view.state(&claims("s", "j"), 500),
            TokenState::Ended(EndReason::Superseded)
        );
        assert_eq!(view.state(&claims("other", "j"), 500), TokenState::Active);
        view.apply(ended(EndReason::Released, 600));
        assert_eq!(
            view.state(&claims("s", "j"), 700),
            TokenState::Ended(EndReason::Superseded)
        );
        view.apply(ended(EndReason::Revoked, 100));
        assert_eq!(
            view.state(&claims("s", "j"), 100),
            TokenState::Ended(EndReason::Revoked)
        );
    }

    #[test]
    fn the_end_of_a_delegation_ends_what_is_below_it() {
        let below = Claims {
            delegation_nodes: vec!["a".into(), "s".into(), "b".into()],
            ..claims("root", "j")
        };
        let view = RevocationView::loaded(0, [ended(EndReason::Released, 0)]);
        assert_eq!(view.state(&below, 0), TokenState::Ended(EndReason::Released));
        let beside = Claims {
            delegation_nodes: vec!["a".into(), "c".into()],
            ..claims("root", "j")
        };
        assert_eq!(view.state(&beside, 0), TokenState::Active);
    }

    #[test]
    fn each_level_hits_what_it_names() {
        let delegated = Claims {
            delegation_chain: ["root", "middle"]
                .map(|agent| crate::claims::DelegationRecord {
                    agent: agent.into(),
                    ..Default::default()
                })
                .into(),
            ..claims("s", "j")
        };
        let table = [
            (RevocationLevel::Token, "j", true),
            (RevocationLevel::Token, "s", false),
            (RevocationLevel::Agent, "agent", true),
            (RevocationLevel::Agent, "root", true),
            (RevocationLevel::Agent, "middle", true),
            (RevocationLevel::Task, "t", true),
            (RevocationLevel::Task, "", false),
            (RevocationLevel::Chain, "root", true),
            (RevocationLevel::Chain, "middle", false),
            (RevocationLevel::Chain, "agent", false),
        ];
        for (level, target, hit) in table {
            let target = target.to_owned();
            let view = RevocationView::loaded(
                0,
                [Change::Revoked(Revocation {
                    level,
                    target,
                    until: None,
                })],
            );
            let ended = view.state(&delegated, 0) == TokenState::Ended(EndReason::Revoked);
            assert_eq!(ended, hit, "{level:?}");
        }
    }

    #[test]
    fn entries_go_when_they_can_hit_nothing_more() {
        let revoked = |level, target: &str, until| {
            Change::Revoked(Revocation {
                level,
                target: target.into(),
                until,
            })
        };
        let spent = Change::TokenSpent {
            jti: "j".into(),
            effective_at: 0,
            until: 10,
        };
        let mut view = RevocationView::loaded(0, [spent, revoked(RevocationLevel::Agent, "nobody", None)]);
        assert_eq!(view.state(&claims("s", "j"), 0), TokenState::Renewed);
        view.apply(revoked(RevocationLevel::Task, "t", Some(20)));
        assert_eq!(view.state(&claims("s", "x"), 0), TokenState::Ended(EndReason::Revoked));
        view.prune(10);
        assert!(view.spent.is_empty());
        view.apply(revoked(RevocationLevel::Task, "t", Some(5)));
        view.prune(19);
        assert_eq!(
            view.state(&claims("s", "x"), 19),
            TokenState::Ended(EndReason::Revoked),
            "not shortened"
        );
        view.prune(20);
        assert_eq!(view.state(&claims("s", "x"), 20), TokenState::Active);
        assert_eq!(view.agents.len(), 1, "never forgotten");
    }
}
