//! What a tenant's objects and pods may still write when only what takes authority away is written.

use agentwrit_protocol::k8s::{AppSpec, LivePod, PolicyState, PutPolicy, WriteOrder};
use agentwrit_protocol::{ErrorCode, UnixMillis};
use agentwrit_store::policy::{Policy, PolicyKey};
use agentwrit_store::{Command, KnownPod, Result, Tx};
use async_trait::async_trait;

use super::error::{K8sError, WriteRefusal};
use super::pods::EndPod;
use super::policy::input::Write;
use super::policy::write::{ApplyPolicies, RemovePolicy, current_epoch};
use crate::broker::AppState;
use crate::http::error::ApiError;
use crate::service::actor::Actor;
use crate::testing::{broker, set_free};

const PLENTY: u64 = 1 << 40;

fn controller() -> Actor {
    Actor {
        subject: "controller".into(),
        source: "192.0.2.1".into(),
    }
}

fn order(sequence: i64) -> WriteOrder {
    WriteOrder {
        lease_epoch: 1,
        sequence,
    }
}

fn app(name: &str, sequence: i64, state: PolicyState, scopes: &[&str]) -> Write {
    let put = PutPolicy {
        uid: format!("uid-{name}").into(),
        generation: sequence,
        order: order(sequence),
        state,
        reason: None,
        spec: AppSpec {
            scopes: scopes.iter().map(ToString::to_string).collect(),
            max_agent_ttl_seconds: 300,
            audiences: Vec::new(),
            delegation_namespaces: Vec::new(),
            client: None,
        },
    };
    Write::app(PolicyKey::app("shop", name), put).unwrap()
}

/// Which of the writes were taken; those that were not had no room.
async fn taken(broker: &AppState, writes: Vec<Write>) -> Vec<bool> {
    let writes = writes.into_iter().map(Ok).collect();
    let apply = ApplyPolicies {
        writes,
        actor: controller(),
        ceilings: std::sync::Arc::default(),
    };
    let answers = broker.store.commit(apply).await.unwrap();
    let taken = answers.into_iter().map(|answer| {
        assert!(matches!(answer, Ok(_) | Err(WriteRefusal::NoRoom)), "{answer:?}");
        answer.is_ok()
    });
    taken.collect()
}

/// What the store holds: policies, the highest lease epoch, and whether this pod and this policy have tombstones.
struct Held(&'static str);

#[async_trait]
impl Command for Held {
    type Outcome = (Vec<Policy>, i64, bool, bool);

    async fn run(self, tx: &mut dyn Tx) -> Result<Self::Outcome> {
        let policies = tx.policies().await?;
        let epoch = current_epoch(tx).await?;
        let pod = tx.pod_has_tombstone(&self.0.into()).await?;
        Ok((policies, epoch, pod, tx.policy_has_tombstone(&self.0.into()).await?))
    }
}

/// A pod as its first launch leaves it.
struct Know(LivePod);
#[async_trait]
impl Command for Know {
    type Outcome = ();
    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        tx.know_pod(&KnownPod {
            pod: self.0,
            node: "n".to_owned(),
            service_account: "s".to_owned(),
            policy: "p".to_owned(),
            orch_id: "k8s.shop.a".into(),
        })
        .await
    }
}

