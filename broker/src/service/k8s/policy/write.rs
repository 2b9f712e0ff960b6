//! Policies as the controller writes them: fenced, all or nothing, and felt at once by the sessions under them.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::excerpt::{EVENT_SCOPES_BYTES, list_scopes};
use agentwrit_protocol::k8s::{PolicyKind, PolicyState, PutPolicyResponse, RevokedResponse, WriteOrder, orch_id};
use agentwrit_protocol::{PolicyUid, lower_hex};
use agentwrit_store::policy::{Policy, PolicyKey, PolicySpec};
use agentwrit_store::{Command, EndReason, MetaKey, Result, Session, Store, StoreError, TakesAuthority, Tx};
use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::input::{InputError, Write};
use super::rules::{Fence, Pair, accept, fence, takes_away};
use super::{ceilings, client, crossings};
use crate::config::{Ceiling, ScopeCeilings};
use crate::service::actor::Actor;
use crate::service::k8s::error::{K8sError, WriteRefusal};
use crate::service::session::lineage::root;

/// How long a removed object's UID is remembered: no writer's queue is as old as 30 days.
const POLICY_TOMBSTONE: Duration = Duration::from_hours(30 * 24);

/// Answer to one write.
pub(crate) type Written<T> = std::result::Result<T, WriteRefusal>;

/// Writes policies in order, each all or nothing, in one transaction.
#[derive(Debug)]
pub(crate) struct ApplyPolicies {
    /// The writes; those refused already keep their place.
    pub(crate) writes: Vec<std::result::Result<Write, InputError>>,
    pub(crate) actor: Actor,
    pub(crate) ceilings: Arc<ScopeCeilings>,
}

#[async_trait]
impl Command for ApplyPolicies {
    type Outcome = Vec<Written<PutPolicyResponse>>;
    /// Some of the writes do; when nothing else may be written, the others are refused one by one. Not repeated by the
    /// store, for a copy may be a megabyte: the controller tries again by itself.
    const TAKES_AUTHORITY: TakesAuthority<Self> = TakesAuthority::Once;

    async fn run(self, tx: &mut dyn Tx) -> Result<Self::Outcome> {
        let mut answers = Vec::with_capacity(self.writes.len());
        for write in self.writes {
            answers.push(match write {
                Ok(write) => apply(tx, write, &self.actor, &self.ceilings).await?,
                Err(error) => Err(error.into()),
            });
        }
        Ok(answers)
    }
}

pub(crate) async fn put(
    store: &Store,
    write: Write,
    actor: Actor,
    ceilings: Arc<ScopeCeilings>,
) -> std::result::Result<PutPolicyResponse, K8sError> {
    let command = ApplyPolicy { write, actor, ceilings };
    Ok(store.commit(command).await??)
}

/// Writes policies in order, each with an answer of its own.
pub(crate) async fn put_all(
    store: &Store,
    items: Vec<std::result::Result<Write, InputError>>,
    actor: Actor,
    ceilings: Arc<ScopeCeilings>,
) -> Result<Vec<Written<PutPolicyResponse>>> {
    let command = ApplyPolicies {
        writes: items,
        actor,
        ceilings,
    };
    store.commit(command).await
}

/// Writes one policy. The controller tries again by itself.
struct ApplyPolicy {
    write: Write,
    actor: Actor,
    ceilings: Arc<ScopeCeilings>,
}

#[async_trait]
impl Command for ApplyPolicy {
    type Outcome = Written<PutPolicyResponse>;
    const TAKES_AUTHORITY: TakesAuthority<Self> = TakesAuthority::Once;

    async fn run(self, tx: &mut dyn Tx) -> Result<Self::Outcome> {
        apply(tx, self.write, &self.actor, &self.ceilings).await
    }
}

