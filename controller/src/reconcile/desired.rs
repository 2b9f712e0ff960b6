//! What the broker should hold of a custom resource, and what its condition then says: decided from objects alone.

use agentwrit_crds::{AgentApp, LaunchToken};
use agentwrit_protocol::ScopeSet;
use agentwrit_protocol::k8s::{AppSpec, LaunchTokenSpec, PolicyState, PutPolicy, WriteOrder};
use kube::ResourceExt;

use crate::reconcile::condition::{Ready, Reason, present};

/// What the broker should hold, and the condition once it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Desired<S> {
    /// The write; its order is set when it is sent.
    pub(crate) put: PutPolicy<S>,
    /// The condition once the broker has it.
    pub(crate) ready: Ready,
}

/// The app of a `LaunchToken`, as the cache shows it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AppView<'a> {
    /// There is none of this name.
    Missing,
    /// The object doesn't have the form of an `AgentApp`.
    Unreadable,
    /// There it is.
    Present(&'a AgentApp),
}

/// What the broker should hold of an `AgentApp`.
pub(crate) fn of_app(app: &AgentApp) -> Desired<AppSpec> {
    let (state, reason, ready) = if app.spec.suspend {
        let ready = Ready::new(
            Reason::Suspended,
            "spec.suspend is true: no agent of this app is launched, and the live ones were ended.",
        );
        (PolicyState::Suspended, Some(Reason::Suspended), ready)
    } else {
        let ready = Ready::new(Reason::Synced, "The broker enforces this ceiling.");
        (PolicyState::Ready, None, ready)
    };
    let spec = AppSpec {
        scopes: app.spec.scopes.clone(),
        max_agent_ttl_seconds: app.spec.max_agent_ttl_seconds,
    };
    Desired {
        put: put(app, state, reason, spec),
        ready,
    }
}

/// What the broker should hold of a `LaunchToken`, given its app.
pub(crate) fn of_launch_token(token: &LaunchToken, app: AppView<'_>) -> Desired<LaunchTokenSpec> {
    let name = &token.spec.app_ref.name;
    let (state, ready) = if token.spec.suspend {
        let message = "spec.suspend is true: no pod is launched with it, and the live agents were ended.";
        (PolicyState::Suspended, Ready::new(Reason::Suspended, message))
    } else {
        match app {
            AppView::Missing => withdrawn(
                Reason::AppNotFound,
                format!(
                    "There is no AgentApp {name} in this namespace; create it, or correct spec.appRef.name in a new LaunchToken."
                ),
            ),
            AppView::Unreadable => withdrawn(
                Reason::AppNotReady,
                format!("AgentApp {name} can't be read: it doesn't have the form of its kind."),
            ),
            AppView::Present(app) => under(token, app),
        }
    };
    let reason = match state {
        PolicyState::Ready => None,
        PolicyState::NotReady | PolicyState::Suspended => Some(ready.reason),
    };
    let spec = LaunchTokenSpec {
        app: name.clone(),
        agent_name: token.spec.agent_name.clone(),
        allowed_scopes: token.spec.allowed_scopes.clone(),
        max_ttl_seconds: token.spec.max_ttl_seconds,
        service_account_names: token.spec.service_account_names.clone(),
    };
    Desired {
        put: put(token, state, reason, spec),
        ready,
    }
}

fn withdrawn(reason: Reason, message: String) -> (PolicyState, Ready) {
    (PolicyState::NotReady, Ready::new(reason, message))
}

fn under(token: &LaunchToken, app: &AgentApp) -> (PolicyState, Ready) {
    let name = app.name_any();
    if app.metadata.deletion_timestamp.is_some() {
        return withdrawn(Reason::AppNotReady, format!("AgentApp {name} is being deleted."));
    }
    if let Some(detail) = refused(app) {
        return withdrawn(
            Reason::AppNotReady,
            format!("The broker refused AgentApp {name}: {detail}"),
        );
    }
    let uncovered = uncovered(token, app);
    if !uncovered.is_empty() {
        return withdrawn(
            Reason::ScopeExceedsCeiling,
            format!(
                "AgentApp {name} doesn't cover: {}. Take them out of spec.allowedScopes, or add them to spec.scopes of the AgentApp.",
                uncovered.join(", ")
            ),
        );
    }
    if app.spec.suspend {
        // The broker ends and refuses by the app's own state; withdrawing this one too would hide why.
        let message =
            format!("AgentApp {name} is suspended: no pod is launched with it, and the live agents were ended.");
        return (PolicyState::Ready, Ready::new(Reason::Suspended, message));
    }
    let mut message = "Pods can be launched with it.".to_owned();
    if app.spec.max_agent_ttl_seconds < token.spec.max_ttl_seconds {
        message = format!(
            "Pods can be launched with it; AgentApp {name} caps maxTTLSeconds to {}.",
            app.spec.max_agent_ttl_seconds
        );
    }
    (PolicyState::Ready, Ready::new(Reason::Synced, message))
}

/// The broker's reason, when it refused the app's present generation.
fn refused(app: &AgentApp) -> Option<&str> {
    let condition = present(&app.status.as_ref()?.conditions)?;
    let current = condition.observed_generation == app.metadata.generation;
    (current && condition.reason == Reason::BrokerRefused.as_str()).then_some(condition.message.as_str())
}

/// The token's scopes that the app's ceiling doesn't cover; also whatever isn't a scope at all.
fn uncovered(token: &LaunchToken, app: &AgentApp) -> Vec<String> {
    let ceiling: ScopeSet = app.spec.scopes.iter().filter_map(|scope| scope.parse().ok()).collect();
    token
        .spec
        .allowed_scopes
        .iter()
        .filter(|text| !text.parse().is_ok_and(|scope| ceiling.covers(&scope)))
        .cloned()
        .collect()
}

fn put<K: ResourceExt, S>(object: &K, state: PolicyState, reason: Option<Reason>, spec: S) -> PutPolicy<S> {
    PutPolicy {
        uid: object.uid().unwrap_or_default().into(),
        generation: object.meta().generation.unwrap_or_default(),
        order: WriteOrder {
            lease_epoch: 0,
            sequence: 0,
        },
        state,
        reason: reason.map(|reason| reason.as_str().to_owned()),
        spec,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentwrit_crds::{AgentAppSpec, AgentAppStatus, AppReference, DeletionPolicy};
    use agentwrit_protocol::UnixSeconds;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    fn app(scopes: &[&str]) -> AgentApp {
        let mut app = AgentApp::new(
            "orders",
            AgentAppSpec {
                scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
                max_agent_ttl_seconds: 3600,
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
        let mut was_refused = good.clone();
        let refusal = Ready::new(Reason::BrokerRefused, "no");
        let change =
            crate::reconcile::condition::change(&[], &(&refusal).into(), Some(2), UnixSeconds::default()).unwrap();
        was_refused.status = Some(AgentAppStatus {
            conditions: vec![change.condition],
            ..AgentAppStatus::default()
        });
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
        let change =
            crate::reconcile::condition::change(&[], &(&away).into(), Some(2), UnixSeconds::default()).unwrap();
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
    fn the_write_carries_uid_and_generation() {
        let put = of_app(&app(&["a:b:c"])).put;
        assert_eq!((put.uid.as_str(), put.generation), ("app-uid", 2));
        assert_eq!(put.state, PolicyState::Ready);
        assert_eq!(put.reason, None);
    }
}
