//! A token lives seconds, its pod much longer.

use agentwrit_protocol::Ttl;
use agentwrit_protocol::inject;

use crate::support::broker::Broker;
use crate::support::cluster::shared;
use crate::support::pod::{PodSpec, app, sidecar};
use crate::support::shop::Shop;
use crate::support::wait::{eventually, seconds};

/// The pod's one registration was followed by renewals.
async fn assert_renewed(broker: &Broker, uid: &str) {
    let types = broker.trail_types(uid).await;
    assert!(types.iter().any(|found| found == "token_renewed"), "{types:?}");
    let registered = types.iter().filter(|found| *found == "agent_registered");
    assert_eq!(registered.count(), 1, "{types:?}");
}

/// Fails when the sidecar doesn't renew: after its one life the first token is refused, and so is nothing else.
#[tokio::test]
async fn the_token_is_renewed_in_time_while_the_pod_runs() {
    let _installation = shared().await;
    let shop = Shop::open("renewal").await;
    shop.orders_service();
    let spec = PodSpec::reader("reader").annotation(inject::ANNOTATION_TTL_SECONDS, "10");
    let uid = shop.running_pod(&spec).await;
    let broker = shop.broker().await;
    let first = shop.token("reader").unwrap();
    let before = broker.claims(&first).await.unwrap();
    assert_eq!(before.exp - before.iat, Ttl::seconds(10));
    shop.log_line("reader", "app", &["the token was renewed"], seconds(20))
        .await;
    eventually("the first token is refused", seconds(20), async || {
        broker.refuses(&first).await
    })
    .await;

    // The pod holds another token of the same session, and never was without one.
    let after = broker.claims(&shop.token("reader").unwrap()).await.unwrap();
    assert_eq!((&after.sub, &after.sid), (&before.sub, &before.sid));
    assert_ne!(after.jti, before.jti);
    assert!(after.exp > before.exp);
    let log = shop.logs("reader", "app");
    let refused: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("-> 401") || line.contains("no token"))
        .collect();
    assert_eq!(refused, Vec::<&str>::new());
    assert_renewed(&broker, &uid).await;
    let pod = shop.pod("reader").await;
    assert_eq!(app(&pod).unwrap().restart_count, 0, "the application was not disturbed");
}

/// Its key died with it: what it finds can't be renewed.
#[tokio::test]
async fn a_restarted_sidecar_registers_and_replaces_the_token() {
    let _installation = shared().await;
    let shop = Shop::open("restart").await;
    let uid = shop.running_pod(&PodSpec::reader("reader")).await;
    let broker = shop.broker().await;
    let first = shop.token("reader").unwrap();
    let before = broker.claims(&first).await.unwrap();
    shop.kill("reader", sidecar).await;
    eventually("the sidecar runs again", seconds(60), async || {
        let pod = shop.pod("reader").await;
        let status = sidecar(&pod).unwrap();
        if status.restart_count == 1 && status.ready {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        }
    })
    .await;
    let token = shop.token("reader").unwrap();
    let after = broker.claims(&token).await.unwrap();
    assert_ne!(after.sid, before.sid, "another session");
    assert_eq!(after.task_id, before.task_id, "of the same pod");
    let types = broker.trail_types(&uid).await;
    let count = |wanted: &str| types.iter().filter(|found| *found == wanted).count();
    assert_eq!(
        (count("agent_registered"), count("agent_superseded")),
        (2, 1),
        "{types:?}"
    );
    assert_eq!(count("token_renewal_failed"), 0, "{types:?}");
    // Never two live tokens: the one before stands for ten seconds at most.
    eventually("the token before is refused", seconds(15), async || {
        broker.refuses(&first).await
    })
    .await;
    assert_eq!(app(&shop.pod("reader").await).unwrap().restart_count, 0);
}
