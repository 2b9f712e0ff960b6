//! What the broker should hold of a custom resource, and what its condition then says: decided from objects alone.

use agentwrit_crds::{AgentApp, LaunchToken};
use agentwrit_protocol::ScopeSet;
use agentwrit_protocol::k8s::{
    AppSpec, HasPolicyFields, LabelOperator, LabelRequirement, LabelSelector, LaunchTokenSpec, PolicyState, PutPolicy,
    WriteOrder,
};
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

impl<S: HasPolicyFields> Desired<S> {
    /// The same for a broker of an earlier version, which doesn't know these fields and would grant more than they
    /// allow: nothing is launched by it until the broker is upgraded.
    pub(crate) fn for_broker_without(self, unknown: &[&str]) -> Self {
        if unknown.is_empty() {
            return self;
        }
        let mut desired = self;
        desired.put.spec = desired.put.spec.without_fields();
        if desired.put.state == PolicyState::Ready {
            desired.put.state = PolicyState::NotReady;
            desired.put.reason = Some(Reason::BrokerRefused.as_str().to_owned());
            desired.ready = Ready::new(
                Reason::BrokerRefused,
                format!(
                    "The broker is of an earlier version, which doesn't know {}: no pod is launched until the broker is \
                     upgraded, or without them.",
                    unknown
                        .iter()
                        .map(|field| format!("spec.{field}"))
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            );
        }
        desired
    }
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
        audiences: app.spec.audiences.clone(),
        delegation_namespaces: app
            .spec
            .delegation
            .as_ref()
            .map_or_else(Vec::new, |delegation| delegation.allowed_namespaces.clone()),
        // What a client logs in with is known once its Secret is: `crate::credentials`.
        client: None,
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
        pod_selector: token.spec.pod_selector.as_ref().map(selector),
        max_active_agents: token.spec.max_active_agents,
    };
    Desired {
        put: put(token, state, reason, spec),
        ready,
    }
}

/// The selector as the broker reads it. The API server takes no operator but the four.
fn selector(spec: &agentwrit_crds::PodSelector) -> LabelSelector {
    let labels = spec.match_labels.iter().map(|(key, value)| LabelRequirement {
        key: key.clone(),
        operator: LabelOperator::In,
        values: vec![value.clone()],
    });
    let expressions = spec.match_expressions.iter().filter_map(|expression| {
        Some(LabelRequirement {
            key: expression.key.clone(),
            operator: LabelOperator::from_text(&expression.operator)?,
            values: expression.values.clone(),
        })
    });
    LabelSelector(labels.chain(expressions).collect())
}

fn withdrawn(reason: Reason, message: String) -> (PolicyState, Ready) {
    (PolicyState::NotReady, Ready::new(reason, message))
}

fn under(token: &LaunchToken, app: &AgentApp) -> (PolicyState, Ready) {
    let name = app.name_any();
    if app.metadata.deletion_timestamp.is_some() {
        return withdrawn(
            Reason::AppNotReady,
            format!(
                "AgentApp {name} is being deleted: its live agents end, and no pod is launched with this LaunchToken until there is an AgentApp of that name again."
            ),
        );
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
    let refused = [Reason::BrokerRefused, Reason::ScopeExceedsNamespaceCeiling];
    let refused = refused.iter().any(|reason| condition.reason == reason.as_str());
    (current && refused).then_some(condition.message.as_str())
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
mod tests;
