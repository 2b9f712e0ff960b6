//! The two kinds, as the one reconciler sees them.

use std::fmt::Debug;
use std::sync::Arc;

use agentwrit_crds::{AgentApp, DeletionPolicy, LaunchToken};
use agentwrit_protocol::k8s::{AppSpec, LaunchTokenSpec, PolicySummary};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::credentials::Converged;
use crate::policy_client::PolicySpec;
use crate::reconcile::TokensByApp;
use crate::reconcile::condition::Wanted;
use crate::reconcile::desired::{self, AppView, Desired};
use crate::reconcile::token_size;

/// The caches of both kinds.
#[derive(Clone)]
pub(crate) struct Caches {
    pub(crate) apps: Store<DeserializeGuard<AgentApp>>,
    pub(crate) launch_tokens: Store<DeserializeGuard<LaunchToken>>,
    pub(crate) tokens_by_app: Arc<TokensByApp>,
}

impl Debug for Caches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caches").finish_non_exhaustive()
    }
}

impl Caches {
    /// The `LaunchToken`s of a namespace, those too that can't be read.
    pub(crate) fn launch_tokens_in(&self, namespace: &str) -> Vec<ObjectRef<DeserializeGuard<LaunchToken>>> {
        let names = self.tokens_by_app.within(namespace);
        names
            .iter()
            .map(|name| ObjectRef::new(name).within(namespace))
            .collect()
    }

    /// The app that a `LaunchToken` names.
    fn app_of(&self, token: &LaunchToken) -> Option<Arc<DeserializeGuard<AgentApp>>> {
        let namespace = token.namespace().unwrap_or_default();
        let reference = ObjectRef::<DeserializeGuard<AgentApp>>::new(&token.spec.app_ref.name).within(&namespace);
        self.apps.get(&reference)
    }

    /// The names of the `LaunchToken`s of an app that aren't being deleted themselves, in order.
    fn remaining_launch_tokens_of(&self, namespace: &str, app: &str) -> Vec<String> {
        let all = self.launch_tokens_of(namespace, app).into_iter();
        let stays = |reference: &ObjectRef<DeserializeGuard<LaunchToken>>| {
            let found = self.launch_tokens.get(reference);
            found.is_some_and(|token| token.meta().deletion_timestamp.is_none())
        };
        let mut names: Vec<String> = all.filter(stays).map(|reference| reference.name).collect();
        names.sort_unstable();
        names
    }

    /// The `LaunchToken`s of an app.
    pub(crate) fn launch_tokens_of(&self, namespace: &str, app: &str) -> Vec<ObjectRef<DeserializeGuard<LaunchToken>>> {
        let names = self.tokens_by_app.of(namespace, app);
        let references = names.iter().map(|name| ObjectRef::new(name).within(namespace));
        let refers = |token: &LaunchToken| token.spec.app_ref.name == app;
        let is_there = |reference: &ObjectRef<DeserializeGuard<LaunchToken>>| {
            let found = self.launch_tokens.get(reference);
            found.is_some_and(|guard| guard.0.as_ref().is_ok_and(refers))
        };
        references.filter(is_there).collect()
    }
}

/// So many `LaunchTokens` are named where there may be thousands.
const MAX_NAMED: usize = 3;

/// A custom resource whose policy the broker holds.
pub(crate) trait PolicyResource:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// The part that the broker enforces.
    type Spec: PolicySpec;

    /// What the broker should hold.
    fn desired(&self, caches: &Caches) -> Desired<Self::Spec>;
    /// Brings what a client logs in with in line with the object, for what is desired. Only AgentApps have any.
    fn converge_credentials(
        &self,
        _desired: &mut Desired<Self::Spec>,
        _context: &Context,
    ) -> impl Future<Output = Converged> + Send {
        std::future::ready(Converged::default())
    }

    /// Removes what is left of it, once the broker knows.
    fn remove_leftovers(&self, _converged: &Converged, _context: &Context) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// The id that its client logs in by, as the status has it.
    fn client_id(&self) -> Option<&str> {
        None
    }

    fn conditions(&self) -> &[Condition];
    fn observed_generation(&self) -> Option<i64>;
    /// status.appId, of a kind that has it.
    fn app_id(&self) -> Option<&str>;
    /// Whether live agents end when the object is deleted.
    fn revokes_on_delete(&self) -> bool;
    /// What a person should know of it beside [`PolicyResource::desired`]; `issuer` is that of the tokens.
    fn warning(&self, caches: &Caches, issuer: &str) -> Option<Wanted>;
    /// Whether its pods need the CA `ConfigMap` in its namespace.
    const NEEDS_CA: bool;
    /// Who still needs it although it is being deleted, in sentences.
    fn left_behind(&self, _caches: &Caches) -> Option<String> {
        None
    }
    /// Names of the counts in the status.
    const COUNTS: [&'static str; 2];
    /// Counts for the status.
    fn counts(&self, caches: &Caches, held: &PolicySummary) -> Map<String, Value>;
    /// The present status.
    fn status_value(&self) -> Value;
}

