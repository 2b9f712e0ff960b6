//! View and judging clock together, under a wall clock that jumps both ways: what was refused for good is never accepted
//! again, and no token is accepted longer than it was issued for.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions
)]

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::clock::{Clock, ManualClock};
use agentwrit_protocol::session::*;
use agentwrit_protocol::{JudgingClock, Times, Ttl, UnixMillis, UnixSeconds};
use proptest::prelude::*;

const LIFE: Ttl = Ttl::seconds(900);
const OVERLAP: Duration = Duration::from_secs(10);
/// Longer than any token lives.
const REVOKED_FOR: Duration = Duration::from_secs(1_000);

/// One thing that happens. Numbers choose among the tokens.
#[derive(Debug, Clone)]
enum Op {
    Issue,
    End(usize, EndReason),
    Supersede(usize),
    Renew { token: usize, overlap: bool },
    Revoke(RevocationLevel, usize),
    Pass(i64),
    Jump(i64),
    Prune,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let token = 0_usize..1000;
    let immediate = [
        EndReason::Released,
        EndReason::Suspended,
        EndReason::PodEnded,
        EndReason::PolicyRemoved,
    ];
    prop_oneof![
        5 => Just(Op::Issue),
        2 => (token.clone(), prop::sample::select(immediate.to_vec())).prop_map(|(token, reason)| Op::End(token, reason)),
        2 => token.clone().prop_map(Op::Supersede),
        2 => (token.clone(), any::<bool>()).prop_map(|(token, overlap)| Op::Renew { token, overlap }),
        2 => (prop::sample::select(RevocationLevel::ALL.to_vec()), token).prop_map(|(level, token)| Op::Revoke(level, token)),
        5 => prop_oneof![1_i64..20_000, 100_000_i64..700_000].prop_map(Op::Pass),
        8 => prop_oneof![-40_i64..40, -400_i64..400, -1_500_i64..1_500, -100_000_i64..100_000, Just(40 * 86_400), Just(-40 * 86_400)].prop_map(Op::Jump),
        3 => Just(Op::Prune),
        1 => Just(Op::Restart),
    ]
}

struct Token {
    claims: Claims,
    /// It was refused for good; by a step of the wall clock that the mark has not taken over when false, which a restart
    /// forgets.
    refused: Option<bool>,
    /// When its life is over, by the monotonic clock; unknown when the wall clock ran ahead of the mark at its issue.
    over: Option<Duration>,
}

