//! The revocation view says what plain maps of whole ids say, whatever happens in whatever order.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::collections::HashMap;

use agentwrit_protocol::claims::{Claims, DelegationRecord};
use agentwrit_protocol::revocation_change::ViewChange;
use agentwrit_protocol::session::{EndReason, Revocation, RevocationLevel, RevocationView, TokenState};
use agentwrit_protocol::{Jti, SessionId, Times, UnixMillis, UnixSeconds};
use proptest::prelude::*;

/// When an end holds; none is at once. Seen over, it stays over.
struct Over(Option<UnixMillis>, Cell<bool>);

impl Over {
    fn is_over(&self, judged: UnixMillis) -> bool {
        if self.0.is_none_or(|until| until <= judged) {
            self.1.set(true);
        }
        self.1.get()
    }

    fn hasten(&mut self, new: Option<UnixMillis>) -> bool {
        let sooner = self.0.is_some_and(|known| new.is_none_or(|new| new < known));
        if sooner {
            self.0 = new;
        }
        sooner
    }
}

/// The view as it would be written without a thought of memory.
#[derive(Default)]
struct Reference {
    ended: HashMap<SessionId, (EndReason, Over, UnixMillis)>,
    renewed: HashMap<SessionId, (Jti, Jti, Over, UnixMillis)>,
    expired: HashMap<Jti, UnixMillis>,
    revoked: HashMap<(RevocationLevel, String), Option<UnixMillis>>,
}

impl Reference {
    fn apply(&mut self, change: ViewChange) {
        match change {
            ViewChange::SessionEnded {
                sid,
                reason,
                overlap_until,
                until,
            } => {
                let new = || (reason, Over(overlap_until, Cell::new(false)), until);
                let entry = self.ended.entry(sid).or_insert_with(new);
                if entry.1.hasten(overlap_until) {
                    entry.0 = reason;
                }
                entry.2 = entry.2.max(until);
            }
            ViewChange::Renewed {
                node,
                jti,
                previous,
                overlap_until,
                until,
            } => {
                let known = self.renewed.remove(&node);
                let mut until = until;
                let mut over = Over(overlap_until, Cell::new(false));
                if let Some((_, before, known, known_until)) = known {
                    until = until.max(known_until);
                    if before == previous {
                        over = known;
                        over.hasten(overlap_until);
                    }
                }
                self.renewed.insert(node, (jti, previous, over, until));
            }
            ViewChange::Expired { jti, until } => {
                let entry = self.expired.entry(jti).or_insert(until);
                *entry = until.max(*entry);
            }
            ViewChange::Lifted { level, target } => {
                self.revoked.remove(&(level, target));
            }
            ViewChange::Revoked(Revocation { level, target, until }) => {
                let entry = self.revoked.entry((level, target)).or_insert(until);
                *entry = entry.zip(until).map(|(known, new)| known.max(new));
            }
        }
    }

    fn is_revoked(&self, level: RevocationLevel, claims: &Claims, times: Times) -> bool {
        level.hits(claims, |target| {
            let until = self.revoked.get(&(level, target.to_owned()));
            until.is_some_and(|until| until.is_none_or(|until| times.passed() < until))
        })
    }

    fn state(&self, claims: &Claims, times: Times) -> TokenState {
        let levels = RevocationLevel::ALL;
        if levels.iter().any(|level| self.is_revoked(*level, claims, times)) {
            return TokenState::Ended(EndReason::Revoked);
        }
        for node in std::iter::once(&claims.sid).chain(&claims.delegation_nodes) {
            if let Some((reason, over, _)) = self.ended.get(node)
                && over.is_over(times.judged)
            {
                return TokenState::Ended(*reason);
            }
        }
        let node = claims.delegation_nodes.last().unwrap_or(&claims.sid);
        let stands = self.renewed.get(node).is_none_or(|(jti, previous, over, _)| {
            *jti == claims.jti || (*previous == claims.jti && !over.is_over(times.judged))
        });
        if stands && !self.expired.contains_key(&claims.jti) {
            TokenState::Active
        } else {
            TokenState::Renewed
        }
    }

    fn prune(&mut self, times: Times) {
        let passed = times.passed();
        self.ended.retain(|_, entry| entry.2 > passed);
        self.renewed.retain(|_, entry| entry.3 > passed);
        self.expired.retain(|_, until| *until > passed);
        self.revoked.retain(|_, until| until.is_none_or(|until| until > passed));
    }

    fn len(&self) -> usize {
        self.ended.len() + self.renewed.len() + self.expired.len() + self.revoked.len()
    }
}

/// Ids of every form, few enough to meet again; the same text may be an id of several kinds.
fn id() -> impl Strategy<Value = String> {
    (0_u8..6, 0_u8..3).prop_map(|(number, form)| match form {
        0 => format!("{number:032x}"),
        1 => format!("{number:048x}"),
        _ => format!(
            "spiffe://agentwrit.local/agent/k8s.shop.app/{number}/{}",
            "a".repeat(300)
        ),
    })
}

