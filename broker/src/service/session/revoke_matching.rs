//! The kill switch: a person ends all that pods of a namespace, an app, a policy, a node or a `ServiceAccount` hold, or all
//! that there is.

use std::collections::BTreeSet;

use agentwrit_protocol::PodUid;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::dns_label::{MAX_LABEL_BYTES, is_dns_label};
use agentwrit_protocol::excerpt::excerpt;
use agentwrit_protocol::wire::RevokeMatchingRequest;
use agentwrit_store::{
    Command, EventDraft, Holdings, PodSelector, Result as StoreResult, Store, StoreError, TakesAuthority, Tx,
};
use async_trait::async_trait;
use prometheus::IntCounterVec;

use crate::service::actor::Actor;
use crate::service::k8s::quarantine::{Reach, Target, end_quarantined, unseen_until};

/// Longest name of a node, a `ServiceAccount` or a custom resource, bytes.
const LONGEST_NAME: usize = 253;
/// Pods whose sessions end in one commit, and sessions about after which it ends: others wait for it. All pods are quarantined
/// in the first commit, however many they are.
const PODS_AT_ONCE: usize = 1000;
const SESSIONS_AT_ONCE: usize = 4000;
/// Pods that a store is asked about at once: a database takes a few round trips for them. Few, since all that they hold is in
/// memory then, of a pod that launches all the time for a day some 3,000 sessions.
const PODS_A_QUESTION: usize = 20;

/// Why nothing is revoked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MatchingError {
    #[error("exactly one of namespace, app, policy, node, service_account and all must be given, not {0}")]
    Selector(usize),
    #[error("{field} {value:?} must be {wanted}")]
    Name {
        field: &'static str,
        value: String,
        wanted: &'static str,
    },
    #[error("all asks for installation, the name of the installation whose agents are to end: here {0:?}")]
    Unnamed(String),
    #[error("this is installation {ours:?}, not {given:?}: nothing was revoked")]
    Installation { ours: String, given: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What these pods hold.
    Pods(PodSelector),
    /// Everything.
    All,
}

impl Extent {
    /// What a request asks for.
    pub(crate) fn of(request: &RevokeMatchingRequest) -> Result<Self, MatchingError> {
        let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let mut extents = Vec::new();
        if let Some(namespace) = given(&request.namespace) {
            extents.push(if is_dns_label(&namespace, MAX_LABEL_BYTES) {
                Ok(Self::Pods(PodSelector::Namespace(namespace)))
            } else {
                Err(wrong("namespace", &namespace, "the name of a namespace"))
            });
        }
        if let Some(app) = given(&request.app) {
            let named = in_namespace("app", &app);
            extents.push(named.map(|(namespace, name)| Self::Pods(PodSelector::App { namespace, name })));
        }
        if let Some(policy) = given(&request.policy) {
            let named = in_namespace("policy", &policy);
            extents.push(named.map(|(namespace, name)| Self::Pods(PodSelector::Policy { namespace, name })));
        }
        if let Some(node) = given(&request.node) {
            extents.push(if is_name(&node) {
                Ok(Self::Pods(PodSelector::Node(node)))
            } else {
                Err(wrong("node", &node, "the name of a node"))
            });
        }
        if let Some(account) = given(&request.service_account) {
            let named = in_namespace("service_account", &account);
            extents.push(named.map(|(namespace, name)| Self::Pods(PodSelector::ServiceAccount { namespace, name })));
        }
        if request.all {
            extents.push(Ok(Self::All));
        }
        let count = extents.len();
        match extents.pop() {
            Some(extent) if count == 1 => extent,
            _ => Err(MatchingError::Selector(count)),
        }
    }

    /// The word for it, on the wire and in metrics.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Pods(selector) => selector.kind(),
            Self::All => "all",
        }
    }
}

fn wrong(field: &'static str, value: &str, wanted: &'static str) -> MatchingError {
    MatchingError::Name {
        field,
        value: excerpt(value),
        wanted,
    }
}

