use super::*;
use crate::time::UnixMillis;

fn at(millis: i64) -> Times {
    Times::at(UnixMillis::new(millis))
}

fn claims(sid: &str, jti: &str) -> Claims {
    let text = format!(r#"{{"sub":"agent","exp":2000,"iat":1000,"jti":"{jti}","sid":"{sid}","task_id":"t"}}"#);
    serde_json::from_str(&text).unwrap()
}

fn ended(reason: EndReason, overlap_until: Option<i64>) -> ViewChange {
    ViewChange::SessionEnded {
        sid: "s".into(),
        reason,
        overlap_until: overlap_until.map(UnixMillis::new),
        until: UnixSeconds::new(2000).end(),
    }
}

#[test]
fn an_unloaded_view_knows_no_token_and_old_ones_are_forgotten() {
    let view = RevocationView::default();
    assert_eq!(view.state(&claims("s", "j"), at(0)), TokenState::Unknown);
    let view = RevocationView::loaded(UnixSeconds::new(1001), []);
    assert_eq!(view.state(&claims("s", "j"), at(0)), TokenState::IssuedBeforeStore);
    let view = RevocationView::loaded(UnixSeconds::new(1000), []);
    assert_eq!(view.state(&claims("s", "j"), at(0)), TokenState::Active);
}

#[test]
fn an_overlap_ends_at_its_moment_and_the_earlier_end_wins() {
    let mut view = RevocationView::loaded(UnixSeconds::new(0), [ended(EndReason::Superseded, Some(500))]);
    let state = |view: &RevocationView, sid, now| view.state(&claims(sid, "j"), at(now));
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
fn of_two_ends_the_earlier_holds_whichever_is_known_first() {
    for ends in [[500, 600], [600, 500]] {
        let ends = ends.map(|until| ended(EndReason::Superseded, Some(until)));
        let view = RevocationView::loaded(UnixSeconds::new(0), ends);
        let state = |now| view.state(&claims("s", "j"), at(now));
        assert_eq!(state(499), TokenState::Active);
        assert_eq!(state(500), TokenState::Ended(EndReason::Superseded));
    }
}

#[test]
fn entries_are_forgotten_when_their_last_token_has_expired() {
    let revoked = Revocation {
        level: RevocationLevel::Token,
        target: "j".into(),
        until: Some(UnixMillis::new(700)),
    };
    let changes = [
        ViewChange::SessionEnded {
            sid: "s".into(),
            reason: EndReason::Revoked,
            overlap_until: None,
            until: UnixMillis::new(700),
        },
        ViewChange::Renewed {
            node: "n".into(),
            jti: "next".into(),
            previous: "j".into(),
            overlap_until: None,
            until: UnixMillis::new(700),
        },
        ViewChange::Expired {
            jti: "j".into(),
            until: UnixMillis::new(700),
        },
        ViewChange::Revoked(revoked),
    ];
    let mut view = RevocationView::loaded(UnixSeconds::new(0), changes);
    view.prune(at(699));
    assert_eq!((view.len(), view.is_empty()), (4, false));
    view.prune(at(700));
    assert_eq!((view.len(), view.is_empty()), (0, true));
}

#[test]
fn no_clock_revives_what_has_ended() {
    let view = RevocationView::loaded(UnixSeconds::new(0), [ended(EndReason::PodEnded, None)]);
    assert_eq!(
        view.state(&claims("s", "j"), at(i64::MIN)),
        TokenState::Ended(EndReason::PodEnded)
    );
    // An overlap that was seen over stays over; one that nobody looked at is as the clock says.
    let renewed = |node: &str| ViewChange::Renewed {
        node: node.into(),
        jti: "next".into(),
        previous: "j".into(),
        overlap_until: Some(UnixMillis::new(500)),
        until: UnixMillis::new(9000),
    };
    let overlaps = [
        ended(EndReason::Superseded, Some(500)),
        renewed("other"),
        renewed("another"),
    ];
    let view = RevocationView::loaded(UnixSeconds::new(0), overlaps);
    let seen = TokenState::Ended(EndReason::Superseded);
    assert_eq!(view.state(&claims("s", "x"), at(400)), TokenState::Active);
    assert_eq!(view.state(&claims("s", "x"), at(500)), seen);
    assert_eq!(view.state(&claims("s", "x"), at(400)), seen);
    assert_eq!(view.state(&claims("other", "j"), at(500)), TokenState::Renewed);
    assert_eq!(view.state(&claims("other", "j"), at(400)), TokenState::Renewed);
    assert_eq!(view.state(&claims("another", "j"), at(400)), TokenState::Active);
}

#[test]
fn a_jump_forward_and_back_forgets_no_revocation() {
    let revoked = ViewChange::Revoked(Revocation {
        level: RevocationLevel::Task,
        target: "t".into(),
        until: Some(UnixMillis::new(2000)),
    });
    let mut view = RevocationView::loaded(UnixSeconds::new(0), [revoked, ended(EndReason::Released, None)]);
    let forward = Times {
        wall: UnixMillis::new(1_000_000_000),
        judged: UnixMillis::new(1_000_000_000),
        ..at(1000)
    };
    view.prune(forward);
    let of_task = view.state(&claims("x", "j"), forward);
    assert_eq!(of_task, TokenState::Ended(EndReason::Revoked));
    assert_eq!(view.len(), 2);
    let back = Times {
        wall: UnixMillis::new(1000),
        ..at(1_000_000_000)
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
    let view = RevocationView::loaded(UnixSeconds::new(0), [ended(EndReason::Released, None)]);
    assert_eq!(view.state(&below, at(0)), TokenState::Ended(EndReason::Released));
    let beside = Claims {
        delegation_nodes: vec!["a".into(), "c".into()],
        ..claims("root", "j")
    };
    assert_eq!(view.state(&beside, at(0)), TokenState::Active);
}

#[test]
fn a_node_takes_one_entry_however_often_it_is_renewed() {
    let renewal = |number: i64, overlap_until| ViewChange::Renewed {
        node: "s".into(),
        jti: format!("j{number}").into(),
        previous: format!("j{}", number - 1).into(),
        overlap_until: Some(UnixMillis::new(overlap_until)),
        until: UnixMillis::new(9000),
    };
    let mut view = RevocationView::loaded(UnixSeconds::new(0), (1..=1000).map(|number| renewal(number, 500)));
    assert_eq!(view.len(), 1);
    let state = |view: &RevocationView, jti: &str, now| view.state(&claims("s", jti), at(now));
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
    view.apply(renewal(1000, 800));
    assert_eq!(state(&view, "j999", 400), TokenState::Renewed);
    // A delegation under the same session is a node of its own.
    let mut delegated = claims("s", "d0");
    delegated.delegation_nodes = vec!["node".into()];
    assert_eq!(view.state(&delegated, at(0)), TokenState::Active);
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
            UnixSeconds::new(0),
            [ViewChange::Revoked(Revocation {
                level,
                target,
                until: None,
            })],
        );
        let ended = view.state(&delegated, at(0)) == TokenState::Ended(EndReason::Revoked);
        assert_eq!(ended, hit, "{level:?}");
    }
}

#[test]
fn entries_go_when_they_can_hit_nothing_more() {
    let revoked = |level, target: &str, until: Option<i64>| {
        ViewChange::Revoked(Revocation {
            level,
            target: target.into(),
            until: until.map(UnixMillis::new),
        })
    };
    let renewed = ViewChange::Renewed {
        node: "s".into(),
        jti: "x".into(),
        previous: "j".into(),
        overlap_until: None,
        until: UnixMillis::new(10),
    };
    let expired = ViewChange::Expired {
        jti: "y".into(),
        until: UnixMillis::new(10),
    };
    let mut view = RevocationView::loaded(
        UnixSeconds::new(0),
        [renewed, expired, revoked(RevocationLevel::Agent, "nobody", None)],
    );
    assert_eq!(view.state(&claims("s", "j"), at(0)), TokenState::Renewed);
    assert_eq!(view.state(&claims("z", "y"), at(0)), TokenState::Renewed);
    view.apply(revoked(RevocationLevel::Task, "t", Some(20)));
    assert_eq!(
        view.state(&claims("s", "x"), at(0)),
        TokenState::Ended(EndReason::Revoked)
    );
    view.prune(at(10));
    assert!(view.renewed.is_empty() && view.expired.is_empty());
    view.apply(revoked(RevocationLevel::Task, "t", Some(5)));
    view.prune(at(19));
    assert_eq!(
        view.state(&claims("s", "x"), at(19)),
        TokenState::Ended(EndReason::Revoked),
        "not shortened"
    );
    view.prune(at(20));
    assert_eq!(view.state(&claims("s", "x"), at(20)), TokenState::Active);
    assert_eq!(view.agents.len(), 1, "never forgotten");
}