/// A quarantine by a person, of a pod that never launched.
struct Quarantine(&'static str);

#[async_trait]
impl Command for Quarantine {
    type Outcome = bool;
    async fn run(self, tx: &mut dyn Tx) -> Result<bool> {
        tx.quarantine_pod(&self.0.into(), "admin", UnixMillis::MAX).await
    }
}

async fn held(broker: &AppState, uid: &'static str) -> (Vec<Policy>, i64, bool, bool) {
    broker.store.read(Held(uid)).await.unwrap()
}

fn set_full(broker: &AppState, by_disk: bool, full: bool) {
    if by_disk {
        set_free(broker, if full { 0 } else { PLENTY });
    } else {
        broker.store.refuse(full);
    }
}

#[tokio::test]
async fn without_room_only_policies_that_take_away_are_written() {
    use PolicyState::{NotReady, Ready, Suspended};
    for by_disk in [true, false] {
        let broker = broker().await;
        let (one, two) = (&["read:a:*"][..], &["read:a:*", "read:b:*"][..]);
        assert_eq!(taken(&broker, vec![app("held", 1, Ready, one)]).await, [true]);
        set_full(&broker, by_disk, true);
        let events = broker.store.event_count();
        let refused = vec![
            app("new", 2, Ready, one),
            app("suspended", 2, Suspended, one),
            app("held", 2, Ready, two),
        ];
        assert_eq!(taken(&broker, refused).await, [false; 3], "{by_disk}");
        assert_eq!(broker.store.event_count(), events, "nothing was written");
        // One that is refused spoils no other, and the order of what was refused is not used up.
        let writes = vec![
            app("new", 3, Ready, one),
            app("held", 2, Ready, &["read:a:1"]),
            app("held", 3, NotReady, one),
            app("held", 4, NotReady, two),
            app("held", 5, Suspended, &["read:a:1"]),
            app("held", 6, Suspended, two),
            app("held", 7, Ready, two),
        ];
        let expected = [false, true, true, false, true, false, false];
        assert_eq!(taken(&broker, writes).await, expected, "{by_disk}");
        set_full(&broker, by_disk, false);
        let (policies, ..) = held(&broker, "").await;
        let names: Vec<_> = policies
            .iter()
            .map(|held| (held.key.name.as_str(), held.order.sequence))
            .collect();
        assert_eq!(names, [("held", 5)]);
        assert_eq!(
            taken(&broker, vec![app("new", 2, Ready, one), app("held", 7, Ready, two)]).await,
            [true, true],
            "the same writes, once there is room"
        );
    }
}

#[test]
fn a_policy_without_room_is_for_another_try() {
    let error = ApiError::from(K8sError::from(WriteRefusal::NoRoom));
    assert_eq!(error.code(), Some(ErrorCode::Unavailable));
    assert_eq!(error.problem().status, 503);
}

#[tokio::test]
async fn on_a_full_disk_unknown_ends_are_not_recorded() {
    let broker = broker().await;
    let end = |uid: &str| EndPod {
        pod: LivePod {
            uid: uid.into(),
            namespace: "shop".into(),
            name: uid.to_owned(),
        },
        reason: "deleted".into(),
        actor: controller(),
    };
    let remove = |uid: &str, sequence| RemovePolicy {
        key: PolicyKey::app("shop", uid.trim_start_matches("uid-")),
        uid: uid.into(),
        order: order(sequence),
        revoke: true,
        actor: controller(),
    };
    broker.store.commit(Know(end("known").pod)).await.unwrap();
    assert!(broker.store.commit(Quarantine("quarantined")).await.unwrap());
    assert_eq!(
        taken(&broker, vec![app("a", 1, PolicyState::Ready, &["read:a:*"])]).await,
        [true]
    );
    set_full(&broker, true, true);
    let events = broker.store.event_count();
    for uid in ["pod-1", "pod-2"] {
        assert_eq!(broker.store.commit(end(uid)).await.unwrap().revoked, 0);
        assert_eq!(broker.store.commit(remove(uid, 9)).await.unwrap().unwrap().revoked, 0);
    }
    assert_eq!(broker.store.event_count(), events);
    broker.store.commit(end("known")).await.unwrap();
    broker.store.commit(end("quarantined")).await.unwrap();
    broker.store.commit(remove("uid-a", 2)).await.unwrap().unwrap();
    assert_eq!(broker.store.event_count(), events + 3, "what is held ends");
    set_full(&broker, true, false);
    let (_, epoch, pod, policy) = held(&broker, "pod-1").await;
    assert_eq!((epoch, pod, policy), (1, false, false));
    assert!(held(&broker, "known").await.2 && held(&broker, "quarantined").await.2 && held(&broker, "uid-a").await.3);
    broker.store.commit(end("pod-1")).await.unwrap();
    assert_eq!(broker.store.event_count(), events + 4);
}
