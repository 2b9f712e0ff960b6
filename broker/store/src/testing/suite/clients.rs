//! Clients of AgentApps.

use agentwrit_protocol::k8s::clients::client_id;
use agentwrit_protocol::k8s::{AppClient, AppSpec, ClientSecret, PolicyState, WriteOrder};

use super::rows::after;
use super::{Bench, Opener};
use crate::policy::{Accepted, Policy, PolicyKey, PolicySpec};

/// As long as its accepted spec has one.
pub async fn an_app_is_found_by_its_client_id(opener: &dyn Opener) {
    let bench = Bench::open(opener).await;
    let id = client_id(&"uid".into());
    let client = AppClient {
        token_ttl_seconds: 300,
        secrets: vec![ClientSecret {
            sha256: "5e".repeat(32),
            until: Some(after(60)),
        }],
    };
    let policy = |name: &str, uid: &str, client: Option<AppClient>| Policy {
        key: PolicyKey::app("shop", name),
        uid: uid.into(),
        generation: 1,
        order: WriteOrder {
            lease_epoch: 1,
            sequence: 1,
        },
        state: PolicyState::Ready,
        reason: None,
        digest: "d".to_owned(),
        accepted: Some(Accepted {
            client_instance: client.is_some().then(|| "0a1b2c".to_owned()),
            spec: PolicySpec::App(AppSpec {
                scopes: vec!["read:data:*".to_owned()],
                max_agent_ttl_seconds: 300,
                audiences: Vec::new(),
                delegation_namespaces: Vec::new(),
                client,
            }),
            generation: 1,
            unchanged_since: 1,
        }),
        app_id: Some(format!("app-shop.{name}-00000a")),
        issued: 0,
        room_until: 0,
    };
    let found = || {
        let id = id.clone();
        bench
            .store
            .query(move |tx| Box::pin(async move { tx.policy_by_client_id(&id).await }))
    };
    let (with, without) = (policy("orders", "uid", Some(client)), policy("orders", "uid", None));
    let other = policy("others", "other", with.client().cloned());
    for (put, wanted) in [(other, None), (with.clone(), Some(with)), (without, None)] {
        bench
            .commit(move |tx| Box::pin(async move { tx.put_policy(&put).await }))
            .await
            .unwrap();
        assert_eq!(found().await.unwrap(), wanted);
    }
}
