//! Pods by what people know of them, and what they hold.

use agentwrit_protocol::PodUid;
use agentwrit_protocol::k8s::{PolicyState, WriteOrder, orch_id};

use super::rows::{after, app_policy, session};
use super::{Bench, Opener};
use crate::policy::{Policy, PolicyKey};
use crate::{Attested, Delegated, EndReason, HeldByPod, Holdings, KnownPod, PodSelector, PodStanding, Session, Tx};

/// What binds a session to a pod: of this namespace, app, policy and node, with its own name as its ServiceAccount's.
fn bound(pod: &str, [namespace, app, policy, node]: [&str; 4]) -> Attested {
    Attested {
        policy_uid: format!("uid-of-{policy}").as_str().into(),
        app_uid: "app".into(),
        namespace: namespace.to_owned(),
        policy_name: policy.to_owned(),
        pod_uid: pod.into(),
        pod_name: pod.to_owned(),
        node: node.to_owned(),
        service_account: format!("{pod}-account"),
        public_key: String::new(),
        orch_id: orch_id(namespace, app),
        task_id: pod.into(),
        policy_generation: 1,
        app_generation: 1,
        renewal_proof: false,
    }
}

/// The session of a launch; its id begins with this digit.
fn opened(digit: char, bound: Attested) -> Session {
    let sid = format!("{digit}123456789abcdef0123456789abcdef");
    Session {
        orch_id: bound.orch_id.clone(),
        task_id: bound.task_id.clone(),
        attested: Some(bound),
        ..session(&sid, &format!("{digit}123456789abcdefj1"))
    }
}

/// A delegation under a session.
fn delegated(digit: char, root: &Session, holder_pod: Option<&str>) -> Session {
    let sid = format!("{digit}123456789abcdef0123456789abcdef0123456789abcdef");
    Session {
        delegated: Some(Delegated {
            root: root.sid.clone(),
            nodes: vec![sid.as_str().into()],
            ceiling: root.exp,
            holder_pod: holder_pod.map(PodUid::from),
        }),
        ..session(&sid, &format!("{digit}123456789abcdefd1"))
    }
}

/// Writes a pod with a session.
async fn launch(tx: &mut dyn Tx, digit: char, bound: Attested) -> crate::Result<Session> {
    tx.know_pod(&KnownPod::of(&bound)).await?;
    let mut session = opened(digit, bound);
    tx.insert_session(&mut session).await?;
    Ok(session)
}

async fn matching(bench: &Bench, selector: PodSelector) -> Vec<String> {
    let found = bench
        .store
        .query(move |tx| Box::pin(async move { tx.pods_matching(&selector).await }));
    found.await.unwrap().into_iter().map(|uid| uid.to_string()).collect()
}

fn named(namespace: &str, name: &str) -> (String, String) {
    (namespace.to_owned(), name.to_owned())
}

fn app(namespace: &str, name: &str) -> PodSelector {
    let (namespace, name) = named(namespace, name);
    PodSelector::App { namespace, name }
}

fn policy(namespace: &str, name: &str) -> PodSelector {
    let (namespace, name) = named(namespace, name);
    PodSelector::Policy { namespace, name }
}

/// A pod that has ended is found no more.
pub async fn pods_are_found_by_what_people_know(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let filled = bench.commit(|tx| {
        Box::pin(async move {
            launch(tx, '1', bound("p1", ["shop", "orders", "reader", "n1"])).await?;
            launch(tx, '2', bound("p2", ["shop", "stock", "writer", "n1"])).await?;
            launch(tx, '3', bound("p3", ["bank", "orders", "reader", "n2"])).await?;
            launch(tx, '4', bound("p4", ["shop", "orders", "reader", "n1"])).await?;
            tx.tombstone_pod(&"p4".into(), after(9000).start()).await.map(drop)
        })
    });
    filled.await.unwrap();
    let account = |namespace: &str, name: &str| {
        let (namespace, name) = named(namespace, name);
        PodSelector::ServiceAccount { namespace, name }
    };
    for (selector, pods) in [
        (PodSelector::Namespace("shop".to_owned()), &["p1", "p2"][..]),
        (PodSelector::Namespace("sho".to_owned()), &[]),
        (PodSelector::Node("n1".to_owned()), &["p1", "p2"]),
        (PodSelector::Node("n2".to_owned()), &["p3"]),
        (app("shop", "orders"), &["p1"]),
        (app("bank", "orders"), &["p3"]),
        (app("shop", "nothing"), &[]),
        (policy("shop", "writer"), &["p2"]),
        (policy("bank", "writer"), &[]),
        (account("shop", "p2-account"), &["p2"]),
        (account("bank", "p2-account"), &[]),
    ] {
        assert_eq!(matching(&bench, selector.clone()).await, pods, "{selector}");
    }
}

