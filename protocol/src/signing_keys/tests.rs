use super::*;
use proptest::prelude::*;

const TIMES: KeyTimes = KeyTimes {
    publish_ahead: Ttl::seconds(600),
    longest_unremembered: Ttl::seconds(3600),
};

fn at(second: i64) -> UnixSeconds {
    UnixSeconds::new(second)
}

fn apply(keys: &mut SigningKeys, changes: Vec<KeyChange>, now: UnixSeconds) {
    let find = |keys: &mut SigningKeys, id: &str, change: &dyn Fn(&mut SigningKey)| {
        change(keys.0.iter_mut().find(|key| key.kid == id).unwrap());
    };
    for change in changes {
        match change {
            KeyChange::Publish(key) => keys.0.push(key),
            KeyChange::Expect { kid, retires_at } => find(keys, &kid, &|key| key.retires_at = Some(retires_at)),
            KeyChange::Reinstate { kid } => find(keys, &kid, &|key| {
                key.retirement = None;
                key.signs_from = now;
            }),
            KeyChange::Retire { kid, .. } => find(keys, &kid, &|key| {
                key.retirement = Some(Retirement { at: now, leaked: false });
            }),
        }
    }
}

fn states(keys: &SigningKeys, now: i64) -> Vec<KeyState> {
    keys.0.iter().map(|key| keys.state(key, at(now))).collect()
}

#[test]
fn the_first_key_signs_at_once_and_the_next_is_published_before() {
    use KeyState::{Active, Next, Previous, Retired};
    let mut keys = SigningKeys::default();
    let mut step = |now: i64, held: &[(&str, &str)], exp: i64| {
        let due = keys.due(held, at(now), TIMES, at(exp));
        let count = due.len();
        apply(&mut keys, due, at(now));
        (count, keys.clone())
    };
    let one = [("a", "xa")];
    let both = [("a", "xa"), ("b", "xb")];
    let (count, keys) = step(1000, &one, 0);
    assert_eq!((count, states(&keys, 1000)), (1, vec![Active]));
    assert_eq!(step(1001, &one, 0).0, 0, "nothing more is due");
    let (count, keys) = step(2000, &both, 2500);
    assert_eq!((count, states(&keys, 2599)), (1, vec![Active, Next]));
    assert_eq!(keys.next(at(2599)).unwrap().kid, "b");
    assert_eq!(states(&keys, 2600), [Previous, Active]);
    // A replica that has the first key alone goes on with it for a while.
    let signer = |held: &[&str], now: i64| keys.signer(held, at(now), TIMES).map(|key| key.kid.clone());
    assert_eq!(signer(&["a"], 3199).as_deref(), Some("a"));
    assert_eq!(signer(&["a"], 3200), None);
    assert_eq!(signer(&["a", "b"], 2600).as_deref(), Some("b"));
    assert_eq!(signer(&["a", "b"], 2599).as_deref(), Some("a"));
    // Nonces are sealed with it as long, by those that hold both as well.
    let settled = |held: &[&str], now: i64| keys.settled(held, at(now), TIMES).map(|key| key.kid.clone());
    assert_eq!(settled(&["a", "b"], 3199).as_deref(), Some("a"));
    assert_eq!(settled(&["a", "b"], 3200).as_deref(), Some("b"));
    assert_eq!(settled(&["b"], 2600).as_deref(), Some("b"));
    assert_eq!(settled(&[], 2600), None);
    assert_eq!(step(3199, &both, 9000).0, 0);
    let (_, keys) = step(3200, &both, 9000);
    assert_eq!(keys.get("a").unwrap().retires_at, Some(at(9000)));
    assert_eq!(step(9000, &both, 0).0, 0, "its last second");
    let (count, keys) = step(9001, &both, 0);
    assert_eq!((count, states(&keys, 9001)), (1, vec![Retired, Active]));
    assert_eq!(
        step(99_000, &both, 0).0,
        0,
        "a retired key that is still held stays retired"
    );
    assert_eq!(keys.signer(&["a"], at(9001), TIMES), None);
}

#[test]
fn a_key_that_replaces_a_lost_one_signs_at_once() {
    let mut keys = SigningKeys::default();
    let first = keys.due(&[("a", "xa")], at(1000), TIMES, at(0));
    apply(&mut keys, first, at(1000));
    let due = keys.due(&[("b", "xb")], at(5000), TIMES, at(0));
    apply(&mut keys, due, at(5000));
    assert_eq!(keys.active(at(5000)).unwrap().kid, "b");
    assert_eq!(keys.published().len(), 2, "tokens of the lost one stand");
}

#[test]
fn where_one_key_fits_the_one_before_is_gone_at_once() {
    use KeyState::{Active, Retired};
    let mut keys = SigningKeys::default();
    let mut replaced = |x: &str, now: i64| {
        let due = keys.due_for_only((x, x), at(now));
        apply(&mut keys, due.clone(), at(now));
        (
            due.len(),
            states(&keys, now),
            keys.signer(&[x], at(now), TIMES).map(|key| key.kid.clone()),
        )
    };
    let one = |x: &str| Some(x.to_owned());
    assert_eq!(replaced("a", 10), (1, vec![Active], one("a")));
    assert_eq!(replaced("a", 11), (0, vec![Active], one("a")));
    assert_eq!(replaced("b", 12), (2, vec![Retired, Active], one("b")));
    assert_eq!(replaced("a", 13), (2, vec![Active, Retired], one("a")), "put back");
    keys.0[0].retirement = Some(Retirement {
        at: at(14),
        leaked: true,
    });
    assert_eq!(keys.due_for_only(("a", "a"), at(15)), [], "a leaked key stays retired");
}