/// The highest lease epoch of any write so far.
pub(crate) async fn current_epoch(tx: &mut dyn Tx) -> Result<i64> {
    let Some(text) = tx.meta(MetaKey::LeaseEpoch).await? else {
        return Ok(0);
    };
    text.parse().map_err(|_| StoreError::Corrupt {
        what: "lease epoch",
        why: format!("{text:?} is not a number"),
    })
}

async fn raise_epoch(tx: &mut dyn Tx, current: i64, order: WriteOrder) -> Result<()> {
    if order.lease_epoch > current {
        tx.set_meta(MetaKey::LeaseEpoch, &order.lease_epoch.to_string()).await?;
    }
    Ok(())
}

/// A write that is beyond its namespace's ceiling is refused, and what the broker holds of the object withdrawn: an
/// earlier spec of it isn't launched any more, and may have scopes that its owner has taken out since.
async fn apply(
    tx: &mut dyn Tx,
    write: Write,
    actor: &Actor,
    ceilings: &ScopeCeilings,
) -> Result<Written<PutPolicyResponse>> {
    let Some(beyond) = ceilings::refusal(ceilings, &write) else {
        return accept_write(tx, write, actor, ceilings).await;
    };
    let written = accept_write(tx, ceilings::withdrawn(write), actor, ceilings).await?;
    Ok(written.and(Err(WriteRefusal::BeyondCeiling(beyond))))
}

async fn accept_write(
    tx: &mut dyn Tx,
    write: Write,
    actor: &Actor,
    ceilings: &ScopeCeilings,
) -> Result<Written<PutPolicyResponse>> {
    let current_epoch = current_epoch(tx).await?;
    let held = tx.policy(&write.key).await?;
    match fence(current_epoch, held.as_ref(), write.order, Some(&write.digest)) {
        Fence::Stale => return Ok(Err(WriteRefusal::Stale { current_epoch })),
        Fence::Repeated => return Ok(Ok(answer(write.digest, held.and_then(|held| held.app_id), 0))),
        Fence::Apply => {}
    }
    if tx.policy_has_tombstone(&write.uid).await? {
        return Ok(Err(WriteRefusal::Removed));
    }
    let (same, other) = match held {
        Some(held) if held.uid == write.uid => (Some(held), None),
        other => (None, other),
    };
    let accepted = accept(same.as_ref(), write.state, write.generation, write.spec);
    let policy = Policy {
        accepted: accepted.map(|accepted| client::named(same.as_ref(), accepted, &write.uid, write.order)),
        app_id: (write.key.kind == PolicyKind::App).then(|| app_id(&write.key, &write.uid)),
        issued: same.as_ref().map_or(0, |same| same.issued),
        // The limit may be another: the next registration counts anew.
        room_until: 0,
        key: write.key,
        uid: write.uid,
        generation: write.generation,
        order: write.order,
        state: write.state,
        reason: write.reason,
        digest: write.digest,
    };
    let changed = same.as_ref().is_none_or(|same| same.digest != policy.digest);
    let mut uncovered = if changed {
        uncovered(tx, &policy, &ceilings.of(&policy.key.namespace)).await?
    } else {
        Vec::new()
    };
    if let Some(before) = same.as_ref().or(other.as_ref()) {
        uncovered.extend(crossings::withdrawn(tx, before, &policy).await?);
    }
    let takes = other.is_some() || !uncovered.is_empty() || same.as_ref().is_some_and(|same| takes_away(same, &policy));
    // Nothing is written before: what a tenant creates must not use up the room for what takes authority away.
    if changed && !takes && tx.only_takes_authority() {
        return Ok(Err(WriteRefusal::NoRoom));
    }
    raise_epoch(tx, current_epoch, write.order).await?;
    tx.put_policy(&policy).await?;
    for before in other.iter().chain(&same) {
        client::revoke(tx, before, Some(&policy), actor).await?;
    }
    let mut endings = match other {
        Some(other) => replace(tx, &other).await?,
        None => Vec::new(),
    };
    endings.extend(uncovered);
    if changed {
        let event = actor.event(EventType::PolicyApplied, description(&policy));
        tx.audit(event.policy_uid(&policy.uid));
    }
    let revoked = end(tx, endings, EventType::PolicyApplied, &policy.key, actor).await?;
    Ok(Ok(answer(policy.digest, policy.app_id, revoked)))
}