/// It is found by its last launch, and by a session of before as long as that has tokens.
pub async fn a_pod_that_launched_otherwise_is_found_by_both(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let filled = bench.commit(|tx| {
        Box::pin(async move {
            tx.put_policy(&Policy {
                key: PolicyKey::launch_token("shop", "reader"),
                uid: "uid-of-reader".into(),
                generation: 1,
                order: WriteOrder {
                    lease_epoch: 1,
                    sequence: 1,
                },
                state: PolicyState::Ready,
                reason: None,
                digest: String::new(),
                accepted: None,
                app_id: None,
                issued: 0,
                room_until: 0,
            })
            .await?;
            launch(tx, '1', bound("p1", ["shop", "orders", "reader", "n1"])).await?;
            tx.know_pod(&KnownPod::of(&bound("p1", ["shop", "stock", "writer", "n1"])))
                .await
        })
    });
    filled.await.unwrap();
    for selector in [
        app("shop", "orders"),
        app("shop", "stock"),
        policy("shop", "reader"),
        policy("shop", "writer"),
    ] {
        assert_eq!(matching(&bench, selector.clone()).await, ["p1"], "{selector}");
    }
    bench.clock.advance(100_000);
    for (selector, pods) in [
        (app("shop", "orders"), 0),
        (policy("shop", "reader"), 0),
        (app("shop", "stock"), 1),
    ] {
        assert_eq!(matching(&bench, selector.clone()).await.len(), pods, "{selector}");
    }
}

/// Sessions that have ended, or whose tokens have expired, are not among it.
pub async fn what_pods_hold_is_counted(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let filled = bench.commit(|tx| {
        Box::pin(async move {
            let one = launch(tx, '1', bound("p1", ["shop", "orders", "reader", "n1"])).await?;
            let two = launch(tx, '2', bound("p2", ["shop", "orders", "reader", "n1"])).await?;
            let ended = launch(tx, '3', bound("p1", ["shop", "orders", "reader", "n1"])).await?;
            // From the first to the second, and to nobody's pod; under one that ends.
            tx.insert_session(&mut delegated('4', &one, Some("p2"))).await?;
            tx.insert_session(&mut delegated('5', &one, None)).await?;
            tx.insert_session(&mut delegated('6', &two, None)).await?;
            tx.insert_session(&mut delegated('7', &ended, None)).await?;
            let now = tx.now_millis();
            tx.end_session(&ended, EndReason::Revoked, now).await.map(drop)
        })
    });
    filled.await.unwrap();
    let held = async |pods: &'static [&'static str]| {
        let found = bench.store.query(move |tx| {
            Box::pin(async move {
                let pods: Vec<PodUid> = pods.iter().map(|uid| (*uid).into()).collect();
                tx.holdings_of(&pods).await
            })
        });
        found.await.unwrap()
    };
    let of = |pods, agents, delegations| Holdings {
        pods,
        agents,
        delegations,
        launch_tokens: 0,
    };
    assert_eq!(held(&["p1"]).await, of(1, 1, 2));
    assert_eq!(held(&["p2"]).await, of(1, 1, 2), "one by it, one to it");
    assert_eq!(held(&["p1", "p2"]).await, of(2, 2, 3), "each once");
    assert_eq!(held(&[]).await, Holdings::default());
    let all = bench.store.query(|tx| tx.holdings()).await.unwrap();
    assert_eq!((all.pods, all.agents), (2, 2));
    bench.clock.advance(100_000);
    assert_eq!(held(&["p1", "p2"]).await, of(2, 0, 0));
    let all = bench.store.query(|tx| tx.holdings()).await.unwrap();
    assert_eq!((all.agents, all.delegations), (0, 0));
}