#[test]
fn a_key_that_a_clock_dated_ahead_signs_all_the_same() {
    let mut keys = SigningKeys::default();
    let due = keys.due(&[("a", "xa")], at(9000), TIMES, at(0));
    apply(&mut keys, due, at(9000));
    assert_eq!(states(&keys, 100), [KeyState::Active]);
    assert_eq!(keys.signer(&["a"], at(100), TIMES).unwrap().kid, "a");
    assert_eq!(keys.next(at(100)), None);
    let due = keys.due(&[("a", "xa"), ("b", "xb")], at(9100), TIMES, at(0));
    apply(&mut keys, due, at(9100));
    assert_eq!(states(&keys, 100), [KeyState::Active, KeyState::Next]);
}

#[test]
fn tokens_without_a_session_keep_their_key() {
    let mut keys = SigningKeys::default();
    for (now, held) in [(0, &[("a", "xa")][..]), (10, &[("a", "xa"), ("b", "xb")])] {
        let due = keys.due(held, at(now), TIMES, at(0));
        apply(&mut keys, due, at(now));
    }
    let due = keys.due(&[("b", "xb")], at(1210), TIMES, at(0));
    let kid = "a".to_owned();
    let retires_at = at(1210 + 3600);
    assert_eq!(due, [KeyChange::Expect { kid, retires_at }]);
}

#[test]
fn no_more_keys_are_published_than_may_be_remembered() {
    let names: Vec<String> = (0..=MOST_KEYS).map(|n| n.to_string()).collect();
    let held: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let mut keys = SigningKeys::default();
    let due = keys.due(&held, at(1), TIMES, at(0));
    assert_eq!(due.len(), MOST_KEYS);
    apply(&mut keys, due, at(1));
    assert!(
        keys.due(&held, at(2), TIMES, at(0))
            .iter()
            .all(|change| !matches!(change, KeyChange::Publish(_)))
    );
}

#[test]
fn a_published_key_is_read_back_from_its_event() {
    let detail = published_detail("k1", "x1", "2026-11-30T00:00:00Z");
    assert_eq!(published_key(&detail), Some(("k1", "x1")));
    for other in [
        "",
        "kid=a x=b",
        "kid= x=b signs_from=c",
        "kid=a b x=c signs_from=d",
        "x=b kid=a signs_from=c",
    ] {
        assert_eq!(published_key(other), None, "{other}");
    }
}

fn as_ids(held: &[String]) -> Vec<&str> {
    held.iter().map(String::as_str).collect()
}

proptest! {
    /// Replicas get the private halves of new keys at different moments, and sign what they are asked to. A token is
    /// accepted by all of them from its issue to its `exp`, a nonce of one that issues is read by all others that do, and
    /// there is always a key to sign with where each replica gets a key before the time of the late ones is over.
    #[test]
    fn no_token_outlives_the_publication_of_its_key(
        steps in proptest::collection::vec((0_usize..3, 1_i64..400, 1_i64..3000, any::<bool>()), 1..120),
    ) {
        let mut keys = SigningKeys::default();
        let mut held = vec![vec!["k0".to_owned()]; 3];
        let (mut now, mut made, mut since) = (1000, 0_usize, 0);
        let mut tokens: Vec<(String, i64)> = Vec::new();
        let mut last_exp = 0;
        for (replica, pass, life, rotates) in steps {
            now += pass;
            // A new key reaches the replicas one after another, the last in time.
            let newest = format!("k{made}");
            let late = now - since;
            for (index, of) in held.iter_mut().enumerate() {
                let arrival = [0, 500, 1000][index];
                if late >= arrival && !of.contains(&newest) {
                    of.push(newest.clone());
                }
            }
            if rotates && !keys.0.is_empty() && held.iter().all(|of| of.contains(&newest)) && keys.next(at(now)).is_none() {
                made += 1;
                since = now;
                held[0].push(format!("k{made}"));
            }
            let mine: Vec<_> = held[replica].iter().map(|kid| (kid.as_str(), "x")).collect();
            let due = keys.due(&mine, at(now), TIMES, at(last_exp));
            apply(&mut keys, due, at(now));
            let ids: Vec<_> = mine.iter().map(|(kid, _)| *kid).collect();
            if let Some(signer) = keys.signer(&ids, at(now), TIMES) {
                tokens.push((signer.kid.clone(), now + life));
                last_exp = last_exp.max(now + life);
            } else {
                // It has held the key of then; only steps that are far apart let it miss the time of the next.
                prop_assert!(late > 1000);
            }
            for one in &held {
                for other in &held {
                    if [one, other].iter().all(|of| keys.signer(&as_ids(of), at(now), TIMES).is_some()) {
                        let sealing = keys.settled(&as_ids(one), at(now), TIMES).unwrap();
                        prop_assert!(other.contains(&sealing.kid) && sealing.retirement.is_none(), "{} at {now}", sealing.kid);
                    }
                }
            }
            for (kid, exp) in &tokens {
                let key = keys.get(kid).unwrap();
                prop_assert!(*exp < now || key.retirement.is_none(), "{kid} at {now}");
            }
        }
    }
}
