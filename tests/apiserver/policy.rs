//! From custom resources to what the broker holds and what the conditions say.

use agentwrit_protocol::inject::FINALIZER;
use agentwrit_protocol::k8s::PolicyState;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::broker::Fault;
use crate::objects::{app_becomes, create_app, create_token, event, token_becomes};
use crate::world::{World, wait};

#[tokio::test]
async fn scopes_that_make_a_token_too_long_are_warned_of() {
    let world = World::new("policy").await;
    create_app(&world, &["read:orders:*"]).await;
    let scopes: Vec<String> = (0..64).map(|number| format!("read:orders:{number:0>200}")).collect();
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    create_token(&world, &scopes).await;
    let note = event(&world, "TokenTooLong").await.note.unwrap();
    assert!(note.contains("64 scopes") && note.contains("8 KiB"), "{note}");
    token_becomes(&world, "Synced").await;
    let types = || async {
        let token = world.launch_tokens().get("reader").await.unwrap();
        let types = token
            .status
            .unwrap()
            .conditions
            .into_iter()
            .map(|condition| condition.type_);
        types.collect::<Vec<_>>()
    };
    assert!(types().await.contains(&"TokenSize".to_owned()));
    patch_token(&world, json!({"allowedScopes": ["read:orders:1"]})).await;
    wait("the condition is gone", || async {
        (!types().await.contains(&"TokenSize".to_owned())).then_some(())
    })
    .await;
    world.done().await;
}

async fn patch_app(world: &World, spec: Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    world
        .apps()
        .patch("orders", &PatchParams::default(), &patch)
        .await
        .unwrap();
}

async fn patch_token(world: &World, spec: Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    world
        .launch_tokens()
        .patch("reader", &PatchParams::default(), &patch)
        .await
        .unwrap();
}

#[tokio::test]
async fn fields_that_may_be_left_out_reach_the_broker() {
    let world = World::new("policy").await;
    create_app(&world, &["read:orders:*"]).await;
    create_token(&world, &["read:orders:*"]).await;
    app_becomes(&world, "Synced").await;
    let plain = world.broker.app(&world.namespace, "orders").unwrap();
    patch_app(
        &world,
        json!({"audiences": ["https://stock.example.org"], "delegation": {"allowedNamespaces": ["bank"]}}),
    )
    .await;
    let selector = json!({"matchLabels": {"tier": "web"}, "matchExpressions": [{"key": "zone", "operator": "Exists"}]});
    patch_token(&world, json!({"maxActiveAgents": 7, "podSelector": selector})).await;
    let held = wait("the broker has both", || async {
        let app = world.broker.app(&world.namespace, "orders")?;
        let token = world.broker.launch_token(&world.namespace, "reader")?;
        (app.generation == 2 && token.generation == 2).then_some((app.spec, token.spec))
    })
    .await;
    let (app, token) = (json!(held.0), json!(held.1));
    assert_eq!(app["audiences"], json!(["https://stock.example.org"]));
    assert_eq!(app["delegation_namespaces"], json!(["bank"]));
    assert_eq!(token["max_active_agents"], 7);
    assert_eq!(
        token["pod_selector"],
        json!([{"key": "tier", "operator": "In", "values": ["web"]}, {"key": "zone", "operator": "Exists"}])
    );
    // Taken off again, what is written is what it was before there were any.
    patch_app(&world, json!({"audiences": null, "delegation": null})).await;
    wait("the broker has the plain app", || async {
        let app = world.broker.app(&world.namespace, "orders")?;
        (app.generation == 3 && app.spec == plain.spec).then_some(())
    })
    .await;
    world.done().await;
}

#[tokio::test]
async fn both_kinds_become_ready_and_the_broker_holds_them() {
    let world = World::new("policy").await;
    let app = create_app(&world, &["read:orders:*"]).await;
    let condition = app_becomes(&world, "Synced").await;
    create_token(&world, &["read:orders:42"]).await;
    assert_eq!(
        (condition.status.as_str(), condition.observed_generation),
        ("True", Some(1))
    );
    assert_eq!(token_becomes(&world, "Synced").await.status, "True");

    let put = world.broker.app(&world.namespace, "orders").unwrap();
    assert_eq!(put.uid.as_str(), app.uid().unwrap());
    assert_eq!((put.state, put.generation), (PolicyState::Ready, 1));
    assert_eq!(
        (put.spec.scopes, put.spec.max_agent_ttl_seconds),
        (vec!["read:orders:*".to_owned()], 3600)
    );
    let put = world.broker.launch_token(&world.namespace, "reader").unwrap();
    assert_eq!(
        (put.spec.app.as_str(), put.spec.agent_name.as_str()),
        ("orders", "order-reader")
    );
    assert_eq!(
        (put.spec.max_ttl_seconds, put.spec.service_account_names),
        (300, vec!["default".to_owned()])
    );

    let app = world.apps().get("orders").await.unwrap();
    assert!(app.finalizers().iter().any(|finalizer| finalizer == FINALIZER));
    let status = app.status.unwrap();
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(status.app_id, Some(format!("app-{}", app.metadata.uid.unwrap())));
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let told = events.list(&ListParams::default()).await.unwrap();
    let of_ours = told.items.iter().filter(|event| {
        let regarding = event.regarding.as_ref().and_then(|object| object.kind.as_deref());
        matches!(regarding, Some("AgentApp" | "LaunchToken"))
    });
    assert_eq!(of_ours.count(), 0, "that all is well from the beginning is no news");
    world.done().await;
}

