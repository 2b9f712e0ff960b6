//! The repositories.

use agentwrit_protocol::k8s::{AppSpec, LivePod, PolicyKind, PolicyState, WriteOrder};
use agentwrit_protocol::{ScopeSet, Sensitive, Ttl, UnixSeconds, lower_hex};
use sha2::{Digest, Sha256};

use super::{Bench, Opener};
use crate::policy::{Accepted, Policy, PolicyKey, PolicySpec};
use crate::testing::START;
use crate::{
    AppRecord, EndReason, KnownPod, LaunchToken, LaunchTokenHash, PodStanding, Renewal, Revocation, RevocationLevel,
    Session, ViewChange,
};

/// So many seconds after the start.
pub(super) fn after(seconds: i64) -> UnixSeconds {
    UnixSeconds::new(START + seconds)
}

fn scopes() -> ScopeSet {
    ScopeSet::parse(["read:data:*"]).unwrap()
}

/// A launch token of this text, for one registration in the first minute of the clock.
pub fn launch_token(text: &str) -> LaunchToken {
    LaunchToken {
        hash: LaunchTokenHash::of(text),
        agent_name: "agent".to_owned(),
        allowed_scope: scopes(),
        max_ttl: Ttl::seconds(300),
        single_use: true,
        expires_at: after(60).start(),
        consumed_at: None,
        created_by: "admin".to_owned(),
        correlation_id: String::new(),
        attested: None,
    }
}

/// A session with these ids, with 300 s to live from the start of the clock.
pub fn session(sid: &str, jti: &str) -> Session {
    Session {
        sid: sid.into(),
        agent_id: format!(
            "spiffe://agentwrit.local/agent/orch/task/{}",
            crate::session::id_prefix(sid)
        ),
        orch_id: "orch".into(),
        task_id: "task".into(),
        scope: vec!["read:data:*".to_owned()],
        jti: jti.into(),
        iat: after(0),
        exp: after(300),
        last_exp: after(300),
        previous: None,
        created_at: after(0).start(),
        ended_at: None,
        end_reason: None,
        correlation_id: String::new(),
        attested: None,
        delegated: None,
        barred: false,
        status: None,
    }
}

const SID: &str = "000010000000000100000000000000aa";
const JTI: &str = "000010000000000100000000000000bb";
const NEXT: &str = "000010000000000100000000000000cc";

async fn registered(bench: &Bench) {
    bench
        .commit(|tx| Box::pin(async move { tx.insert_session(&mut session(SID, JTI)).await }))
        .await
        .unwrap();
}

/// Of two renewals of one token the second finds it replaced; a session that has ended doesn't end again.
pub async fn a_session_is_renewed_once_and_ends_once(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    registered(&bench).await;
    let renew = || {
        bench.commit(|tx| {
            Box::pin(async move {
                let previous = Renewal {
                    jti: JTI.into(),
                    until: after(0).start(),
                    exp: after(300),
                    key: Some("key".to_owned()),
                };
                let session = session(SID, JTI);
                tx.renew_session(&session, &NEXT.into(), after(1), after(600), &previous)
                    .await
            })
        })
    };
    let (a, b) = tokio::join!(renew(), renew());
    assert!(a.unwrap() != b.unwrap(), "exactly one");
    let find = || {
        bench
            .store
            .query(|tx| Box::pin(async move { tx.session(&SID.into()).await }))
    };
    let found = find().await.unwrap().unwrap();
    assert_eq!(
        (found.jti.as_str(), found.exp, found.last_exp),
        (NEXT, after(600), after(600))
    );
    assert_eq!(found.previous.unwrap().key.as_deref(), Some("key"));
    let renewed = bench.recorder.take_changes();
    assert!(
        matches!(renewed.as_slice(), [ViewChange::Renewed { .. }]),
        "{renewed:?}"
    );
    let end = || {
        bench.commit(|tx| {
            Box::pin(async move {
                let session = tx.session(&SID.into()).await?.unwrap();
                tx.end_session(&session, EndReason::Released, tx.now_millis()).await
            })
        })
    };
    assert!(end().await.unwrap() && !end().await.unwrap());
    let found = find().await.unwrap().unwrap();
    assert_eq!(found.ended(after(0).start()), Some(EndReason::Released));
    let ended = bench.recorder.take_changes();
    assert!(
        matches!(ended.as_slice(), [ViewChange::SessionEnded { .. }]),
        "{ended:?}"
    );
}

