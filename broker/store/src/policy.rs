//! Policies of the custom resources, and what the broker remembers about pods.

use std::time::Duration;

use agentwrit_protocol::apps::SUBJECT_PREFIX;
use agentwrit_protocol::k8s::clients::client_id;
use agentwrit_protocol::k8s::{
    AppClient, AppSpec, Denial, LaunchTokenSpec, LivePod, PolicyKind, PolicyState, WriteOrder,
};
use agentwrit_protocol::{Jti, PodUid, PolicyUid, SessionId, UnixMillis};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{FromStored, KnownPod, Result, Session};

/// Sessions that a pod is known by when their ids don't have its mark: Kubernetes gives no such UID.
pub const MAX_UNMARKED_SESSIONS: i64 = 100;
/// Rows that the feed of refusals keeps.
pub const MAX_DENIALS: i64 = 1_000;
/// How long a supersession counts; longer than any window that is asked for.
pub const SUPERSESSION: Duration = Duration::from_hours(1);

/// A kind, as a store holds it.
pub const fn kind_text(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::App => "app",
        PolicyKind::LaunchToken => "launch_token",
    }
}

impl FromStored for PolicyKind {
    const WHAT: &'static str = "policy kind";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "app" => Some(Self::App),
            "launch_token" => Some(Self::LaunchToken),
            _ => None,
        }
    }
}

/// A state, as a store holds it.
pub const fn state_text(state: PolicyState) -> &'static str {
    match state {
        PolicyState::Ready => "ready",
        PolicyState::NotReady => "not_ready",
        PolicyState::Suspended => "suspended",
    }
}

impl FromStored for PolicyState {
    const WHAT: &'static str = "policy state";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "ready" => Some(Self::Ready),
            "not_ready" => Some(Self::NotReady),
            "suspended" => Some(Self::Suspended),
            _ => None,
        }
    }
}

/// What to enforce, by kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "spec", rename_all = "snake_case")]
pub enum PolicySpec {
    /// Of an AgentApp.
    App(AppSpec),
    /// Of a LaunchToken.
    LaunchToken(LaunchTokenSpec),
}

impl PolicySpec {
    /// Which kind it is.
    pub const fn kind(&self) -> PolicyKind {
        match self {
            Self::App(_) => PolicyKind::App,
            Self::LaunchToken(_) => PolicyKind::LaunchToken,
        }
    }

    /// The AgentApp's spec, if it is one.
    pub const fn app(&self) -> Option<&AppSpec> {
        match self {
            Self::App(spec) => Some(spec),
            Self::LaunchToken(_) => None,
        }
    }

    /// The LaunchToken's spec, if it is one.
    pub const fn launch_token(&self) -> Option<&LaunchTokenSpec> {
        match self {
            Self::App(_) => None,
            Self::LaunchToken(spec) => Some(spec),
        }
    }
}

/// The last spec that was sent with a state other than `not_ready`: renewals go by it while the policy is withdrawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// What to enforce.
    pub spec: PolicySpec,
    /// `metadata.generation` that it came with.
    pub generation: i64,
    /// The first generation since which nothing changed that matters to a session: its scopes, life and app.
    pub unchanged_since: i64,
    /// Tells the client of an AgentApp from one that it had before: tokens of that one stay dead. There as long as the
    /// spec has a client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_instance: Option<String>,
}

/// Where a policy is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PolicyKey {
    /// Which kind.
    pub kind: PolicyKind,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl PolicyKey {
    /// The key of an AgentApp.
    pub fn app(namespace: &str, name: &str) -> Self {
        Self::new(PolicyKind::App, namespace, name)
    }

    /// The key of a LaunchToken.
    pub fn launch_token(namespace: &str, name: &str) -> Self {
        Self::new(PolicyKind::LaunchToken, namespace, name)
    }

    /// A key.
    pub fn new(kind: PolicyKind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl std::fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            PolicyKind::App => "AgentApp",
            PolicyKind::LaunchToken => "LaunchToken",
        };
        write!(f, "{kind} {}/{}", self.namespace, self.name)
    }
}

