//! Policies under the ceiling of their namespace, and the end of what stands beyond a ceiling that got narrower.

use std::sync::Arc;

use agentwrit_protocol::SessionId;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::k8s::PolicyState;
use agentwrit_store::policy::{Policy, PolicySpec};
use agentwrit_store::{Command, EndReason, MetaKey, Result, Store, TakesAuthority, Tx};
use async_trait::async_trait;

use super::input::Write;
use super::write::end;
use crate::config::{Ceiling, ScopeCeilings};
use crate::service::actor::Actor;
use crate::service::session::lineage::root;

/// Why such a policy is withdrawn, as the controller's condition says it too.
pub(crate) const BEYOND: &str = "ScopeExceedsNamespaceCeiling";
/// Sessions that are looked at in one transaction.
const AT_ONCE: usize = 32;

/// The member with the scopes of a spec, and the scopes.
fn scopes(spec: &PolicySpec) -> (&'static str, &[String]) {
    match spec {
        PolicySpec::App(app) => ("spec.scopes", &app.scopes),
        PolicySpec::LaunchToken(token) => ("spec.allowed_scopes", &token.allowed_scopes),
    }
}

/// The sentence for a write that would put scopes into force that its namespace may not have.
pub(super) fn refusal(ceilings: &ScopeCeilings, write: &Write) -> Option<String> {
    if write.state != PolicyState::Ready {
        return None;
    }
    let (member, scopes) = scopes(&write.spec);
    let namespace = &write.key.namespace;
    let sentence = ceilings.of(namespace).refusal(namespace, scopes)?;
    Some(format!("{member}: {sentence}"))
}

/// The digest of a policy that is held back: equal to that of no write, so that the controller sends it again.
pub(super) fn held_back(digest: &str) -> String {
    format!("beyond-ceiling:{digest}")
}

/// The same write, withdrawn: what was in force before it isn't what its owner wants any more.
pub(super) fn withdrawn(write: Write) -> Write {
    Write {
        state: PolicyState::NotReady,
        reason: Some(BEYOND.to_owned()),
        digest: held_back(&write.digest),
        ..write
    }
}

/// Whether a policy that was accepted is beyond the ceiling of this moment.
pub(crate) fn is_beyond(ceiling: &Ceiling, policy: &Policy) -> bool {
    let accepted = policy.accepted.as_ref();
    accepted.is_some_and(|accepted| !ceiling.allows(scopes(&accepted.spec).1))
}

/// Ends what stands beyond the ceilings, unless the store was held to these ceilings already. What a replica with the
/// ceilings of before opens meanwhile isn't renewed.
pub(crate) async fn hold(store: &Store, ceilings: &Arc<ScopeCeilings>) -> Result<()> {
    let Some(sessions) = store.read(LookAt(Arc::clone(ceilings))).await? else {
        return Ok(());
    };
    let mut ended: i64 = 0;
    for sessions in sessions.chunks(AT_ONCE) {
        let command = EndBeyond {
            sessions: sessions.to_vec(),
            ceilings: Arc::clone(ceilings),
        };
        ended = ended.saturating_add(store.commit(command).await?);
    }
    store.commit(Held(ceilings.digest().to_owned())).await?;
    tracing::info!(target: "K8S", component = "Ceilings", ended, "sessions are held to the ceilings of their namespaces");
    Ok(())
}

/// The live sessions of namespaces with a ceiling, whether their policies are still there or not; none when the store was
/// held to these ceilings already.
struct LookAt(Arc<ScopeCeilings>);

#[async_trait]
impl Command for LookAt {
    type Outcome = Option<Vec<SessionId>>;

    async fn run(self, tx: &mut dyn Tx) -> Result<Self::Outcome> {
        if tx.meta(MetaKey::ScopeCeilings).await?.unwrap_or_default() == self.0.digest() {
            return Ok(None);
        }
        let mut sessions = tx.live_attested_sessions().await?;
        sessions.retain(|session| {
            let bound = session.attested.as_ref();
            bound.is_some_and(|bound| self.0.of(&bound.namespace) != Ceiling::Open)
        });
        Ok(Some(sessions.into_iter().map(|session| session.sid).collect()))
    }
}

/// Ends those of some sessions that their namespace's ceiling doesn't cover, and what was delegated to their pods from
/// sessions that it doesn't cover: how much of such a session was passed on isn't stored.
#[derive(Clone)]
struct EndBeyond {
    sessions: Vec<SessionId>,
    ceilings: Arc<ScopeCeilings>,
}

#[async_trait]
impl Command for EndBeyond {
    type Outcome = i64;
    const TAKES_AUTHORITY: TakesAuthority<Self> = TakesAuthority::Again(Self::clone);

    async fn run(self, tx: &mut dyn Tx) -> Result<i64> {
        let broker = Actor {
            subject: "broker".to_owned(),
            source: String::new(),
        };
        let mut ended: i64 = 0;
        for sid in &self.sessions {
            let Some(session) = tx.session(sid).await? else {
                continue;
            };
            let Some(bound) = session.attested.clone() else {
                continue;
            };
            let ceiling = self.ceilings.of(&bound.namespace);
            let mut endings = Vec::new();
            for held in tx.standing_delegations_to_pod(&bound.pod_uid).await? {
                if !ceiling.allows(&root(tx, &held).await?.scope) {
                    endings.push((held, EndReason::PolicyChanged));
                }
            }
            if !ceiling.allows(&session.scope) {
                endings.push((session, EndReason::PolicyChanged));
            }
            let by = format!("the scope ceiling of namespace {}", bound.namespace);
            ended = ended.saturating_add(end(tx, endings, EventType::PolicyApplied, &by, &broker).await?);
        }
        Ok(ended)
    }
}

/// Remembers which ceilings the store was held to.
struct Held(String);

#[async_trait]
impl Command for Held {
    type Outcome = ();

    async fn run(self, tx: &mut dyn Tx) -> Result<()> {
        tx.set_meta(MetaKey::ScopeCeilings, &self.0).await
    }
}

#[cfg(test)]
mod tests;