impl PolicyResource for AgentApp {
    type Spec = AppSpec;
    const NEEDS_CA: bool = false;
    const COUNTS: [&'static str; 2] = ["launchTokens", "activeAgents"];

    fn desired(&self, _: &Caches) -> Desired<AppSpec> {
        desired::of_app(self)
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    fn observed_generation(&self) -> Option<i64> {
        self.status.as_ref()?.observed_generation
    }

    fn warning(&self, _: &Caches, _: &str) -> Option<Wanted> {
        None
    }

    fn app_id(&self) -> Option<&str> {
        self.status.as_ref()?.app_id.as_deref()
    }

    async fn converge_credentials(&self, desired: &mut Desired<AppSpec>, context: &Context) -> Converged {
        let converged = context.credentials.converge(self, context).await;
        desired.put.spec.client.clone_from(&converged.client);
        if let Some(problem) = converged.problem.as_ref().filter(|_| desired.ready.is_true()) {
            desired.ready.clone_from(problem);
        }
        converged
    }

    async fn remove_leftovers(&self, converged: &Converged, context: &Context) {
        context.credentials.remove_leftovers(self, converged, context).await;
    }

    fn client_id(&self) -> Option<&str> {
        self.status.as_ref()?.client_id.as_deref()
    }

    fn revokes_on_delete(&self) -> bool {
        true
    }

    fn counts(&self, caches: &Caches, held: &PolicySummary) -> Map<String, Value> {
        let launch_tokens = caches
            .launch_tokens_of(&self.namespace().unwrap_or_default(), &self.name_any())
            .len();
        Map::from_iter([
            ("launchTokens".to_owned(), json!(launch_tokens)),
            ("activeAgents".to_owned(), json!(held.active_agents)),
        ])
    }

    fn left_behind(&self, caches: &Caches) -> Option<String> {
        let names = caches.remaining_launch_tokens_of(&self.namespace().unwrap_or_default(), &self.name_any());
        left_behind(&names)
    }

    fn status_value(&self) -> Value {
        json!(self.status)
    }
}

/// What a person should know of the `LaunchTokens` of an app that goes.
fn left_behind(names: &[String]) -> Option<String> {
    let (who, it) = match names.len() {
        0 => return None,
        1 => ("LaunchToken still names", "it"),
        _ => ("LaunchTokens still name", "them"),
    };
    let first: Vec<&str> = names.iter().take(MAX_NAMED).map(String::as_str).collect();
    let more = match names.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "{} {who} this AgentApp: {}{more}. No pod is launched with {it} until there is an AgentApp of this name again.",
        names.len(),
        first.join(", ")
    ))
}

impl PolicyResource for LaunchToken {
    type Spec = LaunchTokenSpec;
    const NEEDS_CA: bool = true;
    const COUNTS: [&'static str; 2] = ["activeAgents", "issued"];

    fn desired(&self, caches: &Caches) -> Desired<LaunchTokenSpec> {
        let found = caches.app_of(self);
        let view = match found.as_deref() {
            None => AppView::Missing,
            Some(DeserializeGuard(Err(_))) => AppView::Unreadable,
            Some(DeserializeGuard(Ok(app))) => AppView::Present(app),
        };
        desired::of_launch_token(self, view)
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    fn observed_generation(&self) -> Option<i64> {
        self.status.as_ref()?.observed_generation
    }

    fn warning(&self, caches: &Caches, issuer: &str) -> Option<Wanted> {
        let app = caches.app_of(self);
        let audiences = match app.as_deref() {
            Some(DeserializeGuard(Ok(app))) => app.spec.audiences.as_slice(),
            Some(DeserializeGuard(Err(_))) | None => &[],
        };
        token_size::warning(self, audiences, issuer)
    }

    fn app_id(&self) -> Option<&str> {
        None
    }

    fn revokes_on_delete(&self) -> bool {
        self.spec.deletion_policy == DeletionPolicy::Revoke
    }

    fn counts(&self, _: &Caches, held: &PolicySummary) -> Map<String, Value> {
        Map::from_iter([
            ("activeAgents".to_owned(), json!(held.active_agents)),
            ("issued".to_owned(), json!(held.issued)),
        ])
    }

    fn status_value(&self) -> Value {
        json!(self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_three_launch_tokens_are_named_and_all_counted() {
        let names = |count: usize| (1..=count).map(|number| format!("reader-{number}")).collect::<Vec<_>>();
        assert_eq!(left_behind(&names(0)), None);
        for (count, begins) in [
            (
                1,
                "1 LaunchToken still names this AgentApp: reader-1. No pod is launched with it ",
            ),
            (
                3,
                "3 LaunchTokens still name this AgentApp: reader-1, reader-2, reader-3. No pod is launched with them ",
            ),
            (
                5000,
                "5000 LaunchTokens still name this AgentApp: reader-1, reader-2, reader-3 and 4997 more. No pod ",
            ),
        ] {
            let sentence = left_behind(&names(count)).unwrap();
            assert!(sentence.starts_with(begins), "{sentence}");
            assert!(sentence.len() < 400, "{sentence}");
        }
    }
}
