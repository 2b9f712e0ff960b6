//! The sidecar of commit f4273ee, the version before proofs, against this broker: its requests as they were recorded
//! between the two programs (`scripts/compat.sh` runs the program itself). `{...}` stands for what differs each time.

use agentwrit_testkit::{Keys, World};
use serde_json::Value;

const LAUNCH: &str = r#"{"policy":"reader","public_key":"{public_key}","ttl_seconds":10}"#;
const REGISTER: &str = r#"{"launch_token":"{launch_token}","nonce":"{nonce}","public_key":"{public_key}","signature":"{signature}","orch_id":"k8s.shop.orders","task_id":"pod-1","requested_scope":["read:orders:*"],"requested_ttl":10}"#;
const RENEW: &str = r#"{"overlap_seconds":10}"#;
/// Headers of its renewals, beside the bearer.
const HEADERS: [(&str, &str); 4] = [
    ("accept", "application/json"),
    ("user-agent", "agentwrit-sidecar/0.1.0"),
    ("content-type", "application/json"),
    ("idempotency-key", "{key}"),
];
/// When it renewed, in seconds of a token's ten, and the keys that it made up.
const RENEWALS: [(i64, &str); 3] = [
    (7, "1f64162a18cad68ac8d760d2ad34eb7b"),
    (8, "15e5c605ff5777b934946cd00faf4472"),
    (8, "c4f1aa90d20e5b7d3a6618efb2179c05"),
];

fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_older_sidecar_renews_three_times_without_a_proof() {
    let world = World::new().await.with_policies().await;
    let (pod, keys) = (world.pod("pod-1"), Keys::new(1));
    let body = LAUNCH.replace("{public_key}", &keys.public());
    let launched = world.post_as(&pod.bearer(), "/v1/k8s/launch-tokens", body).await;
    assert_eq!(launched.status, 201);
    let challenge = world.get("/v1/challenge").await.ok();
    let nonce = text(&challenge, "nonce");
    let body = REGISTER
        .replace("{launch_token}", &text(&launched.body, "launch_token"))
        .replace("{public_key}", &keys.public())
        .replace("{signature}", &keys.sign(&nonce))
        .replace("{nonce}", &nonce);
    let registered = world.post("/v1/register", body).await.ok();
    let mut token = text(&registered, "access_token");
    for (after, key) in RENEWALS {
        world.clock.advance(after);
        let headers = HEADERS.map(|(name, value)| (name, if value == "{key}" { key } else { value }));
        let renewed = world.renew_with_text(&token, &headers, RENEW).await.ok();
        assert_eq!(renewed["expires_in"], 10);
        let former = std::mem::replace(&mut token, text(&renewed, "access_token"));
        assert!(world.stands(&former).await && world.stands(&token).await);
        // A lost answer: the same again.
        let again = world.renew_with_text(&former, &headers, RENEW).await.ok();
        assert_eq!(text(&again, "access_token"), token);
    }
    assert_eq!(world.events("event_type=token_renewed").await.len(), RENEWALS.len());
    assert!(world.events("event_type=token_renewal_failed").await.is_empty());
    let released = world.post_as(&token, "/v1/token/release", "").await;
    assert_eq!(released.status, 204);
}