#[tokio::test]
async fn a_launch_token_without_its_app_heals_when_the_app_comes() {
    let world = World::new("policy").await;
    create_token(&world, &["read:orders:42"]).await;
    let missing = token_becomes(&world, "AppNotFound").await;
    assert_eq!(missing.status, "False");
    assert!(missing.message.contains("orders"), "{}", missing.message);
    let put = world.broker.launch_token(&world.namespace, "reader").unwrap();
    assert_eq!(
        (put.state, put.reason.as_deref()),
        (PolicyState::NotReady, Some("AppNotFound"))
    );
    let warning = event(&world, "AppNotFound").await;
    assert_eq!(warning.type_.as_deref(), Some("Warning"));

    create_app(&world, &["read:orders:*"]).await;
    token_becomes(&world, "Synced").await;
    let put = world.broker.launch_token(&world.namespace, "reader").unwrap();
    assert_eq!((put.state, put.reason), (PolicyState::Ready, None));
    let healed = event(&world, "Synced").await;
    assert_eq!(healed.type_.as_deref(), Some("Normal"));
    world.done().await;
}

#[tokio::test]
async fn scopes_over_the_ceiling_are_named_until_the_app_is_fixed() {
    let world = World::new("policy").await;
    create_app(&world, &["read:orders:*"]).await;
    create_token(&world, &["read:orders:42", "write:orders:42", "read:stock:*"]).await;
    let exceeds = token_becomes(&world, "ScopeExceedsCeiling").await;
    assert!(
        exceeds.message.contains("write:orders:42, read:stock:*."),
        "{}",
        exceeds.message
    );
    let put = world.broker.launch_token(&world.namespace, "reader").unwrap();
    assert_eq!(
        (put.state, put.reason.as_deref()),
        (PolicyState::NotReady, Some("ScopeExceedsCeiling"))
    );

    patch_app(
        &world,
        json!({"scopes": ["read:orders:*", "write:orders:*", "read:stock:*"]}),
    )
    .await;
    let synced = token_becomes(&world, "Synced").await;
    assert!(synced.last_transition_time.0 >= exceeds.last_transition_time.0);

    // And back: narrowing the ceiling withdraws.
    patch_app(&world, json!({"scopes": ["read:orders:*"]})).await;
    token_becomes(&world, "ScopeExceedsCeiling").await;
    patch_token(&world, json!({"allowedScopes": ["read:orders:42"]})).await;
    let synced = token_becomes(&world, "Synced").await;
    assert_eq!(synced.observed_generation, Some(2));
    world.done().await;
}

#[tokio::test]
async fn suspension_reaches_the_broker_and_ends() {
    let world = World::new("policy").await;
    create_app(&world, &["read:orders:*"]).await;
    create_token(&world, &["read:orders:42"]).await;
    token_becomes(&world, "Synced").await;

    patch_token(&world, json!({"suspend": true})).await;
    token_becomes(&world, "Suspended").await;
    assert_eq!(
        world.broker.launch_token(&world.namespace, "reader").unwrap().state,
        PolicyState::Suspended
    );
    patch_token(&world, json!({"suspend": false})).await;
    token_becomes(&world, "Synced").await;

    patch_app(&world, json!({"suspend": true})).await;
    app_becomes(&world, "Suspended").await;
    let condition = token_becomes(&world, "Suspended").await;
    assert!(
        condition.message.contains("AgentApp orders is suspended"),
        "{}",
        condition.message
    );
    assert_eq!(
        world.broker.app(&world.namespace, "orders").unwrap().state,
        PolicyState::Suspended
    );
    patch_app(&world, json!({"suspend": false})).await;
    token_becomes(&world, "Synced").await;
    world.done().await;
}

#[tokio::test]
async fn an_absent_broker_shows_and_heals_and_withdraws_nothing() {
    let world = World::new("policy").await;
    world.broker.fail(&world.namespace, Some(Fault::Away));
    create_app(&world, &["read:orders:*"]).await;
    create_token(&world, &["read:orders:42"]).await;
    assert_eq!(app_becomes(&world, "BrokerUnavailable").await.status, "False");
    token_becomes(&world, "BrokerUnavailable").await;

    world.broker.fail(&world.namespace, None);
    app_becomes(&world, "Synced").await;
    token_becomes(&world, "Synced").await;
    assert_eq!(
        world.broker.launch_token(&world.namespace, "reader").unwrap().state,
        PolicyState::Ready
    );
    world.done().await;
}

