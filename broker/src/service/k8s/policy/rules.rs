//! What policies allow: pure decisions over plain data.

use agentwrit_protocol::k8s::{AppSpec, LabelSelector, LaunchTokenSpec, PolicyState, WriteOrder, orch_id};
use agentwrit_protocol::{OrchId, Scope, ScopeSet, Ttl};

use agentwrit_protocol::k8s::DenialKind;
use agentwrit_store::policy::{Accepted, Policy, PolicySpec};
use agentwrit_store::{Attested, EndReason};

use super::ceilings::is_beyond;
use super::client;
use crate::config::Ceiling;

/// What to do with a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fence {
    /// It is the newest: take it.
    Apply,
    /// It was taken before: nothing to do.
    Repeated,
    /// A later writer or write came first.
    Stale,
}

/// Compares a write with what is there: epochs globally, (epoch, sequence) per object.
///
/// `digest` is `None` for a removal, which never equals the write that is held.
pub(crate) fn fence(current_epoch: i64, held: Option<&Policy>, order: WriteOrder, digest: Option<&str>) -> Fence {
    if order.lease_epoch < current_epoch {
        return Fence::Stale;
    }
    match held {
        Some(held) if order < held.order => Fence::Stale,
        Some(held) if order == held.order => {
            if digest == Some(held.digest.as_str()) {
                Fence::Repeated
            } else {
                Fence::Stale
            }
        }
        _ => Fence::Apply,
    }
}

/// The accepted spec after a write: unchanged by one that withdraws.
pub(crate) fn accept(held: Option<&Policy>, state: PolicyState, generation: i64, spec: PolicySpec) -> Option<Accepted> {
    let before = held.and_then(|policy| policy.accepted.as_ref());
    if state == PolicyState::NotReady {
        return before.cloned();
    }
    let unchanged_since = before
        .filter(|before| same_for_sessions(&before.spec, &spec))
        .map_or(generation, |before| before.unchanged_since);
    Some(Accepted {
        spec,
        generation,
        unchanged_since,
        client_instance: None,
    })
}

fn same_for_sessions(before: &PolicySpec, after: &PolicySpec) -> bool {
    match (before, after) {
        (PolicySpec::App(before), PolicySpec::App(after)) => {
            (&before.scopes, before.max_agent_ttl_seconds, &before.audiences)
                == (&after.scopes, after.max_agent_ttl_seconds, &after.audiences)
        }
        (PolicySpec::LaunchToken(before), PolicySpec::LaunchToken(after)) => {
            (&before.app, &before.allowed_scopes, before.max_ttl_seconds)
                == (&after.app, &after.allowed_scopes, after.max_ttl_seconds)
        }
        (PolicySpec::App(_), PolicySpec::LaunchToken(_)) | (PolicySpec::LaunchToken(_), PolicySpec::App(_)) => false,
    }
}

/// Whether a write leaves less authority than the policy gave before: a worse state, or a narrower spec.
pub(crate) fn takes_away(before: &Policy, after: &Policy) -> bool {
    let worse = |state| match state {
        PolicyState::Ready => 0,
        PolicyState::NotReady => 1,
        PolicyState::Suspended => 2,
    };
    let specs = before.accepted.as_ref().zip(after.accepted.as_ref());
    worse(after.state) > worse(before.state) || specs.is_some_and(|(before, after)| narrows(&before.spec, &after.spec))
}