/// What a clock shows: moments close enough together to matter to each other, and the first of all.
fn now() -> impl Strategy<Value = UnixMillis> {
    prop_oneof![
        20 => (-5_000_i64..5_000).prop_map(UnixMillis::new),
        5 => (1_800_000_000_000_i64..1_800_000_000_003).prop_map(UnixMillis::new),
        1 => Just(UnixMillis::MIN),
    ]
}

/// Of a change it may be one that no clock ever shows.
fn moment() -> impl Strategy<Value = UnixMillis> {
    prop_oneof![20 => now(), 1 => Just(UnixMillis::MAX)]
}

fn change() -> impl Strategy<Value = ViewChange> {
    let level = prop::sample::select(RevocationLevel::ALL.to_vec());
    let reason = prop::sample::select(EndReason::ALL.to_vec());
    // One that is over since the first of all moments is none.
    let overlap = || prop::option::weighted(0.7, moment().prop_filter("none", |moment| *moment > UnixMillis::MIN));
    prop_oneof![
        4 => (id(), reason, overlap(), moment()).prop_map(|(sid, reason, overlap_until, until)| {
            ViewChange::SessionEnded { sid: sid.into(), reason, overlap_until, until }
        }),
        4 => ([id(), id(), id()], overlap(), moment()).prop_map(|([node, jti, previous], overlap_until, until)| {
            ViewChange::Renewed { node: node.into(), jti: jti.into(), previous: previous.into(), overlap_until, until }
        }),
        2 => (id(), moment()).prop_map(|(jti, until)| ViewChange::Expired { jti: jti.into(), until }),
        4 => (level.clone(), id(), prop::option::weighted(0.8, moment())).prop_map(|(level, target, until)| {
            ViewChange::Revoked(Revocation { level, target, until })
        }),
        2 => (level, id()).prop_map(|(level, target)| ViewChange::Lifted { level, target }),
    ]
}

fn claims() -> impl Strategy<Value = Claims> {
    let few = || prop::collection::vec(id(), 0..3);
    ([id(), id(), id(), id()], few(), few()).prop_map(|([sub, jti, sid, task], nodes, agents)| {
        let text = format!(r#"{{"sub":"{sub}","exp":2000,"iat":1000,"jti":"{jti}","sid":"{sid}","task_id":"{task}"}}"#);
        Claims {
            delegation_nodes: nodes.into_iter().map(SessionId::from).collect(),
            delegation_chain: agents
                .into_iter()
                .map(|agent| DelegationRecord {
                    agent,
                    ..Default::default()
                })
                .collect(),
            ..serde_json::from_str(&text).unwrap()
        }
    })
}

fn times() -> impl Strategy<Value = Times> {
    (now(), now(), now()).prop_map(|(wall, mark, judged)| Times { wall, mark, judged })
}

#[derive(Debug, Clone)]
enum Step {
    Apply(ViewChange),
    Ask(Vec<Claims>, Times),
    Prune(Times),
    /// As a broker does it, with questions between the pieces.
    PruneInPieces(Times, Vec<Claims>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => change().prop_map(Step::Apply),
        6 => (prop::collection::vec(claims(), 1..6), times()).prop_map(|(claims, times)| Step::Ask(claims, times)),
        1 => times().prop_map(Step::Prune),
        1 => (times(), prop::collection::vec(claims(), 1..3)).prop_map(|(times, claims)| Step::PruneInPieces(times, claims)),
    ]
}

proptest! {
    #[test]
    fn the_view_answers_as_plain_maps_do(steps in prop::collection::vec(step(), 1..60)) {
        let mut view = RevocationView::loaded(UnixSeconds::new(0), []);
        let mut reference = Reference::default();
        for step in steps {
            match step {
                Step::Apply(change) => {
                    view.apply(change.clone());
                    reference.apply(change);
                }
                Step::Ask(asked, times) => for claims in asked {
                    prop_assert_eq!(view.state(&claims, times), reference.state(&claims, times), "{:?}", claims);
                    for level in RevocationLevel::ALL {
                        prop_assert_eq!(view.is_revoked(level, &claims, times), reference.is_revoked(level, &claims, times));
                    }
                },
                Step::Prune(times) => {
                    view.prune(times);
                    reference.prune(times);
                }
                Step::PruneInPieces(times, claims) => {
                    reference.prune(times);
                    for piece in 0..RevocationView::PIECES {
                        view.prune_piece(piece, times);
                        for claims in &claims {
                            let level = RevocationLevel::Agent;
                            prop_assert_eq!(view.is_revoked(level, claims, times), reference.is_revoked(level, claims, times));
                        }
                    }
                }
            }
            prop_assert_eq!((view.len(), view.is_empty()), (reference.len(), reference.len() == 0));
        }
    }
}