#[tokio::test]
async fn a_refused_app_withdraws_its_launch_tokens() {
    let world = World::new("policy").await;
    create_app(&world, &["read:orders:*"]).await;
    create_token(&world, &["read:orders:42"]).await;
    token_becomes(&world, "Synced").await;
    world.broker.fail(&world.namespace, Some(Fault::Refuses));
    patch_app(&world, json!({"maxAgentTTLSeconds": 7200})).await;
    let refused = app_becomes(&world, "BrokerRefused").await;
    assert!(refused.message.contains("doesn't like it"), "{}", refused.message);
    token_becomes(&world, "BrokerRefused").await;

    world.broker.fail(&world.namespace, None);
    app_becomes(&world, "Synced").await;
    token_becomes(&world, "Synced").await;
    assert_eq!(
        world
            .broker
            .app(&world.namespace, "orders")
            .unwrap()
            .spec
            .max_agent_ttl_seconds,
        7200
    );
    world.done().await;
}

#[tokio::test]
async fn scopes_beyond_the_namespaces_ceiling_show_why() {
    let world = World::new("policy").await;
    create_app(&world, &["read:orders:*"]).await;
    create_token(&world, &["read:orders:42"]).await;
    token_becomes(&world, "Synced").await;
    world.broker.fail(&world.namespace, Some(Fault::BeyondCeiling));
    patch_app(&world, json!({"scopes": ["read:orders:*", "write:orders:1"]})).await;
    let refused = app_becomes(&world, "ScopeExceedsNamespaceCeiling").await;
    assert_eq!(refused.status, "False");
    assert!(refused.message.contains("write:orders:1"), "{}", refused.message);
    let note = event(&world, "ScopeExceedsNamespaceCeiling").await.note.unwrap();
    assert!(note.contains("beyond the ceiling"), "{note}");

    world.broker.fail(&world.namespace, None);
    app_becomes(&world, "Synced").await;
    token_becomes(&world, "Synced").await;
    world.done().await;
}

#[tokio::test]
async fn a_broker_with_an_empty_store_is_filled_again() {
    let world = World::new("policy").await;
    create_app(&world, &["read:orders:*"]).await;
    create_token(&world, &["read:orders:42"]).await;
    token_becomes(&world, "Synced").await;
    {
        let mut memory = world.broker.memory();
        memory
            .policies
            .retain(|(namespace, _), _| *namespace != world.namespace);
        memory.epoch.push('+');
    }
    // Within the 30 s of the helper.
    wait("both policies are back", || async {
        world.broker.app(&world.namespace, "orders")?;
        world.broker.launch_token(&world.namespace, "reader")
    })
    .await;
    world.done().await;
}

#[tokio::test]
async fn the_confirmed_holder_passes_a_higher_epoch_at_the_broker() {
    let world = World::new("policy").await;
    create_app(&world, &["read:orders:*"]).await;
    app_becomes(&world, "Synced").await;
    let known = {
        let mut memory = world.broker.memory();
        memory.lease_epoch += 5;
        memory.lease_epoch
    };
    patch_app(&world, json!({"maxAgentTTLSeconds": 600})).await;
    wait("the write of a higher epoch", || async {
        let put = world.broker.app(&world.namespace, "orders")?;
        (put.spec.max_agent_ttl_seconds == 600).then_some(())
    })
    .await;
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.release);
    let lease = leases.get("agentwrit-controller").await.unwrap().spec.unwrap();
    assert_eq!(lease.holder_identity.as_deref(), Some("controller-0"));
    assert!(i64::from(lease.lease_transitions.unwrap()) > known, "{lease:?}");
    assert_eq!(
        i64::from(lease.lease_transitions.unwrap()),
        world.broker.memory().lease_epoch
    );
    world.done().await;
}

#[tokio::test]
async fn counts_follow_the_broker_without_needless_writes() {
    let world = World::new("policy").await;
    create_app(&world, &["read:orders:*"]).await;
    create_token(&world, &["read:orders:42"]).await;
    token_becomes(&world, "Synced").await;
    world.broker.memory().counts.insert(world.namespace.clone(), (2, 7));
    wait("counts in the status", || async {
        let app = world.apps().get("orders").await.unwrap().status?;
        let token = world.launch_tokens().get("reader").await.unwrap().status?;
        let counts = (app.launch_tokens, app.active_agents, token.active_agents, token.issued);
        (counts == (Some(1), Some(2), Some(2), Some(7))).then_some(())
    })
    .await;

    let versions = || async {
        let app = world.apps().get("orders").await.unwrap().resource_version();
        (
            app,
            world.launch_tokens().get("reader").await.unwrap().resource_version(),
        )
    };
    let (before, puts) = (versions().await, world.broker.memory().puts[&world.namespace]);
    let looks = world.broker.memory().looks;
    wait("two more looks at the broker", || async {
        (world.broker.memory().looks >= looks + 2).then_some(())
    })
    .await;
    assert_eq!(versions().await, before);
    assert_eq!(world.broker.memory().puts[&world.namespace], puts);
    world.done().await;
}