/// One that is quarantined already is not new.
pub async fn many_pods_are_quarantined_at_once(opener: &dyn Opener) {
    const MANY: usize = 3000;
    let bench = Bench::open(opener).await;
    let uids = || (0..MANY).map(|number| PodUid::from(format!("p{number}").as_str()));
    let quarantine = |pods: Vec<PodUid>| {
        bench.commit(move |tx| Box::pin(async move { tx.quarantine_pods(&pods, "admin", after(3600).start()).await }))
    };
    assert_eq!(quarantine(vec!["p7".into()]).await.unwrap(), ["p7"]);
    let fresh = quarantine(uids().collect()).await.unwrap();
    assert_eq!(fresh.len(), MANY - 1);
    assert!(!fresh.contains(&"p7".into()));
    assert!(quarantine(uids().collect()).await.unwrap().is_empty());
    assert!(quarantine(Vec::new()).await.unwrap().is_empty());
    let standing = bench
        .store
        .query(|tx| Box::pin(async move { tx.pod_standing(&"p2999".into()).await }));
    assert_eq!(standing.await.unwrap(), PodStanding::Quarantined);
}

/// As [`crate::PodGroups::held_by_pods`], one by one.
async fn one_by_one(tx: &mut dyn Tx, pods: &[PodUid]) -> crate::Result<Vec<HeldByPod>> {
    let mut held = Vec::new();
    for pod in pods {
        if tx.pod_has_tombstone(pod).await? {
            continue;
        }
        let sessions = tx.unexpired_sessions_by_pod(pod).await?;
        let last = tx.last_session_of_pod(pod).await?.filter(|_| sessions.is_empty());
        held.push(HeldByPod {
            pod: pod.clone(),
            sessions,
            last,
            delegations: tx.standing_delegations_to_pod(pod).await?,
        });
    }
    Ok(held)
}

/// All that is in them, for a comparison.
fn shown(held: &[HeldByPod]) -> String {
    format!("{held:?}")
}

fn in_order(mut held: Vec<HeldByPod>) -> Vec<HeldByPod> {
    for pod in &mut held {
        pod.sessions.sort_by(|one, other| one.sid.cmp(&other.sid));
        pod.delegations.sort_by(|one, other| one.sid.cmp(&other.sid));
    }
    held
}

