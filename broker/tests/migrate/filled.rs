//! A store with something in every table.

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::k8s::{AppClient, AppSpec, ClientSecret, LivePod, PolicyState, WriteOrder};
use agentwrit_protocol::signing_keys::{Retirement, SigningKey};
use agentwrit_protocol::{ScopeSet, Sensitive, Ttl, UnixSeconds};
use agentwrit_store::policy::{Accepted, NewDenial, Policy, PolicyKey, PolicySpec};
use agentwrit_store::testing::START;
use agentwrit_store::testing::suite::Bench;
use agentwrit_store::testing::suite::rows::session;
use agentwrit_store::{
    AppRecord, Attested, Delegated, EndReason, EventDraft, KnownPod, LaunchToken, LaunchTokenHash, MetaKey, Renewal,
    Result, Revocation, RevocationLevel, Session, Tx,
};

pub(crate) const SIDS: [&str; 7] = [
    "000010000000000100000000000000aa",
    "000010000000000200000000000000aa",
    "000010000000000300000000000000aa",
    "000010000000000400000000000000aa",
    "000016f9619ff00500000000000000aa",
    "0000100000000006000000000000000000000000000000aa",
    "0000100000000007000000000000000000000000000000aa",
];
pub(crate) const PODS: [&str; 3] = [
    "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
    "6f9619ff-8b86-4d01-b42d-00cf4fc964fe",
    "6f9619ff-8b86-4d01-b42d-00cf4fc964fd",
];
/// What PostgreSQL has no place for, and what stands for it.
pub(crate) const ODD: &str = "nul \0 and \u{10ffff}0 and \u{1f980}";
/// About one segment of 1 MiB.
pub(crate) const EVENTS: usize = 2_500;

pub(crate) fn after(seconds: i64) -> UnixSeconds {
    UnixSeconds::new(START + seconds)
}

fn scopes() -> ScopeSet {
    ScopeSet::parse(["read:data:*"]).unwrap()
}

fn attested() -> Attested {
    Attested {
        policy_uid: "policy".into(),
        app_uid: "app".into(),
        namespace: "shop".to_owned(),
        policy_name: "orders".to_owned(),
        pod_uid: PODS[0].into(),
        pod_name: "orders-1".to_owned(),
        node: "node".to_owned(),
        service_account: "default".to_owned(),
        public_key: "key".to_owned(),
        orch_id: "k8s.shop.orders".into(),
        task_id: PODS[0].into(),
        policy_generation: 1,
        app_generation: 1,
        renewal_proof: true,
    }
}

/// Sessions: one that stands, with two delegations; one renewed, one released, one superseded with an overlap, one of a pod.
async fn sessions(tx: &mut dyn Tx) -> Result<()> {
    let new = |number: usize| session(SIDS[number], &format!("{}bb", &SIDS[number][..30]));
    let mut all = [new(0), new(1), new(2), new(3), new(4)];
    all[0].task_id = ODD.into();
    all[4].attested = Some(attested());
    all[4].orch_id = "k8s.shop.orders".into();
    for session in &mut all {
        tx.insert_session(session).await?;
    }
    for (number, nodes) in [(5, vec![SIDS[5]]), (6, vec![SIDS[5], SIDS[6]])] {
        let mut delegation = Session {
            delegated: Some(Delegated {
                root: SIDS[0].into(),
                nodes: nodes.into_iter().map(Into::into).collect(),
                ceiling: after(300),
                holder_pod: Some(PODS[0].into()),
            }),
            scope: Vec::new(),
            // As every delegation, that of its root.
            task_id: ODD.into(),
            ..new(number)
        };
        tx.insert_session(&mut delegation).await?;
    }
    tx.bar_agent(&all[0].agent_id).await?;
    let previous = Renewal {
        jti: all[1].jti.clone(),
        until: after(10).start(),
        exp: after(300),
        key: Some(ODD.to_owned()),
    };
    let next = format!("{}cc", &SIDS[1][..30]);
    tx.renew_session(&all[1], &next.into(), after(0), after(600), &previous)
        .await?;
    tx.end_session(&all[2], EndReason::Released, after(0).start()).await?;
    tx.end_session(&all[3], EndReason::Superseded, after(10).start())
        .await?;
    let below = tx.session(&SIDS[6].into()).await?.unwrap();
    tx.end_session(&below, EndReason::Revoked, after(0).start()).await?;
    tx.know_session_of_pod(&PODS[1].into(), &SIDS[0].into()).await
}