struct World {
    clock: Arc<ManualClock>,
    judging: JudgingClock,
    view: RevocationView,
    /// What a store keeps: of what the view forgets, all but revocations. A token that was issued after one of those was
    /// over, by a clock that was set back, would be refused from the restart on until it is over once more.
    stored: Vec<ViewChange>,
    tokens: Vec<Token>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(1_800_000_000));
        let judging = JudgingClock::new(Arc::<ManualClock>::clone(&clock));
        judging.load(None);
        Self {
            clock,
            judging,
            view: RevocationView::loaded(UnixSeconds::new(0), []),
            stored: Vec::new(),
            tokens: Vec::new(),
        }
    }

    fn change(&mut self, change: ViewChange) {
        self.stored.push(change.clone());
        self.view.apply(change);
    }

    fn apply(&mut self, op: &Op) {
        let times = self.judging.observe();
        let chosen =
            |number: &usize| (!self.tokens.is_empty()).then(|| self.tokens[number % self.tokens.len()].claims.clone());
        let ended = |claims: Claims, reason, overlap_until| ViewChange::SessionEnded {
            sid: claims.sid,
            reason,
            overlap_until,
            until: claims.exp.end(),
        };
        match op {
            Op::Issue => self.issue(times),
            Op::End(number, reason) => {
                let Some(claims) = chosen(number) else { return };
                self.change(ended(claims, *reason, None));
            }
            Op::Supersede(number) => {
                let Some(claims) = chosen(number) else { return };
                self.change(ended(claims, EndReason::Superseded, Some(times.judged + OVERLAP)));
            }
            Op::Renew { token, overlap } => {
                let Some(claims) = chosen(token) else { return };
                self.change(ViewChange::Renewed {
                    node: claims.sid,
                    jti: "next".into(),
                    previous: claims.jti,
                    overlap_until: overlap.then_some(times.judged + OVERLAP),
                    until: claims.exp.end(),
                });
            }
            Op::Revoke(level, number) => {
                let Some(claims) = chosen(number) else { return };
                let target = match level {
                    RevocationLevel::Token => claims.jti.into(),
                    RevocationLevel::Task => claims.task_id.into(),
                    RevocationLevel::Agent | RevocationLevel::Chain => claims.sub,
                };
                // As a store does: whatever it hits ends, and what is issued later is born under it.
                let hit = |token: &&Token| level.hits(&token.claims, |named| named == target);
                let hit: Vec<_> = self
                    .tokens
                    .iter()
                    .filter(hit)
                    .map(|token| token.claims.clone())
                    .collect();
                for claims in hit {
                    self.change(ended(claims, EndReason::Revoked, None));
                }
                self.change(ViewChange::Revoked(Revocation {
                    level: *level,
                    target,
                    until: Some(times.judged + REVOKED_FOR),
                }));
            }
            Op::Pass(millis) => self.clock.advance_millis(*millis),
            Op::Jump(seconds) => self.clock.jump(*seconds),
            Op::Prune => {
                self.view.prune(times);
                let is_over = |until: Option<UnixMillis>| until.is_some_and(|until| until <= times.passed());
                self.stored
                    .retain(|change| !matches!(change, ViewChange::Revoked(revocation) if is_over(revocation.until)));
            }
            Op::Restart => {
                let judging = JudgingClock::new(Arc::<ManualClock>::clone(&self.clock));
                judging.load(Some(times.mark));
                self.judging = judging;
                self.view = RevocationView::loaded(UnixSeconds::new(0), self.stored.clone());
                for token in &mut self.tokens {
                    token.refused = token.refused.filter(|for_good| *for_good);
                }
            }
        }
    }

    fn issue(&mut self, times: Times) {
        if times.is_behind() {
            return;
        }
        let iat = times.wall.second();
        let number = self.tokens.len();
        let claims = Claims {
            sub: format!("agent-{}", number % 5),
            sid: format!("session-{number}").into(),
            jti: format!("token-{number}").into(),
            task_id: format!("task-{}", number % 3).into(),
            iat,
            nbf: iat,
            exp: iat + LIFE,
            ..Claims::default()
        };
        // Born under a revocation: ended for good.
        if self.view.state(&claims, times) != TokenState::Active {
            return;
        }
        let over =
            (times.wall <= times.mark).then(|| self.clock.monotonic() + LIFE.duration() + Duration::from_secs(1));
        self.tokens.push(Token {
            claims,
            refused: None,
            over,
        });
    }

    /// What a verifier does, and whether that agrees with the account.
    fn check(&mut self) {
        let times = self.judging.times();
        let now = self.clock.monotonic();
        for token in &mut self.tokens {
            let claims = &token.claims;
            let refused = if claims.exp < times.judged.second() {
                let by_mark = claims.exp < times.mark.second();
                if !by_mark {
                    self.view.apply(ViewChange::Expired {
                        jti: claims.jti.clone(),
                        until: claims.exp.end(),
                    });
                }
                Some(by_mark)
            } else if times.wall.second() < claims.nbf {
                None
            } else if self.view.state(claims, times) == TokenState::Active {
                assert_eq!(token.refused, None, "{claims:?} comes back to life, {times:?}");
                assert!(
                    token.over.is_none_or(|over| now < over),
                    "{claims:?} lives too long, {times:?}"
                );
                None
            } else {
                // An overlap may be over by a step only.
                Some(token.refused == Some(true) || times.judged == times.mark && token.refused.is_none())
            };
            token.refused = match (token.refused, refused) {
                (Some(known), Some(new)) => Some(known || new),
                (known, new) => new.or(known),
            };
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]
    #[test]
    fn whatever_the_clock_does_the_dead_stay_dead(ops in prop::collection::vec((op(), prop::bool::weighted(0.6)), 1..100)) {
        let mut world = World::new();
        for (op, look) in &ops {
            world.apply(op);
            if *look {
                world.check();
            }
        }
    }
}

/// Whether the first token is refused after these, when nobody has shown it before.
fn is_refused_after(ops: &[Op]) -> bool {
    let mut world = World::new();
    for op in ops {
        world.apply(op);
    }
    world.check();
    world.tokens[0].refused.is_some()
}

#[test]
fn back_by_seconds_revives_nothing() {
    for back in [1, 10, 19] {
        let ended = [
            Op::Issue,
            Op::Pass(20_000),
            Op::End(0, EndReason::Suspended),
            Op::Jump(-back),
            Op::Restart,
        ];
        assert!(is_refused_after(&ended));
        assert!(!is_refused_after(&[Op::Issue, Op::Pass(20_000), Op::Jump(-back)]));
    }
}

#[test]
fn forward_prune_and_back_forgets_no_revocation() {
    let step = 40 * 86_400;
    for level in [RevocationLevel::Token, RevocationLevel::Agent, RevocationLevel::Task] {
        let revoked = [
            Op::Issue,
            Op::Revoke(level, 0),
            Op::Jump(step),
            Op::Prune,
            Op::Jump(-step),
        ];
        assert!(is_refused_after(&revoked), "{level:?}");
    }
    assert!(!is_refused_after(&[
        Op::Issue,
        Op::Jump(step),
        Op::Prune,
        Op::Jump(-step)
    ]));
}

/// The clock is set back, within what is allowed, after a revocation was over and forgotten: what is issued then stands.
#[test]
fn a_revocation_that_was_forgotten_is_over_after_a_restart() {
    let forgotten = [
        Op::Issue,
        Op::Revoke(RevocationLevel::Task, 0),
        Op::Pass(1_000_000),
        Op::Prune,
        Op::Jump(-300),
        Op::Issue,
        Op::Restart,
    ];
    let mut world = World::new();
    for op in &forgotten {
        world.apply(op);
    }
    world.check();
    assert_eq!(world.tokens[1].refused, None);
}