fn narrows(before: &PolicySpec, after: &PolicySpec) -> bool {
    let loses_scopes = |before: &[String], after: &[String]| match (ScopeSet::parse(before), ScopeSet::parse(after)) {
        (Ok(before), Ok(after)) => !after.covers_all(&before),
        // The broker stores none that is malformed; one that is allows nothing.
        (before, _) => before.is_ok(),
    };
    match (before, after) {
        (PolicySpec::App(before), PolicySpec::App(after)) => {
            let keeps = |audience| after.audiences.contains(audience);
            after.max_agent_ttl_seconds < before.max_agent_ttl_seconds
                || !before.audiences.iter().all(keeps)
                || before
                    .delegation_namespaces
                    .iter()
                    .any(|namespace| !after.delegation_namespaces.contains(namespace))
                || loses_scopes(&before.scopes, &after.scopes)
                || client::narrows(before.client.as_ref(), after.client.as_ref())
        }
        (PolicySpec::LaunchToken(before), PolicySpec::LaunchToken(after)) => {
            let keeps = |account| after.service_account_names.contains(account);
            after.app != before.app
                || after.max_ttl_seconds < before.max_ttl_seconds
                || !before.service_account_names.iter().all(keeps)
                || after.max_active_agents.is_some_and(|most| before.max_active_agents.is_none_or(|before| most < before))
                // Which pods another selector leaves out isn't known.
                || (after.pod_selector.is_some() && after.pod_selector != before.pod_selector)
                || loses_scopes(&before.allowed_scopes, &after.allowed_scopes)
        }
        (PolicySpec::App(_), PolicySpec::LaunchToken(_)) | (PolicySpec::LaunchToken(_), PolicySpec::App(_)) => false,
    }
}

/// AgentApp ∩ LaunchToken ∩ ceiling of the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effective {
    /// What all allow, in the LaunchToken's order.
    pub(crate) scopes: ScopeSet,
    /// Longest life of a token.
    pub(crate) max_ttl: Ttl,
    /// ServiceAccounts that a pod must run under.
    pub(crate) service_accounts: Vec<String>,
    /// Labels that a pod must have when it is launched.
    pub(crate) pod_selector: Option<LabelSelector>,
    /// What `aud` of its tokens has beside the broker's own.
    pub(crate) audiences: Vec<String>,
    pub(crate) orch_id: OrchId,
    /// Free text.
    pub(crate) agent_name: String,
}

impl Effective {
    fn of(namespace: &str, app: &AppSpec, token: &LaunchTokenSpec, ceiling: &Ceiling) -> Self {
        let both = intersection(&readable(&app.scopes), &readable(&token.allowed_scopes));
        let scopes = match ceiling {
            Ceiling::Open => both,
            Ceiling::Listed(ceiling) => intersection(ceiling, &both),
            Ceiling::Unlisted => ScopeSet::default(),
        };
        Self {
            scopes,
            max_ttl: Ttl::seconds(app.max_agent_ttl_seconds.min(token.max_ttl_seconds)),
            service_accounts: token.service_account_names.clone(),
            pod_selector: token.pod_selector.clone(),
            audiences: app.audiences.clone(),
            orch_id: orch_id(namespace, &token.app),
            agent_name: token.agent_name.clone(),
        }
    }

    /// Whether a session of this pod with these scopes would still be opened, life aside.
    pub(crate) fn covers(&self, attested: &Attested, scope: &[String]) -> bool {
        attested.orch_id == self.orch_id
            && self.service_accounts.contains(&attested.service_account)
            && ScopeSet::parse(scope).is_ok_and(|scope| self.scopes.covers_all(&scope))
    }
}

/// A malformed item allows nothing.
fn readable(items: &[String]) -> ScopeSet {
    items.iter().filter_map(|item| item.parse().ok()).collect()
}

/// The widest scopes that both cover, in the order of those that are wanted.
fn intersection(ceiling: &ScopeSet, wanted: &ScopeSet) -> ScopeSet {
    let mut both: Vec<Scope> = Vec::new();
    for wanted in wanted {
        let meets: Vec<&Scope> = if ceiling.covers(wanted) {
            vec![wanted]
        } else {
            ceiling.iter().filter(|ceiling| wanted.covers(ceiling)).collect()
        };
        for scope in meets {
            if !both.contains(scope) {
                both.push(scope.clone());
            }
        }
    }
    both.into_iter().collect()
}