fn answer(digest: String, app_id: Option<String>, revoked: i64) -> PutPolicyResponse {
    PutPolicyResponse {
        digest,
        app_id,
        revoked,
    }
}

/// `app-<namespace>.<name>-<6 hex of the UID's hash>`: the same again when a lost store is filled from the cluster.
fn app_id(key: &PolicyKey, uid: &PolicyUid) -> String {
    let hash = lower_hex(Sha256::digest(uid.as_bytes()));
    format!("app-{}.{}-{}", key.namespace, key.name, hash.get(..6).unwrap_or(&hash))
}

fn description(policy: &Policy) -> String {
    let state = match policy.state {
        PolicyState::Ready => "ready".to_owned(),
        PolicyState::NotReady => format!("withdrawn ({})", policy.reason.as_deref().unwrap_or("no reason given")),
        PolicyState::Suspended => "suspended".to_owned(),
    };
    let in_force = match policy.accepted.as_ref().map(|accepted| &accepted.spec) {
        None => "nothing in force".to_owned(),
        Some(PolicySpec::App(app)) => in_force(&app.scopes, app.max_agent_ttl_seconds),
        Some(PolicySpec::LaunchToken(token)) => in_force(&token.allowed_scopes, token.max_ttl_seconds),
    };
    let client = client::description(policy);
    format!(
        "{} generation {} is {state}; {in_force}{client}",
        policy.key, policy.generation
    )
}

fn in_force(scopes: &[String], ttl: i64) -> String {
    format!(
        "in force: scopes {}, at most {ttl} s",
        list_scopes(scopes, EVENT_SCOPES_BYTES)
    )
}

/// The object that a recreated one takes the place of: its UID gets a tombstone, what was made under it ends.
async fn replace(tx: &mut dyn Tx, old: &Policy) -> Result<Vec<(Session, EndReason)>> {
    tombstone(tx, &old.uid).await?;
    let sessions = match old.key.kind {
        PolicyKind::App => Vec::new(),
        PolicyKind::LaunchToken => tx.live_sessions_by_policy(&old.uid).await?,
    };
    Ok(sessions
        .into_iter()
        .map(|session| (session, EndReason::PolicyRemoved))
        .collect())
}

async fn tombstone(tx: &mut dyn Tx, uid: &PolicyUid) -> Result<()> {
    let until = tx.times().judged + POLICY_TOMBSTONE;
    tx.tombstone_policy(uid, until).await
}

/// The sessions that the policies, with this one as it will be, no longer cover.
async fn uncovered(tx: &mut dyn Tx, changed: &Policy, ceiling: &Ceiling) -> Result<Vec<(Session, EndReason)>> {
    let tokens = match changed.key.kind {
        PolicyKind::App => {
            tx.launch_tokens_of_app(&changed.key.namespace, &changed.key.name)
                .await?
        }
        PolicyKind::LaunchToken => vec![changed.clone()],
    };
    let mut endings = Vec::new();
    for token in tokens {
        let spec = token
            .accepted
            .as_ref()
            .and_then(|accepted| accepted.spec.launch_token());
        let app = match spec {
            Some(_) if changed.key.kind == PolicyKind::App => Some(changed.clone()),
            Some(spec) => tx.policy(&PolicyKey::app(&token.key.namespace, &spec.app)).await?,
            None => None,
        };
        let pair = Pair {
            token,
            app,
            ceiling: ceiling.clone(),
        };
        for session in tx.live_sessions_by_policy(&pair.token.uid).await? {
            let reason = session
                .attested
                .as_ref()
                .and_then(|bound| pair.ends(bound, &session.scope));
            if let Some(reason) = reason {
                endings.push((session, reason));
            }
        }
    }
    Ok(endings)
}

