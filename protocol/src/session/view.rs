//! Everything that a token check needs besides signature and times: which nodes have ended, which tokens were replaced,
//! what people revoked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{EndReason, Revocation, RevocationLevel, ViewChange};
use crate::claims::Claims;
use crate::judging::Times;

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
    overlap_until: Option<i64>,
    seen: AtomicBool,
}

impl Over {
    const fn new(overlap_until: Option<i64>) -> Self {
        Self {
            overlap_until,
            seen: AtomicBool::new(false),
        }
    }

    fn is_over(&self, judged: i64) -> bool {
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
    fn hasten(&mut self, overlap_until: Option<i64>) -> bool {
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
    until: i64,
}

/// The tokens of a node that was renewed: one entry, however many there were.
#[derive(Debug)]
struct Current {
    jti: String,
    previous: String,
    over: Over,
    until: i64,
}

impl Current {
    fn stands(&self, jti: &str, judged: i64) -> bool {
        self.jti == jti || (self.previous == jti && !self.over.is_over(judged))
    }
}

/// The state. An entry goes when the last token that it can hit has expired.
#[derive(Debug, Default)]
pub struct RevocationView {
    loaded: bool,
    min_iat: i64,
    ended: HashMap<String, Ending>,
    renewed: HashMap<String, Current>,
    expired: HashMap<String, i64>,
    tokens: HashMap<String, Option<i64>>,
    agents: HashMap<String, Option<i64>>,
    tasks: HashMap<String, Option<i64>>,
    chains: HashMap<String, Option<i64>>,
}

impl RevocationView {
    /// What a store holds; tokens issued before `min_iat` (Unix seconds) are older than it.
    pub fn loaded(min_iat: i64, changes: impl IntoIterator<Item = ViewChange>) -> Self {
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
mod tests {
    use super::*;

    fn claims(sid: &str, jti: &str) -> Claims {
        let text = format!(r#"{{"sub":"agent","exp":2000,"iat":1000,"jti":"{jti}","sid":"{sid}","task_id":"t"}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn ended(reason: EndReason, overlap_until: Option<i64>) -> ViewChange {
        ViewChange::SessionEnded {
            sid: "s".into(),
            reason,
            overlap_until,
            until: ViewChange::end_of_second(2000),
        }
    }

    #[test]
    fn before_it_is_loaded_nothing_is_known_and_older_tokens_are_forgotten() {
        let view = RevocationView::default();
        assert_eq!(view.state(&claims("s", "j"), Times::at(0)), TokenState::Unknown);
        let view = RevocationView::loaded(1001, []);
        assert_eq!(
            view.state(&claims("s", "j"), Times::at(0)),
            TokenState::IssuedBeforeStore
        );
        let view = RevocationView::loaded(1000, []);
        assert_eq!(view.state(&claims("s", "j"), Times::at(0)), TokenState::Active);
    }

    #[test]
    fn an_overlap_ends_at_its_moment_and_the_earlier_end_wins() {
        let mut view = RevocationView::loaded(0, [ended(EndReason::Superseded, Some(500))]);
        let state = |view: &RevocationView, sid, now| view.state(&claims(sid, "j"), Times::at(now));
        assert_eq!(state(&view, "s", 499), TokenState::Active);
        view.apply(ended(EndReason::Superseded, Some(600)));
        assert_eq!(state(&view, "s", 500), TokenState::Ended(EndReason::Superseded));
        assert_eq!(state(&view, "other", 500), TokenState::Active);
        view.apply(ended(EndReason::Revoked, None));
        assert_eq!(state(&view, "s", 100), TokenState::Ended(EndReason::Revoked));
        view.apply(ended(EndReason::Released, None));
        assert_eq!(state(&view, "s", 100), TokenState::Ended(EndReason::Revoked));
    }

    #[test]
    fn no_clock_revives_what_has_ended() {
        let view = RevocationView::loaded(0, [ended(EndReason::PodEnded, None)]);
        assert_eq!(
            view.state(&claims("s", "j"), Times::at(i64::MIN)),
            TokenState::Ended(EndReason::PodEnded)
        );
        // An overlap that was seen over stays over; one that nobody looked at is as the clock says.
        let renewed = |node: &str| ViewChange::Renewed {
            node: node.into(),
            jti: "next".into(),
            previous: "j".into(),
            overlap_until: Some(500),
            until: 9000,
        };
        let overlaps = [
            ended(EndReason::Superseded, Some(500)),
            renewed("other"),
            renewed("another"),
        ];
        let view = RevocationView::loaded(0, overlaps);
        let seen = TokenState::Ended(EndReason::Superseded);
        assert_eq!(view.state(&claims("s", "x"), Times::at(400)), TokenState::Active);
        assert_eq!(view.state(&claims("s", "x"), Times::at(500)), seen);
        assert_eq!(view.state(&claims("s", "x"), Times::at(400)), seen);
        assert_eq!(view.state(&claims("other", "j"), Times::at(500)), TokenState::Renewed);
        assert_eq!(view.state(&claims("other", "j"), Times::at(400)), TokenState::Renewed);
        assert_eq!(view.state(&claims("another", "j"), Times::at(400)), TokenState::Active);
    }

    #[test]
    fn a_jump_forward_and_back_forgets_no_revocation() {
        let revoked = ViewChange::Revoked(Revocation {
            level: RevocationLevel::Task,
            target: "t".into(),
            until: Some(2000),
        });
        let mut view = RevocationView::loaded(0, [revoked, ended(EndReason::Released, None)]);
        let forward = Times {
            wall: 1_000_000_000,
            judged: 1_000_000_000,
            ..Times::at(1000)
        };
        view.prune(forward);
        let of_task = view.state(&claims("x", "j"), forward);
        assert_eq!(of_task, TokenState::Ended(EndReason::Revoked));
        assert_eq!(view.len(), 2);
        let back = Times {
            wall: 1000,
            ..Times::at(1_000_000_000)
        };
        view.prune(back);
        assert_eq!(view.len(), 2, "nor does a mark that was set forward");
    }

    #[test]
    fn the_end_of_a_delegation_ends_what_is_below_it() {
        let below = Claims {
            delegation_nodes: vec!["a".into(), "s".into(), "b".into()],
            ..claims("root", "j")
        };
        let view = RevocationView::loaded(0, [ended(EndReason::Released, None)]);
        assert_eq!(view.state(&below, Times::at(0)), TokenState::Ended(EndReason::Released));
        let beside = Claims {
            delegation_nodes: vec!["a".into(), "c".into()],
            ..claims("root", "j")
        };
        assert_eq!(view.state(&beside, Times::at(0)), TokenState::Active);
    }

    #[test]
    fn a_node_takes_one_entry_however_often_it_is_renewed() {
        let renewal = |number: i64, overlap_until| ViewChange::Renewed {
            node: "s".into(),
            jti: format!("j{number}"),
            previous: format!("j{}", number - 1),
            overlap_until,
            until: 9000,
        };
        let mut view = RevocationView::loaded(0, (1..=1000).map(|number| renewal(number, Some(500))));
        assert_eq!(view.len(), 1);
        let state = |view: &RevocationView, jti: &str, now| view.state(&claims("s", jti), Times::at(now));
        assert_eq!(state(&view, "j1000", 499), TokenState::Active);
        assert_eq!(state(&view, "j999", 499), TokenState::Active, "in overlap");
        for number in 0..999 {
            let jti = format!("j{number}");
            assert_eq!(
                state(&view, &jti, 499),
                TokenState::Renewed,
                "an overlap ends with the next renewal"
            );
        }
        // Told once more, as after a restart: an overlap only gets shorter.
        assert_eq!(state(&view, "j999", 500), TokenState::Renewed);
        view.apply(renewal(1000, Some(800)));
        assert_eq!(state(&view, "j999", 400), TokenState::Renewed);
        // A delegation under the same session is a node of its own.
        let mut delegated = claims("s", "d0");
        delegated.delegation_nodes = vec!["node".into()];
        assert_eq!(view.state(&delegated, Times::at(0)), TokenState::Active);
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
                [ViewChange::Revoked(Revocation {
                    level,
                    target,
                    until: None,
                })],
            );
            let ended = view.state(&delegated, Times::at(0)) == TokenState::Ended(EndReason::Revoked);
            assert_eq!(ended, hit, "{level:?}");
        }
    }

    #[test]
    fn entries_go_when_they_can_hit_nothing_more() {
        let revoked = |level, target: &str, until| {
            ViewChange::Revoked(Revocation {
                level,
                target: target.into(),
                until,
            })
        };
        let renewed = ViewChange::Renewed {
            node: "s".into(),
            jti: "x".into(),
            previous: "j".into(),
            overlap_until: None,
            until: 10,
        };
        let expired = ViewChange::Expired {
            jti: "y".into(),
            until: 10,
        };
        let mut view = RevocationView::loaded(0, [renewed, expired, revoked(RevocationLevel::Agent, "nobody", None)]);
        assert_eq!(view.state(&claims("s", "j"), Times::at(0)), TokenState::Renewed);
        assert_eq!(view.state(&claims("z", "y"), Times::at(0)), TokenState::Renewed);
        view.apply(revoked(RevocationLevel::Task, "t", Some(20)));
        assert_eq!(
            view.state(&claims("s", "x"), Times::at(0)),
            TokenState::Ended(EndReason::Revoked)
        );
        view.prune(Times::at(10));
        assert!(view.renewed.is_empty() && view.expired.is_empty());
        view.apply(revoked(RevocationLevel::Task, "t", Some(5)));
        view.prune(Times::at(19));
        assert_eq!(
            view.state(&claims("s", "x"), Times::at(19)),
            TokenState::Ended(EndReason::Revoked),
            "not shortened"
        );
        view.prune(Times::at(20));
        assert_eq!(view.state(&claims("s", "x"), Times::at(20)), TokenState::Active);
        assert_eq!(view.agents.len(), 1, "never forgotten");
    }
}