/// Whether Kubernetes may give such a name: a DNS subdomain.
fn is_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME && text.split('.').all(|label| is_dns_label(label, LONGEST_NAME))
}

fn in_namespace(field: &'static str, text: &str) -> Result<(String, String), MatchingError> {
    match text.split_once('/') {
        Some((namespace, name)) if is_dns_label(namespace, MAX_LABEL_BYTES) && is_name(name) => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err(wrong(field, text, "NAMESPACE/NAME, such as shop/orders")),
    }
}

/// What was found, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Struck {
    /// What could be used before.
    pub(crate) found: Holdings,
    /// What ended.
    pub(crate) reach: Reach,
    /// The epoch that began.
    pub(crate) epoch: Option<String>,
}

/// Ends much at once for persons.
pub(crate) struct MatchingRevoker<'a> {
    pub(crate) store: &'a Store,
    pub(crate) counted: &'a IntCounterVec,
    /// `AA_INSTALLATION`, or the trust domain.
    pub(crate) installation: &'a str,
}

impl MatchingRevoker<'_> {
    /// What would end. A name of an installation that is given must be this one's.
    pub(crate) async fn look(&self, extent: Extent, installation: Option<&str>) -> Result<Struck, MatchingError> {
        self.check_installation(installation)?;
        let found = match extent {
            Extent::Pods(selector) => {
                let look = self
                    .store
                    .query(move |tx| Box::pin(async move { Ok(matching(tx, &selector).await?.1) }));
                look.await?
            }
            Extent::All => self.store.query(|tx| tx.holdings()).await?,
        };
        Ok(Struck {
            found,
            ..Struck::default()
        })
    }

    /// Ends it.
    pub(crate) async fn strike(
        &self,
        extent: Extent,
        installation: Option<&str>,
        actor: Actor,
    ) -> Result<Struck, MatchingError> {
        self.check_installation(installation)?;
        let kind = extent.kind();
        let struck = match extent {
            Extent::Pods(selector) => {
                // Also when the caller has gone: the first commit must not be all of it.
                let all = tokio::spawn(strike_pods(self.store.clone(), selector, actor));
                all.await.unwrap_or(Err(StoreError::NotOpen))?
            }
            Extent::All if installation.is_none() => {
                return Err(MatchingError::Unnamed(self.installation.to_owned()));
            }
            Extent::All => self.strike_all(actor).await?,
        };
        self.counted.with_label_values(&[kind]).inc();
        Ok(struck)
    }

    async fn strike_all(&self, actor: Actor) -> Result<Struck, StoreError> {
        let found = self.store.query(|tx| tx.holdings()).await?;
        let detail = format!("all is revoked: {}", describe(&found));
        let event = EventDraft::success(EventType::EpochBegun, detail);
        let mark = self.store.begin_epoch(actor.attributed(event)).await?;
        Ok(Struck {
            found,
            reach: Reach {
                sessions_ended: found.agents.saturating_add(found.delegations),
                pods_quarantined: 0,
            },
            epoch: Some(mark.epoch),
        })
    }

    fn check_installation(&self, given: Option<&str>) -> Result<(), MatchingError> {
        match given {
            Some(given) if given != self.installation => Err(MatchingError::Installation {
                ours: self.installation.to_owned(),
                given: excerpt(given),
            }),
            _ => Ok(()),
        }
    }
}

fn describe(found: &Holdings) -> String {
    format!(
        "pods={} agents={} delegations={} launch_tokens={}",
        found.pods, found.agents, found.delegations, found.launch_tokens
    )
}

