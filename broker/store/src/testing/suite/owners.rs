//! Whose a store is.

use super::trail::all;
use super::{Bench, Opener, surroundings};
use crate::{Declared, Installation, Result, Store, StoreError};

fn installation(name: Option<&str>, trust_domain: &str) -> Installation {
    Installation {
        name: name.map(str::to_owned),
        trust_domain: trust_domain.to_owned(),
    }
}

async fn opened(opener: &dyn Opener, ours: Installation, adopts: bool) -> Result<Store> {
    let declared = Declared {
        adopt_installation: adopts,
        ..Declared::default()
    };
    opener.open_as(surroundings().0, ours, declared).await
}

/// Opens it, and closes it again.
async fn visit(opener: &dyn Opener, name: Option<&str>, trust_domain: &str) -> Result<()> {
    let store = opened(opener, installation(name, trust_domain), false).await?;
    assert!(store.connected());
    store.close().await
}

async fn refuses(opener: &dyn Opener, name: Option<&str>, trust_domain: &str, says: &[&str]) {
    let refused = visit(opener, name, trust_domain).await.unwrap_err();
    assert!(matches!(refused, StoreError::OtherInstallation { .. }), "{refused}");
    let text = refused.to_string();
    assert!(says.iter().all(|part| text.contains(part)), "{text}");
}

/// The first that has a name gives it to the store, also to one that was opened without.
pub async fn a_store_of_another_installation_is_refused(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let epoch = bench.store.epoch();
    bench.store.close().await.unwrap();
    let ours = "agentwrit.local";
    visit(opener, Some("a/agentwrit"), ours).await.unwrap();
    let both = ["AA_INSTALLATION", "\"a/agentwrit\"", "\"b/agentwrit\""];
    refuses(opener, Some("b/agentwrit"), ours, &both).await;
    visit(opener, None, ours).await.unwrap();
    refuses(opener, Some("b/agentwrit"), ours, &both).await;
    let bench = Bench::open(opener).await;
    assert_eq!(bench.store.epoch(), epoch);
}

/// Also when nobody has named an installation.
pub async fn a_store_of_another_trust_domain_is_refused(opener: &dyn Opener) {
    visit(opener, None, "a.example").await.unwrap();
    let both = ["AA_TRUST_DOMAIN", "\"a.example\"", "\"b.example\""];
    refuses(opener, None, "b.example", &both).await;
    visit(opener, Some("a/agentwrit"), "a.example").await.unwrap();
}

/// It keeps its epoch: what was issued stands.
pub async fn an_adopted_store_is_the_new_owners_and_says_so(opener: &dyn Opener) {
    let store = opened(opener, installation(Some("a/agentwrit"), "a.example"), false).await;
    let store = store.unwrap();
    let epoch = store.epoch();
    store.close().await.unwrap();
    let store = opened(opener, installation(Some("b/agentwrit"), "b.example"), true).await;
    let store = store.unwrap();
    assert_eq!(store.epoch(), epoch);
    let events = all(&store).await;
    let adopted = events.iter().filter(|event| event.event_type == "installation_adopted");
    let details: Vec<&str> = adopted.map(|event| event.detail.as_str()).collect();
    let told = "installation \"a/agentwrit\" becomes \"b/agentwrit\"; trust domain \"a.example\" becomes \"b.example\"";
    assert_eq!(details, [told]);
    store.close().await.unwrap();
    visit(opener, Some("b/agentwrit"), "b.example").await.unwrap();
    refuses(
        opener,
        Some("a/agentwrit"),
        "a.example",
        &["\"b/agentwrit\"", "\"b.example\""],
    )
    .await;
}
