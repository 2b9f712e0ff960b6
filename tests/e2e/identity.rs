//! Whose token it is, what it allows, and for how long.

use agentwrit_protocol::Ttl;
use agentwrit_protocol::inject;

use crate::support::cluster::{SYSTEM, shared};
use crate::support::pod::PodSpec;
use crate::support::shop::Shop;

#[tokio::test]
async fn the_token_names_the_pod_and_holds_what_was_asked_for() {
    let _installation = shared().await;
    let shop = Shop::open("identity").await;
    shop.launch_token("both", "orders", &["read:orders:*", "write:orders:*"])
        .await;
    shop.ready("both").await;
    let spec = PodSpec::reader("reader")
        .annotation(inject::ANNOTATION_LAUNCH_TOKEN, "both")
        .annotation(inject::ANNOTATION_SCOPES, "read:orders:42")
        .annotation(inject::ANNOTATION_TTL_SECONDS, "30");
    let uid = shop.running_pod(&spec).await;
    let broker = shop.broker().await;
    let claims = broker.claims(&shop.token("reader").unwrap()).await.unwrap();
    let wanted = format!("spiffe://agentwrit.local/agent/k8s.{}.orders/{uid}/", shop.namespace);
    assert!(
        claims.sub.starts_with(&wanted),
        "{} should start with {wanted}",
        claims.sub
    );
    assert_eq!(claims.scope, ["read:orders:42"]);
    assert_eq!(claims.exp - claims.iat, Ttl::seconds(30));
    assert_eq!(claims.iss, format!("https://agentwrit-broker.{SYSTEM}.svc:8443"));
    assert_eq!(claims.aud, ["agentwrit:agentwrit.local"]);
    assert_eq!(
        (claims.task_id.as_str(), claims.orch_id.as_str()),
        (uid.as_str(), format!("k8s.{}.orders", shop.namespace).as_str())
    );
    assert!(!claims.sid.is_empty());

    // One correlation id from the launch on, in the order in which things happened.
    let trail = broker.trail(&uid).await;
    let types: Vec<&str> = trail.iter().map(|event| event.event_type.as_str()).collect();
    let position = |wanted: &str| {
        types
            .iter()
            .position(|found| *found == wanted)
            .unwrap_or_else(|| panic!("no {wanted} in {types:?}"))
    };
    assert!(
        position("launch_token_issued") < position("agent_registered"),
        "{types:?}"
    );
    let correlation = &trail[position("agent_registered")].extra.correlation_id;
    assert!(!correlation.is_empty());
    assert!(
        trail.iter().all(|event| event.extra.correlation_id == *correlation),
        "{trail:?}"
    );
}

#[tokio::test]
async fn each_pod_of_a_deployment_gets_an_identity_of_its_own() {
    let _installation = shared().await;
    let shop = Shop::open("replicas").await;
    shop.running_pod(&PodSpec::reader("one")).await;
    shop.running_pod(&PodSpec::reader("two")).await;
    let broker = shop.broker().await;
    let one = broker.claims(&shop.token("one").unwrap()).await.unwrap();
    let two = broker.claims(&shop.token("two").unwrap()).await.unwrap();
    assert_ne!(one.sub, two.sub);
    assert_ne!(one.sid, two.sid);
    assert_ne!(one.jti, two.jti);
}