/// Of a pod that has ended nothing is found.
pub async fn what_many_pods_hold_is_revoked_at_once(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let filled = bench.commit(|tx| {
        Box::pin(async move {
            let one = launch(tx, '1', bound("p1", ["shop", "orders", "reader", "n1"])).await?;
            launch(tx, '2', bound("p2", ["shop", "orders", "reader", "n1"])).await?;
            let before = launch(tx, '3', bound("p1", ["shop", "orders", "reader", "n1"])).await?;
            launch(tx, '4', bound("p3", ["shop", "orders", "reader", "n1"])).await?;
            tx.insert_session(&mut delegated('5', &one, Some("p2"))).await?;
            tx.insert_session(&mut delegated('6', &one, None)).await?;
            let overlap = tx.now_millis() + std::time::Duration::from_secs(10);
            tx.end_session(&before, EndReason::Superseded, overlap).await?;
            tx.tombstone_pod(&"p3".into(), after(900_000).start()).await.map(drop)
        })
    });
    filled.await.unwrap();
    let pods = || ["p2", "nobody", "p3", "p1"].map(PodUid::from);
    let struck = bench.commit(move |tx| {
        Box::pin(async move {
            let held = in_order(tx.held_by_pods(&pods()).await?);
            assert_eq!(shown(&held), shown(&in_order(one_by_one(tx, &pods()).await?)));
            let all: Vec<&Session> = held
                .iter()
                .flat_map(|held| held.sessions.iter().chain(&held.delegations))
                .collect();
            let ended = tx.revoke_sessions(&all).await?;
            let again = tx.revoke_sessions(&all).await?;
            let none = tx.revoke_sessions(&[]).await?;
            Ok((ended, again, none.len(), tx.status_bits().await?.len()))
        })
    });
    // The second's session, what it holds, the first's two; and the bit of what was delegated to nobody's pod.
    assert_eq!(struck.await.unwrap(), (vec![true; 4], vec![false; 4], 0, 5));
    let reasons = bench.store.query(|tx| {
        Box::pin(async move {
            let found = tx.unexpired_sessions_by_pod(&"p1".into()).await?;
            Ok(found.into_iter().map(|session| session.end_reason).collect::<Vec<_>>())
        })
    });
    assert_eq!(reasons.await.unwrap(), [Some(EndReason::Revoked); 2]);
    bench.clock.advance(100_000);
    let idle = bench.store.query(move |tx| {
        Box::pin(async move {
            let held = tx.held_by_pods(&pods()).await?;
            assert_eq!(shown(&held), shown(&one_by_one(tx, &pods()).await?));
            Ok(held.into_iter().map(|held| held.last.is_some()).collect::<Vec<_>>())
        })
    });
    assert_eq!(idle.await.unwrap(), [true, false, true]);
}

/// Live ones, of that LaunchToken, and each once however often it registered.
pub async fn the_other_pods_of_a_policy_are_counted(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let filled = bench.commit(|tx| {
        Box::pin(async move {
            let of = |pod, policy| bound(pod, ["shop", "orders", policy, "n1"]);
            let mut first = opened('1', of("p1", "reader"));
            tx.insert_session(&mut first).await?;
            tx.end_session(
                &first,
                EndReason::Superseded,
                tx.now_millis() + std::time::Duration::from_secs(10),
            )
            .await?;
            for (digit, bound) in [
                ('2', of("p1", "reader")),
                ('3', of("p2", "reader")),
                ('4', of("p3", "reader")),
                ('5', of("p4", "writer")),
            ] {
                tx.insert_session(&mut opened(digit, bound)).await?;
            }
            let ended = tx.session(&"4123456789abcdef0123456789abcdef".into()).await?.unwrap();
            tx.end_session(&ended, EndReason::Released, tx.now_millis()).await?;
            // The same transaction sees all of it.
            tx.count_other_pods(&"uid-of-reader".into(), &"p9".into(), 100).await
        })
    });
    assert_eq!(filled.await.unwrap(), 2);
    let count = |pod: &'static str, most| {
        bench.store.query(move |tx| {
            Box::pin(async move { tx.count_other_pods(&"uid-of-reader".into(), &pod.into(), most).await })
        })
    };
    assert_eq!(count("p1", 100).await.unwrap(), 1, "its own sessions are no others");
    assert_eq!(count("p9", 1).await.unwrap(), 1, "no further than asked");
    bench.clock.advance(after(1).get() - after(0).get() + 100_000);
    assert_eq!(count("p9", 100).await.unwrap(), 0, "expired");
}

/// Beside the number of registrations.
pub async fn the_room_of_a_policy_is_kept_until_it_is_written_anew(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let counted = bench.commit(|tx| {
        Box::pin(async move {
            tx.put_policy(&app_policy()).await?;
            tx.count_issued(&"uid".into()).await?;
            tx.set_room_until(&"uid".into(), 7).await?;
            tx.set_room_until(&"another".into(), 9).await?;
            tx.policy(&app_policy().key).await
        })
    });
    let counted = counted.await.unwrap().unwrap();
    assert_eq!((counted.issued, counted.room_until), (1, 7));
    let again = bench.commit(|tx| {
        Box::pin(async move {
            tx.put_policy(&app_policy()).await?;
            tx.policy(&app_policy().key).await
        })
    });
    assert_eq!(again.await.unwrap(), Some(app_policy()));
}