/// A policy as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Where it is found.
    pub key: PolicyKey,
    /// `metadata.uid`.
    pub uid: PolicyUid,
    /// `metadata.generation` of the last write.
    pub generation: i64,
    /// The last write.
    pub order: WriteOrder,
    /// Whether it may be used.
    pub state: PolicyState,
    /// Why not: a condition reason.
    pub reason: Option<String>,
    /// Of the last write.
    pub digest: String,
    /// What to enforce; `None` until it was ready once.
    pub accepted: Option<Accepted>,
    /// For an AgentApp: its id among the broker's apps.
    pub app_id: Option<String>,
    /// Registrations ever made under it.
    pub issued: i64,
    /// Up to how many of them the agents under it need not be counted: as many places were free when they were.
    pub room_until: i64,
}

impl Policy {
    /// What the client of an AgentApp logs in with.
    pub fn client(&self) -> Option<&AppClient> {
        self.accepted.as_ref()?.spec.app()?.client.as_ref()
    }

    /// The id that this client logs in by.
    pub fn client_id(&self) -> Option<String> {
        self.client().map(|_| client_id(&self.uid))
    }

    /// `sub` of the client's tokens: `app:<app_id>.<instance>`.
    pub fn client_subject(&self) -> Option<String> {
        self.client()?;
        let instance = self.accepted.as_ref()?.client_instance.as_ref()?;
        Some(format!("{SUBJECT_PREFIX}{}.{instance}", self.app_id.as_ref()?))
    }
}

/// The AgentApp whose client may have this subject; `None` for those of `/v1/admin/apps`, whose ids have no dot.
pub fn app_of_subject(subject: &str) -> Option<PolicyKey> {
    let app_id = subject.strip_prefix(SUBJECT_PREFIX)?.strip_prefix("app-")?;
    let (namespace, rest) = app_id.split_once('.')?;
    let (name, _) = rest.split_once('.')?.0.rsplit_once('-')?;
    Some(PolicyKey::app(namespace, name))
}

/// A refusal, before it has a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDenial {
    /// Who was refused.
    pub pod: LivePod,
    /// LaunchToken that it named.
    pub policy: String,
    /// The precise kind.
    pub error_kind: &'static str,
    /// A sentence for the Event.
    pub message: String,
}

/// Whether anything may be given to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodStanding {
    /// It may.
    Stands,
    /// The pod has ended, also when it was quarantined before.
    Ended,
    /// The pod is quarantined, or its task is revoked: that may have been done while attestation was off.
    Quarantined,
}

/// Repository of policies and of what is remembered about pods.
#[async_trait]
pub trait Policies {
    /// The policy of that kind and name.
    async fn policy(&mut self, key: &PolicyKey) -> Result<Option<Policy>>;
    /// The AgentApp whose client has this id.
    async fn policy_by_client_id(&mut self, client_id: &str) -> Result<Option<Policy>>;
    /// All policies, by kind, namespace and name.
    async fn policies(&mut self) -> Result<Vec<Policy>>;
    /// The LaunchTokens whose accepted spec names this app.
    async fn launch_tokens_of_app(&mut self, namespace: &str, app: &str) -> Result<Vec<Policy>>;
    /// Writes a policy in place of the one of that kind and name.
    async fn put_policy(&mut self, policy: &Policy) -> Result<()>;
    /// Removes a policy.
    async fn remove_policy(&mut self, key: &PolicyKey) -> Result<()>;
    /// Counts one registration under the policy with this UID.
    async fn count_issued(&mut self, policy_uid: &PolicyUid) -> Result<()>;
    /// Sets [`Policy::room_until`] of the policy with this UID.
    async fn set_room_until(&mut self, policy_uid: &PolicyUid, issued: i64) -> Result<()>;
    /// Remembers until `until` that no policy with this UID may come back.
    async fn tombstone_policy(&mut self, uid: &PolicyUid, until: UnixMillis) -> Result<()>;
    /// Whether a policy with this UID was removed.
    async fn policy_has_tombstone(&mut self, uid: &PolicyUid) -> Result<bool>;