/// The pods that a selector means, and what they hold.
async fn matching(tx: &mut dyn Tx, selector: &PodSelector) -> StoreResult<(Vec<PodUid>, Holdings)> {
    let mut pods = tx.pods_matching(selector).await?;
    let mut known: BTreeSet<PodUid> = pods.iter().cloned().collect();
    let mut launch_tokens: i64 = 0;
    // A pod that holds one may have launched otherwise since.
    for launch in tx.unused_attested_launch_tokens().await? {
        let Some(bound) = launch.attested.filter(|bound| selector.hits(bound)) else {
            continue;
        };
        if !known.contains(&bound.pod_uid) {
            if tx.pod_has_tombstone(&bound.pod_uid).await? {
                continue;
            }
            known.insert(bound.pod_uid.clone());
            pods.push(bound.pod_uid);
        }
        launch_tokens = launch_tokens.saturating_add(1);
    }
    let held = tx.holdings_of(&pods).await?;
    Ok((pods, Holdings { launch_tokens, ..held }))
}

async fn strike_pods(store: Store, selector: PodSelector, actor: Actor) -> Result<Struck, StoreError> {
    let order = Order {
        selector,
        actor: actor.clone(),
    };
    let (found, mut reach, mut rest) = store.commit(order).await?;
    while !rest.is_empty() {
        let targets: Vec<Target> = rest.iter().take(PODS_AT_ONCE).cloned().collect();
        let end = EndTargets {
            targets,
            actor: actor.clone(),
        };
        let (ended, done) = store.commit(end).await?;
        reach.sessions_ended = reach.sessions_ended.saturating_add(ended);
        rest.drain(..done.min(rest.len()));
    }
    Ok(Struck {
        found,
        reach,
        epoch: None,
    })
}

/// Ends what these hold, as far as one commit goes: how many sessions, and of how many of the pods.
async fn end(tx: &mut dyn Tx, targets: &[Target], actor: &Actor) -> StoreResult<(i64, usize)> {
    let (mut ended, mut looked_at, mut done) = (0_i64, 0_usize, 0_usize);
    for some in targets.get(..PODS_AT_ONCE).unwrap_or(targets).chunks(PODS_A_QUESTION) {
        if looked_at >= SESSIONS_AT_ONCE {
            break;
        }
        done = done.saturating_add(some.len());
        // Those that have gone since the first commit have lost all that they held.
        let ends = end_quarantined(tx, some, actor).await?;
        ended = ended.saturating_add(ends.ended);
        looked_at = looked_at.saturating_add(ends.looked_at);
    }
    Ok((ended, done))
}

/// The first commit, which leaves nothing open: every pod is quarantined, so that none of them launches, registers or
/// renews, and nothing is delegated to one; and the sessions of as many as fit have ended.
#[derive(Clone)]
struct Order {
    selector: PodSelector,
    actor: Actor,
}

#[async_trait]
impl Command for Order {
    type Outcome = (Holdings, Reach, Vec<Target>);
    const TAKES_AUTHORITY: TakesAuthority<Self> = TakesAuthority::Again(Self::clone);

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Self::Outcome> {
        let (pods, found) = matching(tx, &self.selector).await?;
        let until = unseen_until(tx);
        let fresh = tx.quarantine_pods(&pods, &self.actor.subject, until).await?;
        let fresh: BTreeSet<PodUid> = fresh.into_iter().collect();
        let detail = format!("all pods of {} are revoked: {}", self.selector, describe(&found));
        tx.audit(self.actor.event(EventType::BulkRevocation, detail));
        let mut targets: Vec<Target> = pods
            .into_iter()
            .map(|uid| Target {
                is_new: fresh.contains(&uid),
                uid,
            })
            .collect();
        let (sessions_ended, done) = end(tx, &targets, &self.actor).await?;
        let reach = Reach {
            sessions_ended,
            pods_quarantined: found.pods,
        };
        targets.drain(..done.min(targets.len()));
        Ok((found, reach, targets))
    }
}

/// The sessions of quarantined pods end.
#[derive(Clone)]
struct EndTargets {
    targets: Vec<Target>,
    actor: Actor,
}

#[async_trait]
impl Command for EndTargets {
    type Outcome = (i64, usize);
    const TAKES_AUTHORITY: TakesAuthority<Self> = TakesAuthority::Again(Self::clone);

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Self::Outcome> {
        end(tx, &self.targets, &self.actor).await
    }
}

#[cfg(test)]
mod tests;
