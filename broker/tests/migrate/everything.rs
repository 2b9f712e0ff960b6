//! What a store holds, before and after.

use std::path::Path;

use agentwrit_protocol::Ttl;
use agentwrit_protocol::audit::{AuditEvent, ChainWalker};
use agentwrit_protocol::k8s::LivePod;
use agentwrit_store::policy::PolicyKey;
use agentwrit_store::segment::LEAST_BOUND;
use agentwrit_store::testing::suite::Bench;
use agentwrit_store::testing::suite::rows::session;
use agentwrit_store::testing::{HashSigner, surroundings};
use agentwrit_store::{
    AppRecord, Declared, EventFilter, FilterColumn, Installation, KnownPod, LaunchTokenHash, MetaKey, Result,
    Retention, RevocationLevel, Store, Tx,
};
use agentwrit_store_postgres::PostgresStore;
use agentwrit_store_sqlite::SqliteStore;

use super::filled::{ODD, PODS, SIDS, after, fill};
use super::{moved, server};

fn retention() -> Retention {
    Retention {
        max_bytes: LEAST_BOUND,
        ..Retention::default()
    }
}

pub(crate) async fn embedded(folder: &Path) -> Bench {
    let (around, clock, recorder) = surroundings();
    let options = agentwrit_store_sqlite::OpenOptions {
        mark: folder.join("mark"),
        retention: retention(),
        ..agentwrit_store_sqlite::OpenOptions::in_folder(folder)
    };
    let store = Store::new(SqliteStore::open(options, around).await.unwrap());
    Bench { store, clock, recorder }
}

pub(crate) async fn database(folder: &Path, name: &str) -> Bench {
    let (around, clock, recorder) = surroundings();
    let options = agentwrit_store_postgres::OpenOptions {
        settings: server().settings(name),
        mark: folder.join("mark"),
        key_is_new: false,
        max_ttl: Ttl::ZERO,
        retention: retention(),
        installation: Installation::default(),
        declared: Declared::default(),
    };
    let store = Store::new(PostgresStore::open(options, around).await.unwrap());
    Bench { store, clock, recorder }
}

fn shown(found: &[impl std::fmt::Debug]) -> Vec<String> {
    let mut texts: Vec<_> = found.iter().map(|one| format!("{one:?}")).collect();
    texts.sort();
    texts
}

/// What every question to the repositories is answered.
async fn answers(tx: &mut dyn Tx) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for sid in SIDS {
        let session = tx.session(&sid.into()).await?;
        if let Some(session) = &session {
            found.extend(shown(&tx.standing_delegations_of(session).await?));
        }
        found.push(format!("{session:?}"));
        found.push(format!("{:?}", tx.pods_of_token(&sid.into()).await?));
    }
    for uid in PODS.into_iter().chain(["unknown"]).map(Into::into) {
        found.push(format!("{:?} {:?}", uid, tx.pod_standing(&uid).await?));
        found.push(format!("{:?}", tx.pod_is_quarantined(&uid).await?));
        found.push(format!("{:?}", tx.pod_has_tombstone(&uid).await?));
        found.push(format!("{:?}", tx.launches_full_at(&uid).await?));
        found.push(format!("{:?}", tx.last_session_of_pod(&uid).await?));
        found.extend(shown(&tx.standing_delegations_to_pod(&uid).await?));
    }
    for app in tx.apps().await? {
        found.push(format!("{app:?} {}", app.secret_hash.expose()));
    }
    for text in ["one", "two"] {
        found.push(format!("{:?}", tx.launch_token(&LaunchTokenHash::of(text)).await?));
    }
    for key in [
        MetaKey::Epoch,
        MetaKey::MinIat,
        MetaKey::FormerEpochs,
        MetaKey::LongestTtl,
        MetaKey::HighWater,
        MetaKey::LeaseEpoch,
        MetaKey::AuditCheckpoint,
        MetaKey::KeyRotation,
        MetaKey::EpochDue,
    ] {
        found.push(format!("{key:?} {:?}", tx.meta(key).await?));
    }
    found.extend(shown(&tx.known_pods().await?));
    found.extend(shown(&tx.policies().await?));
    found.extend(shown(&tx.denials(0, 100).await?));
    found.extend(shown(&tx.signing_keys().await?));
    found.extend(shown(&tx.status_bits().await?));
    found.extend(shown(&tx.revoked_targets(RevocationLevel::Agent).await?));
    found.extend(shown(&tx.standing_sessions_by_task(&ODD.into()).await?));
    found.push(format!("{:?}", tx.policy_has_tombstone(&"gone".into()).await?));
    found.push(format!("{:?}", tx.is_revoked(RevocationLevel::Agent, ODD).await?));
    found.push(format!("{:?}", tx.count_live_sessions().await?));
    for segment in [tx.oldest_segment().await?, tx.unexported_segment().await?] {
        let mut segment = segment.unwrap();
        // Each kind of store has its own figure.
        assert!(segment.bytes > 0);
        segment.bytes = 0;
        found.push(format!("{segment:?}"));
    }
    Ok(found)
}