/// Ends sessions now, each with an event of its own; returns how many ended.
pub(super) async fn end(
    tx: &mut dyn Tx,
    endings: Vec<(Session, EndReason)>,
    event: EventType,
    by: &(dyn Display + Sync),
    actor: &Actor,
) -> Result<i64> {
    let now = tx.now_millis();
    let mut ended: i64 = 0;
    for (session, reason) in endings {
        if tx.end_session(&session, reason, now).await? {
            ended = ended.saturating_add(1);
            let detail = format!("session ended by {by}: {}", reason.as_str());
            let event = actor.event(event, detail).of_session(&session);
            let event = if session.delegated.is_some() {
                event.within_session(&root(tx, &session).await?)
            } else {
                event
            };
            tx.audit(event);
        }
    }
    Ok(ended)
}

/// Removes a policy; leaves a tombstone for its UID.
#[derive(Debug, Clone)]
pub(crate) struct RemovePolicy {
    /// Where the policy is found.
    pub(crate) key: PolicyKey,
    /// `metadata.uid` of the object that was deleted.
    pub(crate) uid: PolicyUid,
    /// Lease epoch and sequence.
    pub(crate) order: WriteOrder,
    /// Whether its sessions end now.
    pub(crate) revoke: bool,
    pub(crate) actor: Actor,
}

#[async_trait]
impl Command for RemovePolicy {
    type Outcome = Written<RevokedResponse>;
    const TAKES_AUTHORITY: TakesAuthority<Self> = TakesAuthority::Again(Self::clone);

    async fn run(self, tx: &mut dyn Tx) -> Result<Self::Outcome> {
        let current_epoch = current_epoch(tx).await?;
        // A namesake with another UID is another object: it stays.
        let held = tx.policy(&self.key).await?.filter(|held| held.uid == self.uid);
        if fence(current_epoch, held.as_ref(), self.order, None) != Fence::Apply {
            return Ok(Err(WriteRefusal::Stale { current_epoch }));
        }
        let with_sessions = self.revoke
            && self.key.kind == PolicyKind::LaunchToken
            && !tx.live_sessions_by_policy(&self.uid).await?.is_empty();
        if held.is_none() && !with_sessions && tx.only_takes_authority() {
            // Nothing to take away. A late write of it is refused as long as this lasts; later the controller's next
            // comparison removes what that has made.
            return Ok(Ok(RevokedResponse { revoked: 0 }));
        }
        raise_epoch(tx, current_epoch, self.order).await?;
        // Unused launch tokens stay until they expire: registration finds their policy gone, and says so.
        tombstone(tx, &self.uid).await?;
        if let Some(held) = &held {
            tx.remove_policy(&self.key).await?;
            let sessions = if self.revoke {
                "its sessions end"
            } else {
                "its sessions last until they expire"
            };
            let detail = format!("{} is removed; {sessions}", self.key);
            let event = self.actor.event(EventType::PolicyRemoved, detail);
            tx.audit(event.policy_uid(&self.uid));
            client::revoke(tx, held, None, &self.actor).await?;
        }
        let mut revoked = 0;
        if self.revoke {
            let sessions = match self.key.kind {
                PolicyKind::LaunchToken => tx.live_sessions_by_policy(&self.uid).await?,
                PolicyKind::App if held.is_some() => {
                    tx.live_sessions_by_orch(&orch_id(&self.key.namespace, &self.key.name))
                        .await?
                }
                PolicyKind::App => Vec::new(),
            };
            let endings = sessions
                .into_iter()
                .map(|session| (session, EndReason::PolicyRemoved))
                .collect();
            revoked = end(tx, endings, EventType::PolicyRemoved, &self.key, &self.actor).await?;
        }
        Ok(Ok(RevokedResponse { revoked }))
    }
}