/// While its tokens stand.
pub async fn a_session_is_found_by_each_of_its_ids(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    registered(&bench).await;
    let found = || {
        bench.store.query(|tx| {
            Box::pin(async move {
                let agent = session(SID, JTI).agent_id;
                Ok([
                    tx.standing_session_by_jti(&JTI.into()).await?.is_some(),
                    tx.session_of_agent(&agent).await?.is_some(),
                    !tx.standing_sessions_by_agent(&agent).await?.is_empty(),
                    !tx.standing_sessions_by_task(&"task".into()).await?.is_empty(),
                    tx.count_live_sessions().await? == 1,
                ])
            })
        })
    };
    assert_eq!(found().await.unwrap(), [true; 5]);
    bench.clock.advance(301);
    assert_eq!(
        found().await.unwrap(),
        [false, true, false, false, false],
        "expired; what was registered stays known"
    );
}

/// And free again once it is deregistered.
pub async fn the_name_of_an_active_app_is_taken(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let app = AppRecord {
        app_id: "app-shop-00000a".to_owned(),
        name: "shop".to_owned(),
        client_id: "client".to_owned(),
        secret_hash: Sensitive::from("hash".to_owned()),
        scopes: scopes(),
        token_ttl: Ttl::seconds(300),
        created_at: after(0),
        updated_at: after(0),
        deregistered_at: None,
    };
    let inserted = || {
        let app = app.clone();
        bench.commit(move |tx| Box::pin(async move { tx.insert_app(&app).await }))
    };
    assert!(inserted().await.unwrap() && !inserted().await.unwrap());
    let taken = || {
        bench
            .store
            .query(|tx| Box::pin(async move { tx.app_name_is_taken("shop").await }))
    };
    assert!(taken().await.unwrap());
    let gone = AppRecord {
        deregistered_at: Some(after(1)),
        ..app.clone()
    };
    bench
        .commit(move |tx| Box::pin(async move { tx.update_app(&gone).await }))
        .await
        .unwrap();
    assert!(!taken().await.unwrap());
    let found = bench
        .store
        .query(|tx| Box::pin(async move { tx.app_by_client_id("client").await }));
    assert!(!found.await.unwrap().unwrap().is_active());
}

/// Until it expires.
pub async fn a_nonce_is_burned_once(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let burn = || bench.commit(|tx| Box::pin(async move { tx.consume_nonce("n", after(30).start()).await }));
    assert!(burn().await.unwrap() && !burn().await.unwrap());
}

/// An AgentApp as it is written.
pub(super) fn app_policy() -> Policy {
    Policy {
        key: PolicyKey::app("shop", "shop"),
        uid: "uid".into(),
        generation: 1,
        order: WriteOrder {
            lease_epoch: 1,
            sequence: 1,
        },
        state: PolicyState::Ready,
        reason: None,
        digest: "d1".to_owned(),
        accepted: Some(Accepted {
            spec: PolicySpec::App(AppSpec {
                scopes: scopes().to_strings(),
                max_agent_ttl_seconds: 300,
                audiences: Vec::new(),
                delegation_namespaces: Vec::new(),
                client: None,
            }),
            generation: 1,
            unchanged_since: 1,
            client_instance: None,
        }),
        app_id: Some("app".to_owned()),
        issued: 0,
        room_until: 0,
    }
}

/// With all that was sent.
pub async fn a_policy_replaces_the_one_of_its_name(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let first = app_policy();
    let second = Policy {
        generation: 2,
        digest: "d2".to_owned(),
        ..first.clone()
    };
    for policy in [first, second] {
        let put = policy.clone();
        bench
            .commit(move |tx| Box::pin(async move { tx.put_policy(&put).await }))
            .await
            .unwrap();
        let found = bench.store.query(|tx| Box::pin(async move { tx.policies().await }));
        assert_eq!(found.await.unwrap(), [policy]);
    }
    let key = PolicyKey::new(PolicyKind::App, "shop", "shop");
    bench
        .commit(move |tx| Box::pin(async move { tx.remove_policy(&key).await }))
        .await
        .unwrap();
    let found = bench.store.query(|tx| Box::pin(async move { tx.policies().await }));
    assert_eq!(found.await.unwrap(), []);
}