/// The whole trail, and a part of it, as it is served.
async fn trail(store: &Store) -> Vec<String> {
    let mut pages = Vec::new();
    for exact in [Vec::new(), vec![(FilterColumn::TaskId, ODD.to_owned())]] {
        let filter = EventFilter {
            exact,
            limit: 100_000,
            ..EventFilter::default()
        };
        let page = store.events(filter).await.unwrap();
        pages.extend([page.total.to_string(), page.events]);
    }
    pages
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let bench = embedded(folder.path()).await;
    fill(&bench).await;
    bench.store.close().await.unwrap();
    let bench = embedded(folder.path()).await;
    let before = bench.store.query(|tx| Box::pin(answers(tx))).await.unwrap();
    let (trail_before, epoch, count) = (
        trail(&bench.store).await,
        bench.store.epoch(),
        bench.store.event_count(),
    );
    let view = shown(&bench.recorder.take_changes());
    assert!(view.len() >= 5, "{view:?}");
    bench.store.close().await.unwrap();
    let mark = std::fs::read_to_string(folder.path().join("mark")).unwrap();

    let name = server().database();
    let report = moved(folder.path(), &server().url("owner", &name));
    assert_eq!((&report["events"], &report["segments"]), (&count.into(), &2.into()));
    for table in &agentwrit_store::content::TABLES {
        assert!(
            report["rows"][table.name].as_u64() > Some(0),
            "nothing of {} was moved",
            table.name
        );
    }

    let bench = database(folder.path(), &name).await;
    assert_eq!(bench.store.failure(), None);
    assert_eq!(shown(&bench.recorder.take_changes()), view);
    let after_it = bench.store.query(|tx| Box::pin(answers(tx))).await.unwrap();
    assert_eq!(after_it.len(), before.len());
    for (now, then) in after_it.iter().zip(&before) {
        assert_eq!(now, then);
    }
    assert!(trail(&bench.store).await == trail_before, "byte for byte");
    assert_eq!((bench.store.epoch(), bench.store.event_count()), (epoch, count));
    goes_on(&bench).await;
    bench.store.close().await.unwrap();
    assert_ne!(std::fs::read_to_string(folder.path().join("mark")).unwrap(), mark);
}

/// What comes after follows what was there: numbers, cursors, status indexes, the chain.
async fn goes_on(bench: &Bench) {
    let known: Vec<_> = bench.store.query(|tx| tx.denials(0, 100)).await.unwrap();
    let added = bench.commit(|tx| {
        Box::pin(async move {
            let mut fresh = session("00001000000000080000000000000000", "00001000000000080000000000000001");
            tx.insert_session(&mut fresh).await?;
            let mut held = Vec::new();
            for sid in SIDS {
                held.push(tx.session(&sid.into()).await?.unwrap().status);
            }
            assert!(fresh.status.is_some() && !held.contains(&fresh.status));
            let pod = tx.known_pods().await?.remove(0);
            tx.know_pod(&KnownPod {
                pod: LivePod {
                    uid: "new".into(),
                    ..pod.clone()
                },
                node: "node-2".to_owned(),
                service_account: "orders".to_owned(),
                policy: ODD.to_owned(),
                orch_id: "orders".into(),
            })
            .await?;
            tx.count_supersession(&pod.uid, after(0).start()).await?;
            tx.add_denial(&agentwrit_store::policy::NewDenial {
                pod,
                policy: "p".to_owned(),
                error_kind: "k",
                message: "m".to_owned(),
            })
            .await?;
            let app = AppRecord {
                app_id: "app-new".to_owned(),
                name: "new".to_owned(),
                client_id: "new".to_owned(),
                ..tx.apps().await?.remove(0)
            };
            assert!(tx.insert_app(&app).await?);
            let key = agentwrit_store::SigningKey::published("d", "x", after(9), after(9));
            assert!(tx.insert_signing_key(&key).await?);
            tx.remove_policy(&PolicyKey::app("shop", "shop")).await?;
            // A nonce that was burned stays so.
            assert!(!tx.consume_nonce("nonce", after(30).start()).await?);
            tx.audit(agentwrit_store::EventDraft::success(
                agentwrit_protocol::audit::EventType::AdminAuth,
                "goes on",
            ));
            Ok(())
        })
    });
    added.await.unwrap();
    let found = bench.store.query(|tx| tx.denials(0, 100)).await.unwrap();
    assert_eq!(found.last().unwrap().cursor, known.last().unwrap().cursor + 1);
    let apps = bench.store.query(|tx| tx.apps()).await.unwrap();
    assert_eq!(
        apps.first().unwrap().app_id,
        "app-new",
        "the last one that was registered"
    );
    let pages = trail(&bench.store).await;
    let events: Vec<AuditEvent> = serde_json::from_str(&pages[1]).unwrap();
    let mut walker = ChainWalker::from_checkpoint();
    for event in &events {
        walker.feed(event, &HashSigner("test")).unwrap();
    }
    assert_eq!(events.last().unwrap().detail, "goes on");
    // Whole segments go, also the one that the trail began with here.
    let dropped = bench.commit(|tx| {
        Box::pin(async move {
            let oldest = tx.oldest_segment().await?.unwrap();
            tx.drop_segment(&oldest).await?;
            Ok(oldest.last)
        })
    });
    let last = dropped.await.unwrap();
    let pages = trail(&bench.store).await;
    assert!(pages[1].starts_with(&format!("[{{\"id\":\"{}\"", AuditEvent::id_for(last + 1))));
}
