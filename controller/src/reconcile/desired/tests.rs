use super::*;
use agentwrit_crds::{AgentAppSpec, AgentAppStatus, AppReference, Delegation, DeletionPolicy, PodSelector};
use agentwrit_protocol::UnixSeconds;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

fn app(scopes: &[&str]) -> AgentApp {
    let mut app = AgentApp::new(
        "orders",
        AgentAppSpec {
            scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
            max_agent_ttl_seconds: 3600,
            audiences: Vec::new(),
            delegation: None,
            client_credentials: None,
            suspend: false,
        },
    );
    app.metadata.uid = Some("app-uid".into());
    app.metadata.generation = Some(2);
    app
}

fn token(scopes: &[&str]) -> LaunchToken {
    let mut token = LaunchToken::new(
        "reader",
        agentwrit_crds::LaunchTokenSpec {
            app_ref: AppReference { name: "orders".into() },
            agent_name: "reader".into(),
            allowed_scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
            max_ttl_seconds: 300,
            service_account_names: vec!["reader".into()],
            pod_selector: None,
            max_active_agents: None,
            deletion_policy: DeletionPolicy::Revoke,
            suspend: false,
        },
    );
    token.metadata.uid = Some("token-uid".into());
    token.metadata.generation = Some(7);
    token
}

#[test]
fn each_state_of_the_app_has_its_reason_and_state() {
    let good = app(&["read:orders:*"]);
    let mut deleting = good.clone();
    deleting.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let mut suspended = good.clone();
    suspended.spec.suspend = true;
    let with_reason = |reason| {
        let refusal = Ready::new(reason, "no");
        let change =
            crate::reconcile::condition::change(&[], &(&refusal).into(), Some(2), UnixSeconds::default()).unwrap();
        let mut app = good.clone();
        app.status = Some(AgentAppStatus {
            conditions: vec![change.condition],
            ..AgentAppStatus::default()
        });
        app
    };
    let was_refused = with_reason(Reason::BrokerRefused);
    let is_beyond = with_reason(Reason::ScopeExceedsNamespaceCeiling);
    let mut corrected = was_refused.clone();
    corrected.metadata.generation = Some(3);

    let table = [
        (AppView::Missing, PolicyState::NotReady, Reason::AppNotFound),
        (AppView::Unreadable, PolicyState::NotReady, Reason::AppNotReady),
        (AppView::Present(&deleting), PolicyState::NotReady, Reason::AppNotReady),
        (
            AppView::Present(&was_refused),
            PolicyState::NotReady,
            Reason::AppNotReady,
        ),
        (AppView::Present(&is_beyond), PolicyState::NotReady, Reason::AppNotReady),
        (AppView::Present(&corrected), PolicyState::Ready, Reason::Synced),
        (AppView::Present(&suspended), PolicyState::Ready, Reason::Suspended),
        (AppView::Present(&good), PolicyState::Ready, Reason::Synced),
    ];
    for (view, state, reason) in table {
        let desired = of_launch_token(&token(&["read:orders:42"]), view);
        assert_eq!((desired.put.state, desired.ready.reason), (state, reason), "{view:?}");
    }
}

#[test]
fn an_unavailable_broker_never_withdraws() {
    let mut app = app(&["read:orders:*"]);
    let away = Ready::new(Reason::BrokerUnavailable, "away");
    let change = crate::reconcile::condition::change(&[], &(&away).into(), Some(2), UnixSeconds::default()).unwrap();
    app.status = Some(AgentAppStatus {
        conditions: vec![change.condition],
        ..AgentAppStatus::default()
    });
    let desired = of_launch_token(&token(&["read:orders:1"]), AppView::Present(&app));
    assert_eq!(desired.put.state, PolicyState::Ready);
}

#[test]
fn scopes_over_the_ceiling_are_named_and_only_they() {
    let desired = of_launch_token(
        &token(&["read:orders:1", "write:orders:1", "read:stock:*"]),
        AppView::Present(&app(&["read:orders:*"])),
    );
    assert_eq!(desired.ready.reason, Reason::ScopeExceedsCeiling);
    assert!(
        desired.ready.message.contains("write:orders:1, read:stock:*."),
        "{}",
        desired.ready.message
    );
    assert!(
        !desired.ready.message.contains("read:orders:1,"),
        "{}",
        desired.ready.message
    );
    assert_eq!(desired.put.reason.as_deref(), Some("ScopeExceedsCeiling"));
}