    /// Remembers until `until` that a pod ended, and forgets all else about it; false when it had ended before.
    async fn tombstone_pod(&mut self, pod_uid: &PodUid, until: UnixMillis) -> Result<bool>;
    /// Whether a pod has ended.
    async fn pod_has_tombstone(&mut self, pod_uid: &PodUid) -> Result<bool>;
    /// Whether anything may be given to a pod.
    async fn pod_standing(&mut self, pod_uid: &PodUid) -> Result<PodStanding>;
    /// Remembers a pod until it has a tombstone, how it launched last, and keeps its quarantine as long.
    async fn know_pod(&mut self, pod: &KnownPod) -> Result<()>;
    /// Whether a pod is remembered.
    async fn pod_is_known(&mut self, pod_uid: &PodUid) -> Result<bool>;
    /// The pods that are remembered.
    async fn known_pods(&mut self) -> Result<Vec<LivePod>>;
    /// Remembers whose session this is, until the pod has a tombstone; the pod must be known. A session whose id has the
    /// pod's mark takes no row.
    async fn know_session_of_pod(&mut self, pod_uid: &PodUid, sid: &SessionId) -> Result<()>;
    /// UIDs of the pods one of whose sessions has or had the token with this id: one, but where marks are the same.
    async fn pods_of_token(&mut self, jti: &Jti) -> Result<Vec<PodUid>>;
    /// Quarantines a pod until it has a tombstone; one that isn't known until `until`. False when it was quarantined for as
    /// long before.
    async fn quarantine_pod(&mut self, pod_uid: &PodUid, by: &str, until: UnixMillis) -> Result<bool>;
    /// Whether a pod is quarantined.
    async fn pod_is_quarantined(&mut self, pod_uid: &PodUid) -> Result<bool>;
    /// Lifts the quarantine; false when there was none.
    async fn release_pod(&mut self, pod_uid: &PodUid) -> Result<bool>;
    /// When the pod's bucket of launches is full again.
    async fn launches_full_at(&mut self, pod_uid: &PodUid) -> Result<Option<UnixMillis>>;
    /// Sets it.
    async fn set_launches_full_at(&mut self, pod_uid: &PodUid, full_at: UnixMillis) -> Result<()>;
    /// The pod's youngest session, ended or not.
    async fn last_session_of_pod(&mut self, pod_uid: &PodUid) -> Result<Option<Session>>;
    /// Counts a supersession of the pod's session; the number of those since `since`, this one included.
    async fn count_supersession(&mut self, pod_uid: &PodUid, since: UnixMillis) -> Result<i64>;

    /// Adds a refusal to the feed.
    async fn add_denial(&mut self, denial: &NewDenial) -> Result<()>;
    /// At most `limit` refusals after a cursor, oldest first.
    async fn denials(&mut self, after: i64, limit: i64) -> Result<Vec<Denial>>;
    /// Forgets what has had its time: tombstones, full buckets, old refusals.
    async fn purge_policy_rows(&mut self) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_leads_to_its_app() {
        let key = PolicyKey::app("shop", "order-reader");
        for (subject, wanted) in [
            ("app:app-shop.order-reader-1a2b3c.9f8e7d", Some(&key)),
            // Of an app of /v1/admin/apps; of no client; of nobody.
            ("app:app-shop-1a2b3c", None),
            ("app:app-shop.order-reader-1a2b3c", None),
            ("app-shop.order-reader-1a2b3c.9f8e7d", None),
            ("admin", None),
            ("app:", None),
        ] {
            assert_eq!(app_of_subject(subject).as_ref(), wanted, "{subject}");
        }
    }
}