async fn kubernetes(tx: &mut dyn Tx) -> Result<()> {
    for (uid, name) in PODS.iter().zip(["orders-1", "orders-2", "orders-3"]) {
        let pod = LivePod {
            uid: (*uid).into(),
            namespace: "shop".to_owned(),
            name: name.to_owned(),
        };
        let known = KnownPod {
            pod: pod.clone(),
            node: "node-1".to_owned(),
            service_account: "orders".to_owned(),
            policy: ODD.to_owned(),
            orch_id: "orders".into(),
        };
        tx.know_pod(&known).await?;
        tx.add_denial(&NewDenial {
            pod,
            policy: ODD.to_owned(),
            error_kind: "quarantined",
            message: "refused".to_owned(),
        })
        .await?;
    }
    tx.quarantine_pod(&PODS[1].into(), "admin", after(60).start()).await?;
    tx.quarantine_pod(&"unknown".into(), "admin", after(60).start()).await?;
    tx.tombstone_pod(&PODS[2].into(), after(3600).start()).await?;
    tx.tombstone_policy(&"gone".into(), after(3600).start()).await?;
    tx.set_launches_full_at(&PODS[0].into(), after(30).start()).await?;
    tx.count_supersession(&PODS[0].into(), after(0).start()).await?;
    let spec = AppSpec {
        scopes: scopes().to_strings(),
        max_agent_ttl_seconds: 300,
        audiences: Vec::new(),
        delegation_namespaces: Vec::new(),
        client: Some(AppClient {
            token_ttl_seconds: 600,
            secrets: vec![ClientSecret {
                sha256: "5e".repeat(32),
                until: None,
            }],
        }),
    };
    tx.put_policy(&Policy {
        key: PolicyKey::app("shop", "shop"),
        uid: "app".into(),
        generation: 1,
        order: WriteOrder {
            lease_epoch: 1,
            sequence: 1,
        },
        state: PolicyState::Suspended,
        reason: Some("Reason".to_owned()),
        digest: "d1".to_owned(),
        accepted: Some(Accepted {
            spec: PolicySpec::App(spec),
            generation: 1,
            unchanged_since: 1,
            client_instance: Some("0a1b2c".to_owned()),
        }),
        app_id: Some("app-shop-00000a".to_owned()),
        issued: 7,
        room_until: 0,
    })
    .await
}

async fn others(tx: &mut dyn Tx) -> Result<()> {
    for (number, deregistered_at) in [(1, Some(after(1))), (2, None)] {
        let app = AppRecord {
            app_id: format!("app-shop-00000{number}"),
            name: "shop".to_owned(),
            client_id: format!("client{number}"),
            secret_hash: Sensitive::from("hash".to_owned()),
            scopes: scopes(),
            token_ttl: Ttl::seconds(300),
            created_at: after(0),
            updated_at: after(1),
            deregistered_at,
        };
        tx.insert_app(&app).await?;
    }
    for (text, attested) in [("one", None), ("two", Some(attested()))] {
        let token = LaunchToken {
            hash: LaunchTokenHash::of(text),
            agent_name: ODD.to_owned(),
            allowed_scope: scopes(),
            max_ttl: Ttl::seconds(300),
            single_use: attested.is_some(),
            expires_at: after(60).start(),
            consumed_at: None,
            created_by: "admin".to_owned(),
            correlation_id: "c".to_owned(),
            attested,
        };
        tx.insert_launch_token(&token).await?;
    }
    tx.consume_launch_token(&LaunchTokenHash::of("one")).await?;
    tx.consume_nonce("nonce", after(30).start()).await?;
    for (target, until) in [("for ever", None), (ODD, Some(after(900).start()))] {
        let revocation = Revocation {
            level: RevocationLevel::Agent,
            target: target.to_owned(),
            until,
        };
        tx.add_revocation(&revocation).await?;
    }
    for (key, retirement) in [
        (
            "a",
            Some(Retirement {
                at: after(2),
                leaked: true,
            }),
        ),
        (
            "b",
            Some(Retirement {
                at: after(3),
                leaked: false,
            }),
        ),
        ("c", None),
    ] {
        tx.insert_signing_key(&SigningKey {
            retires_at: retirement.map(|_| after(2)),
            retirement,
            ..SigningKey::published(key, "x", after(0), after(1))
        })
        .await?;
    }
    for (key, value) in [
        (MetaKey::LeaseEpoch, "7"),
        (MetaKey::KeyRotation, "3 1800000000"),
        (MetaKey::LongestTtl, "86400"),
        (MetaKey::FormerEpochs, "before"),
    ] {
        tx.set_meta(key, value).await?;
    }
    Ok(())
}

fn told(tx: &mut dyn Tx, events: usize) {
    for number in 0..events {
        let task = if number == 0 { ODD } else { "task" };
        let draft = EventDraft::success(EventType::AdminAuth, number.to_string());
        tx.audit(draft.task(&task.into()));
    }
}

/// Writes so many events.
pub(crate) async fn tell(bench: &Bench, events: usize) {
    let more = bench.commit(move |tx| {
        Box::pin(async move {
            told(tx, events);
            Ok(())
        })
    });
    more.await.unwrap();
}

/// Fills it: three segments are sealed, of which the first is dropped and the second exported; most events are short.
pub(crate) async fn fill(bench: &Bench) {
    let filled = bench.commit(|tx| {
        Box::pin(async move {
            kubernetes(tx).await?;
            others(tx).await?;
            sessions(tx).await
        })
    });
    filled.await.unwrap();
    while bench
        .store
        .query(|tx| tx.segments_before(after(1).start().start()))
        .await
        .unwrap()
        < 3
    {
        tell(bench, EVENTS).await;
    }
    let shorten = || bench.commit(|tx| tx.shorten_trail(100));
    while shorten().await.unwrap() > 0 {}
    let dropped = bench.commit(|tx| {
        Box::pin(async move {
            let oldest = tx.oldest_segment().await?.unwrap();
            tx.drop_segment(&oldest).await?;
            // Some of its rows are left.
            tx.sweep_dropped().await?;
            let next = tx.oldest_segment().await?.unwrap();
            let file = agentwrit_protocol::audit::ExportedFile {
                name: "events.jsonl".to_owned(),
                sha256: "00".to_owned(),
            };
            tx.note_export(next.first, &file).await
        })
    });
    dropped.await.unwrap();
}