#[test]
fn suspension_comes_first_and_ends_sessions() {
    let mut suspended = token(&["read:orders:1"]);
    suspended.spec.suspend = true;
    let desired = of_launch_token(&suspended, AppView::Missing);
    assert_eq!(desired.put.state, PolicyState::Suspended);
    assert_eq!(desired.ready.reason, Reason::Suspended);

    let mut suspended = app(&["a:b:c"]);
    suspended.spec.suspend = true;
    assert_eq!(of_app(&suspended).put.state, PolicyState::Suspended);
}

#[test]
fn a_selector_becomes_requirements_and_an_empty_one_stays() {
    let mut token = token(&["read:orders:1"]);
    assert_eq!(of_launch_token(&token, AppView::Missing).put.spec.pod_selector, None);
    token.spec.pod_selector = Some(PodSelector::default());
    let empty = of_launch_token(&token, AppView::Missing).put.spec.pod_selector;
    assert_eq!(empty, Some(LabelSelector::default()));
    let selector = json!({
        "matchLabels": {"tier": "web", "app": "orders"},
        "matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}, {"key": "x", "operator": "Exists"}],
    });
    token.spec.pod_selector = serde_json::from_value(selector).unwrap();
    assert_eq!(
        json!(of_launch_token(&token, AppView::Missing).put.spec.pod_selector),
        json!([
            {"key": "app", "operator": "In", "values": ["orders"]},
            {"key": "tier", "operator": "In", "values": ["web"]},
            {"key": "zone", "operator": "NotIn", "values": ["a"]},
            {"key": "x", "operator": "Exists"},
        ])
    );
}

#[test]
fn audiences_and_namespaces_are_in_the_write() {
    let mut app = app(&["read:orders:*"]);
    app.spec.audiences = vec!["https://orders.example.org".into()];
    app.spec.delegation = Some(Delegation {
        allowed_namespaces: vec!["bank".into()],
    });
    let desired = of_app(&app);
    assert_eq!(
        json!(desired.put.spec),
        json!({
            "scopes": ["read:orders:*"], "max_agent_ttl_seconds": 3600,
            "audiences": ["https://orders.example.org"], "delegation_namespaces": ["bank"],
        })
    );
    let withdrawn = desired.for_broker_without(&["audiences", "delegation"]);
    assert!(
        withdrawn.ready.message.contains("spec.audiences, spec.delegation:"),
        "{}",
        withdrawn.ready.message
    );
    assert_eq!(
        json!(withdrawn.put.spec),
        json!({"scopes": ["read:orders:*"], "max_agent_ttl_seconds": 3600})
    );
}

#[test]
fn a_broker_that_lacks_a_field_is_not_left_with_less() {
    let app = app(&["read:orders:*"]);
    let plain = of_launch_token(&token(&["read:orders:1"]), AppView::Present(&app));
    assert_eq!(plain.clone().for_broker_without(&[]), plain);
    let mut selecting = token(&["read:orders:1"]);
    selecting.spec.pod_selector = Some(PodSelector::default());
    let withdrawn = of_launch_token(&selecting, AppView::Present(&app)).for_broker_without(&["podSelector"]);
    assert_eq!(withdrawn.put.state, PolicyState::NotReady);
    assert_eq!(withdrawn.put.reason.as_deref(), Some("BrokerRefused"));
    assert_eq!(
        withdrawn.put.spec, plain.put.spec,
        "as that broker reads it, so that the digests are alike"
    );
    assert_eq!(withdrawn.ready.reason, Reason::BrokerRefused);
    assert!(
        withdrawn.ready.message.contains("doesn't know spec.podSelector:"),
        "{}",
        withdrawn.ready.message
    );
    // What withdraws or ends more stays.
    selecting.spec.suspend = true;
    let suspended = of_launch_token(&selecting, AppView::Present(&app)).for_broker_without(&["podSelector"]);
    assert_eq!(
        (suspended.put.state, suspended.ready.reason),
        (PolicyState::Suspended, Reason::Suspended)
    );
    assert_eq!(suspended.put.spec, plain.put.spec);
}

#[test]
fn the_write_carries_uid_and_generation() {
    let put = of_app(&app(&["a:b:c"])).put;
    assert_eq!((put.uid.as_str(), put.generation), ("app-uid", 2));
    assert_eq!(put.state, PolicyState::Ready);
    assert_eq!(put.reason, None);
}