/// A LaunchToken with its AgentApp, as the store has them.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) token: Policy,
    /// The AgentApp that its accepted spec names.
    pub(crate) app: Option<Policy>,
    /// Of their namespace, at this moment.
    pub(crate) ceiling: Ceiling,
}

impl Pair {
    /// What a pod may be launched with now.
    pub(crate) fn launchable(&self) -> Result<Effective, DenialKind> {
        match self.token.state {
            PolicyState::Ready => {}
            PolicyState::NotReady => return Err(DenialKind::LaunchTokenNotReady),
            PolicyState::Suspended => return Err(DenialKind::LaunchTokenSuspended),
        }
        match self.app.as_ref().map(|app| app.state) {
            Some(PolicyState::Ready) => {}
            Some(PolicyState::Suspended) => return Err(DenialKind::AppSuspended),
            Some(PolicyState::NotReady) | None => return Err(DenialKind::AppNotReady),
        }
        // As if it had been withdrawn: the ceiling got narrower since it was accepted.
        if self.app.as_ref().is_some_and(|app| is_beyond(&self.ceiling, app)) {
            return Err(DenialKind::AppNotReady);
        }
        if is_beyond(&self.ceiling, &self.token) {
            return Err(DenialKind::LaunchTokenNotReady);
        }
        self.effective().ok_or(DenialKind::AppNotReady)
    }

    /// What the last accepted specs allow, whether withdrawn or not.
    pub(crate) fn effective(&self) -> Option<Effective> {
        let token = self.token.accepted.as_ref()?.spec.launch_token()?;
        let app = self.app.as_ref()?.accepted.as_ref()?.spec.app()?;
        Some(Effective::of(&self.token.key.namespace, app, token, &self.ceiling))
    }

    fn suspended(&self) -> Option<DenialKind> {
        if self.token.state == PolicyState::Suspended {
            return Some(DenialKind::LaunchTokenSuspended);
        }
        let app = self.app.as_ref()?;
        (app.state == PolicyState::Suspended).then_some(DenialKind::AppSuspended)
    }

    /// Whether what is effective covers a session; in a namespace that may have nothing, not even one without scopes.
    fn covers(&self, effective: &Effective, attested: &Attested, scope: &[String]) -> bool {
        !self.ceiling.forbids_all() && effective.covers(attested, scope)
    }

    /// Whether a session must end now, and why: suspended, or no longer covered.
    pub(crate) fn ends(&self, attested: &Attested, scope: &[String]) -> Option<EndReason> {
        if self.suspended().is_some() {
            return Some(EndReason::Suspended);
        }
        match self.effective() {
            Some(effective) if self.covers(&effective, attested, scope) => None,
            Some(_) | None => Some(EndReason::PolicyChanged),
        }
    }

    /// Whether a launch or session that was made under this pair may go on under it as it is now.
    pub(crate) fn still_stands(&self, attested: &Attested, scope: &[String]) -> Result<(), DenialKind> {
        if self.token.uid != attested.policy_uid {
            return Err(DenialKind::PolicyRemoved);
        }
        if let Some(suspended) = self.suspended() {
            return Err(suspended);
        }
        let effective = self.effective().ok_or(DenialKind::PolicyRemoved)?;
        let same_app = self.app.as_ref().is_some_and(|app| app.uid == attested.app_uid);
        let unchanged = |policy: Option<&Policy>, generation: i64| {
            policy
                .and_then(|policy| policy.accepted.as_ref())
                .is_some_and(|accepted| accepted.unchanged_since <= generation)
        };
        let stands = same_app
            && self.covers(&effective, attested, scope)
            && unchanged(Some(&self.token), attested.policy_generation)
            && unchanged(self.app.as_ref(), attested.app_generation);
        if stands { Ok(()) } else { Err(DenialKind::PolicyChanged) }
    }
}

#[cfg(test)]
mod tests;
