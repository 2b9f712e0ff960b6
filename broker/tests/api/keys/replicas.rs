//! Keys of replicas that share a store: what one signs with is good at the others at once.

use agentwrit_testkit::{Broker, Harness, Setup};
use serde_json::json;

use super::{AHEAD, FOLDER, files, follow, kid_of, retire, rotate};

/// A replica, and others that follow the keys only when something makes them. All begin with the same key, in folders of
/// their own.
async fn replicas<const OTHERS: usize>() -> (Harness, [Broker; OTHERS]) {
    let setup = Setup::new(&FOLDER).on_shared_store();
    let keys = |number: usize| setup.folder.path().join(format!("keys-{number}"));
    let replica = |number: usize| {
        let mut replica = setup.replica(&number.to_string());
        replica.set(&[("AA_SIGNING_KEY_PATH", &format!("{}/", keys(number).display()))]);
        replica
    };
    let one = Harness::start(replica(0)).await;
    let first = files(&keys(0)).remove(0);
    let mut others = Vec::new();
    for number in 1..=OTHERS {
        std::fs::create_dir(keys(number)).unwrap();
        std::fs::copy(&first, keys(number).join(first.file_name().unwrap())).unwrap();
        others.push(replica(number).start().await.unwrap());
    }
    (one, others.try_into().ok().unwrap())
}

#[tokio::test]
async fn a_key_that_another_replica_made_is_good_at_once() {
    let (one, [two]) = replicas().await;
    let leaked = one.state.tokens.keys.kid();
    retire(&one, &leaked, r#"{"now":true}"#).await.ok();
    one.forget_admin();
    let (_, token) = one.agent(json!({})).await;
    assert!(
        !two.state.tokens.keys.knows(Some(&kid_of(&token))),
        "it hasn't looked since"
    );
    assert!(two.stands(&token).await);
    assert_eq!(two.get_as(&one.admin().await, "/v1/admin/keys").await.status, 200);
    assert!(
        !two.state.tokens.keys.knows(Some(&leaked)),
        "and what was retired is good no more"
    );
}

#[tokio::test]
async fn a_hop_that_a_newer_key_signed_is_good_at_once() {
    let (ahead, [late, latest]) = replicas().await;
    let first = ahead.state.tokens.keys.kid();
    let (_, root) = ahead.agent(json!({})).await;
    let (target, _) = ahead.agent(json!({})).await;
    rotate(&ahead).await;
    ahead.clock.advance(AHEAD);
    follow(&ahead).await;
    let hop = json!({"delegate_to": target, "scope": ["read:data:x"], "ttl": 60});
    let hop = ahead.call("POST", "/v1/delegate", &root, &hop).await.ok();
    let hop = hop["access_token"].as_str().unwrap();
    assert_ne!(kid_of(hop), first);
    // It knows the new key by now, and has not got it: it signs with the one before.
    let renewed = late.renew(hop).await.ok();
    let renewed = renewed["access_token"].as_str().unwrap();
    assert_eq!(kid_of(renewed), first);
    assert!(latest.stands(renewed).await);
}

#[tokio::test]
async fn a_made_up_key_stays_unknown_however_often_it_is_asked() {
    let (one, [two]) = replicas().await;
    let (_, token) = one.agent(json!({})).await;
    let (_, rest) = token.split_once('.').unwrap();
    // {"alg":"EdDSA","kid":"made-up"}
    let forged = format!("eyJhbGciOiJFZERTQSIsImtpZCI6Im1hZGUtdXAifQ.{rest}");
    for _ in 0..3 {
        assert!(!two.stands(&forged).await);
        assert_eq!(two.renew(&forged).await.status, 401);
    }
}