/// And is known no more.
pub async fn a_tombstone_of_a_pod_stays(opener: &dyn Opener) {
    const UID: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
    let bench = Bench::open(opener).await;
    let pod = KnownPod {
        pod: LivePod {
            uid: UID.into(),
            namespace: "shop".to_owned(),
            name: "pod".to_owned(),
        },
        node: "node".to_owned(),
        service_account: "account".to_owned(),
        policy: "policy".to_owned(),
        orch_id: "k8s.shop.app".into(),
    };
    bench
        .commit(move |tx| Box::pin(async move { tx.know_pod(&pod).await }))
        .await
        .unwrap();
    let state = || {
        bench.store.query(|tx| {
            Box::pin(async move { Ok((tx.pod_is_known(&UID.into()).await?, tx.pod_standing(&UID.into()).await?)) })
        })
    };
    assert_eq!(state().await.unwrap(), (true, PodStanding::Stands));
    let quarantine = || {
        bench.commit(|tx| Box::pin(async move { tx.quarantine_pod(&UID.into(), "admin", after(3600).start()).await }))
    };
    assert!(quarantine().await.unwrap() && !quarantine().await.unwrap());
    assert_eq!(state().await.unwrap(), (true, PodStanding::Quarantined));
    let end = || bench.commit(|tx| Box::pin(async move { tx.tombstone_pod(&UID.into(), after(3600).start()).await }));
    let (first, again) = (end().await.unwrap(), end().await.unwrap());
    assert_ne!(first, again, "only one of them left the tombstone");
    assert_eq!(
        state().await.unwrap(),
        (false, PodStanding::Ended),
        "also when it was quarantined"
    );
}

/// As long as the revocation holds.
pub async fn a_pod_whose_task_is_revoked_is_quarantined(opener: &dyn Opener) {
    const UID: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
    let bench = Bench::open(opener).await;
    let revocation = Revocation {
        level: RevocationLevel::Task,
        target: UID.to_owned(),
        until: Some(after(60).start()),
    };
    let revoked = bench.commit(move |tx| Box::pin(async move { tx.add_revocation(&revocation).await }));
    revoked.await.unwrap();
    let standing = || {
        bench
            .store
            .query(|tx| Box::pin(async move { tx.pod_standing(&UID.into()).await }))
    };
    assert_eq!(standing().await.unwrap(), PodStanding::Quarantined);
    bench.clock.advance(61);
    assert_eq!(standing().await.unwrap(), PodStanding::Stands);
}

/// And the listener hears of both.
pub async fn a_revocation_extends_and_can_be_lifted(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    for until in [Some(after(1).start()), None, Some(after(2).start())] {
        let revocation = Revocation {
            level: RevocationLevel::Agent,
            target: "a".to_owned(),
            until,
        };
        bench
            .commit(move |tx| Box::pin(async move { tx.add_revocation(&revocation).await }))
            .await
            .unwrap();
    }
    let revoked = || {
        bench
            .store
            .query(|tx| Box::pin(async move { tx.is_revoked(RevocationLevel::Agent, "a").await }))
    };
    bench.clock.advance(3600);
    assert!(revoked().await.unwrap(), "for ever wins over any moment");
    bench.recorder.take_changes();
    let lift = || bench.commit(|tx| Box::pin(async move { tx.lift_revocation(RevocationLevel::Agent, "a").await }));
    assert!(lift().await.unwrap() && !lift().await.unwrap());
    assert!(!revoked().await.unwrap());
    let lifted = bench.recorder.take_changes();
    assert!(matches!(lifted.as_slice(), [ViewChange::Lifted { .. }]), "{lifted:?}");
}

/// As long as a service lets one be, and as hard to compress as text is.
pub async fn a_revocation_of_a_long_target_is_found(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let long = |last: char| {
        let hashes = (0..256).map(|number: u32| lower_hex(Sha256::digest(number.to_be_bytes())));
        let mut text: String = hashes.collect();
        text.pop();
        text.push(last);
        assert_eq!(text.len(), 16 * 1024);
        text
    };
    let revocation = Revocation {
        level: RevocationLevel::Agent,
        target: long('a'),
        until: None,
    };
    bench
        .commit(move |tx| Box::pin(async move { tx.add_revocation(&revocation).await }))
        .await
        .unwrap();
    for (target, wanted) in [(long('a'), true), (long('b'), false)] {
        let found = bench
            .store
            .query(move |tx| Box::pin(async move { tx.is_revoked(RevocationLevel::Agent, &target).await }));
        assert_eq!(found.await.unwrap(), wanted);
    }
    let target = long('a');
    let lifted =
        bench.commit(move |tx| Box::pin(async move { tx.lift_revocation(RevocationLevel::Agent, &target).await }));
    assert!(lifted.await.unwrap());
}
