//! Signing keys change while pods go on.

use agentwrit_protocol::signing_keys::KeyState;

use crate::support::cluster::shared;
use crate::support::pod::PodSpec;
use crate::support::shop::Shop;
use crate::support::wait::{eventually, seconds};

/// The controller puts a key into the Secret, the kubelet brings it to the broker, and the broker publishes it.
#[tokio::test]
async fn a_key_that_is_asked_for_is_published_in_a_minute() {
    let _installation = shared().await;
    let shop = Shop::open("keys").await;
    shop.running_pod(&PodSpec::reader("reader")).await;
    let broker = shop.broker().await;
    let token = shop.token("reader").unwrap();
    broker.client.rotate_key(&broker.admin).await.unwrap();
    let (kid, _) = eventually("the new key is published", seconds(90), async || {
        let listed = broker
            .client
            .signing_keys(&broker.admin)
            .await
            .map_err(|error| error.to_string())?;
        let next = listed.keys.iter().find(|key| key.state == KeyState::Next && key.held);
        next.map(|key| key.kid.clone()).ok_or_else(|| format!("{listed:?}"))
    })
    .await;
    let jwks = broker.client.jwks().await.unwrap();
    assert!(jwks.keys.iter().any(|key| key.kid == kid), "{jwks:?}");
    broker.claims(&token).await.expect("tokens of before stand");
}
