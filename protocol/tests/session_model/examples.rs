//! Sequences that are worth reading.

use agentwrit_protocol::{Jti, UnixMillis, UnixSeconds};

use super::*;

#[test]
fn a_renewal_ends_no_child_and_a_release_no_sibling() {
    let mut world = World::new();
    for op in [
        Op::Register,
        Op::Delegate {
            token: 0,
            to: 0,
            ttl: Ttl::seconds(9),
        },
        Op::Delegate {
            token: 0,
            to: 0,
            ttl: Ttl::seconds(9),
        },
        Op::Delegate {
            token: 1,
            to: 0,
            ttl: Ttl::seconds(9),
        },
        Op::Renew {
            token: 0,
            overlap: false,
        },
    ] {
        world.apply(&op);
    }
    let passing = |world: &World| -> Vec<bool> { world.tokens.iter().map(|token| world.passes(token)).collect() };
    assert_eq!(passing(&world), [false, true, true, true, true]);
    world.apply(&Op::Release { token: 1 });
    assert_eq!(
        passing(&world),
        [false, false, true, false, true],
        "the node and what is below it"
    );
    world.apply(&Op::Release { token: 4 });
    assert_eq!(passing(&world), [false; 5]);
}

#[test]
fn six_hops_are_one_too_many() {
    let mut world = World::new();
    world.apply(&Op::Register);
    for hop in 0..=MAX_DEPTH {
        world.apply(&Op::Delegate {
            token: hop,
            to: 0,
            ttl: Ttl::seconds(9),
        });
    }
    assert_eq!(world.tokens.len(), 1 + MAX_DEPTH);
}

/// A session that was renewed in second 1000; the token before has an overlap of half a second.
fn renewed<'a>(new: &'a Jti, old: &'a Jti) -> Node<'a> {
    Node {
        jti: new,
        iat: UnixSeconds::new(1000),
        exp: UnixSeconds::new(1300),
        previous: Some(Previous {
            jti: old,
            until: UnixMillis::new(1_000_500),
            exp: UnixSeconds::new(1200),
            key: Some("k"),
        }),
        ceiling: None,
        opened_at: UnixMillis::new(0),
        end: None,
    }
}

#[test]
fn an_overlap_is_over_at_its_end() {
    let (new, old) = (Jti::from("new"), Jti::from("old"));
    let lineage = Lineage::new(Vec::new(), renewed(&new, &old));
    let standing = |jti, millis| lineage.standing(jti, UnixMillis::new(millis));
    assert_eq!(
        (standing(&old, 1_000_499), standing(&old, 1_000_500)),
        (Standing::Overlap, Standing::Replaced)
    );
    assert_eq!(standing(&new, 1_000_500), Standing::Current);
}

#[test]
fn a_retried_renewal_gets_the_current_token_for_a_minute() {
    let (new, old) = (Jti::from("new"), Jti::from("old"));
    let node = renewed(&new, &old);
    let wish = |key, retries| RenewWish {
        overlap: Duration::ZERO,
        key,
        retries,
    };
    let table = [
        (
            "the key",
            node,
            wish(Some("k"), true),
            1_060_000,
            RenewalDecision::Again,
        ),
        (
            "too late",
            node,
            wish(Some("k"), true),
            1_060_001,
            RenewalDecision::Refused(RenewRefusal::Replaced),
        ),
        (
            "another key",
            node,
            wish(Some("x"), true),
            1_000_000,
            RenewalDecision::Refused(RenewRefusal::Replaced),
        ),
        (
            "no key",
            node,
            wish(None, true),
            1_000_000,
            RenewalDecision::Refused(RenewRefusal::Replaced),
        ),
        (
            "not for this session",
            node,
            wish(Some("k"), false),
            1_000_000,
            RenewalDecision::Refused(RenewRefusal::Replaced),
        ),
        (
            "ended",
            Node {
                end: Some(End {
                    reason: EndReason::Revoked,
                    at: UnixMillis::new(1_000_000),
                }),
                ..node
            },
            wish(Some("k"), true),
            1_000_000,
            RenewalDecision::Refused(RenewRefusal::Ended(EndReason::Revoked)),
        ),
        (
            "ending",
            Node {
                end: Some(End {
                    reason: EndReason::Superseded,
                    at: UnixMillis::new(1_000_001),
                }),
                ..node
            },
            wish(Some("k"), true),
            1_000_000,
            RenewalDecision::Refused(RenewRefusal::Ending(EndReason::Superseded)),
        ),
    ];
    for (what, node, wish, now, wanted) in table {
        assert_eq!(
            Lineage::new(vec![], node).renew(&old, UnixMillis::new(now), wish, LIMITS),
            wanted,
            "{what}"
        );
    }
}

#[test]
fn a_session_may_have_a_longest_age_which_its_delegations_share() {
    let jti = Jti::from("j");
    let node = |opened_at, ceiling: Option<i64>| Node {
        jti: &jti,
        iat: UnixSeconds::new(1000),
        exp: UnixSeconds::new(1300),
        previous: None,
        ceiling: ceiling.map(UnixSeconds::new),
        opened_at: UnixMillis::new(opened_at),
        end: None,
    };
    let limits = RenewLimits {
        max_ttl: Ttl::seconds(100),
        max_session_age: Ttl::seconds(50),
    };
    let (root, child) = (node(1_000_000, None), node(1_040_000, Some(1120)));
    let renewed = |now, lineage: Lineage<'_>| lineage.renew(&jti, UnixMillis::new(now), RenewWish::default(), limits);
    let granted = |iat, exp| {
        RenewalDecision::Granted(Granted {
            iat: UnixSeconds::new(iat),
            exp: UnixSeconds::new(exp),
            predecessor_until: UnixSeconds::new(iat).start(),
        })
    };
    assert_eq!(renewed(1_049_000, Lineage::new(vec![], root)), granted(1049, 1149));
    assert_eq!(renewed(1_049_000, Lineage::new(vec![root], child)), granted(1049, 1120));
    let old = RenewalDecision::Refused(RenewRefusal::TooOld);
    assert_eq!(renewed(1_050_000, Lineage::new(vec![], root)), old);
    assert_eq!(renewed(1_050_000, Lineage::new(vec![root], child)), old);
}
