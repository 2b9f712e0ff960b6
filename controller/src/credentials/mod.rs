//! The Secrets of `AgentApp.spec.clientCredentials`: made, rotated, healed and removed here, and nowhere read by others.
//!
//! The Secret is written first, what the broker accepts second: `converge` is a part of the AgentApp's reconciliation, and
//! what it answers goes into the policy that is sent next. All that has to outlive the controller is an annotation of the
//! Secret ([`record`]), so that whoever leads next goes on from there, wherever the last one stopped: clients that hold the
//! secret before are let in until its overlap ends, those that hold the new one as soon as the broker hears of it. Each
//! write names the version that it changes: of two leaders one is refused. Of all Secrets only those with our label are
//! watched, by their metadata ([`seen`]); one is read when it has changed.

mod record;
mod secret;
mod seen;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use agentwrit_crds::{AgentApp, ClientCredentials};
use agentwrit_protocol::inject::{ANNOTATION_ROTATE_CLIENT_SECRET, LABEL_CLIENT_CREDENTIALS};
use agentwrit_protocol::k8s::clients::client_id;
use agentwrit_protocol::k8s::{AppClient, PolicyField, PolicyKind};
use agentwrit_protocol::timestamp::rfc3339_seconds;
use agentwrit_protocol::{PolicyUid, UnixSeconds};
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Resource, ResourceExt};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::backoff::Backoff;
use crate::context::Context;
use crate::policy_client::PolicyKey;
use crate::reconcile::Version;
use crate::reconcile::condition::{Ready, Reason, present};
use crate::reconcile::watches::for_each_event;
use record::{Record, Why};
use secret::{Ours, Secrets, Trouble};
use seen::{Owner, Seen};

/// From so many entries on, those that rest no more are dropped.
const FORGET_ABOVE: usize = 1024;

/// In which namespaces there may be such Secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Where {
    Nowhere,
    Everywhere,
    In(BTreeSet<String>),
}

/// What a reconciliation needs to know of an AgentApp's client.
#[derive(Debug, Default)]
pub(crate) struct Converged {
    /// What the broker is told.
    pub(crate) client: Option<AppClient>,
    /// Whether the broker would have to say first what it holds: it can't be told anything before.
    pub(crate) unknown: bool,
    /// What a person has to repair.
    pub(crate) problem: Option<Ready>,
    /// Name and UID of Secrets that go once the broker knows.
    leftovers: Vec<(String, String)>,
}

impl Converged {
    /// The id that programs log in by.
    pub(crate) fn client_id(&self, uid: &PolicyUid) -> Option<String> {
        self.client.as_ref().map(|_| client_id(uid))
    }
}

/// What is known of the Secrets.
#[derive(Debug)]
pub(crate) struct Credentials {
    allowed: Where,
    seen: Mutex<Seen>,
    /// What failed a moment ago, and isn't tried again until its time has come or a user changes the AgentApp.
    problems: Mutex<HashMap<Version, Ready>>,
    backoff: Backoff<Version>,
}

impl Credentials {
    pub(crate) fn new(allowed: Where) -> Self {
        Self {
            allowed,
            seen: Mutex::default(),
            problems: Mutex::default(),
            backoff: Backoff::default(),
        }
    }

    /// Why the installation lets this namespace have none; `None` when it may.
    fn forbidden(&self, namespace: &str) -> Option<&'static str> {
        match &self.allowed {
            Where::Everywhere => None,
            Where::In(namespaces) if namespaces.contains(namespace) => None,
            Where::In(_) => Some(
                "spec.clientCredentials isn't allowed in this namespace: no Secret is written, and nothing logs in. Add the \
                 namespace to clientCredentials.namespaces of the chart's values, or take spec.clientCredentials out.",
            ),
            Where::Nowhere => Some(
                "spec.clientCredentials isn't allowed by this installation: no Secret is written, and nothing logs in. Set \
                 clientCredentials.enabled of the chart's values, or take spec.clientCredentials out.",
            ),
        }
    }

    /// Why an AgentApp of this namespace has no client; `None` when it may have one.
    fn refusal(&self, namespace: &str, broker_knows: bool) -> Option<&'static str> {
        // A client that an earlier broker doesn't know gets nothing by that: all else of the AgentApp stays in force.
        let unknown = "The broker is of an earlier version, which doesn't know spec.clientCredentials: no Secret is written, \
                       and nothing logs in, until the broker is upgraded.";
        self.forbidden(namespace).or((!broker_knows).then_some(unknown))
    }

    /// Brings the Secret in line with the AgentApp. It doesn't fail: what goes wrong here is shown, and holds up nothing else.
    pub(crate) async fn converge(&self, app: &AgentApp, context: &Context) -> Converged {
        let namespace = app.namespace().unwrap_or_default();
        let app_uid = app.uid().unwrap_or_default();
        let Some(spec) = &app.spec.client_credentials else {
            let leftovers = match self.forbidden(&namespace) {
                None => self.seen.lock().others(&app_uid, (&namespace, None)),
                Some(_) => Vec::new(),
            };
            return Converged {
                leftovers,
                ..Converged::default()
            };
        };
        let broker_knows = context.broker.knows(PolicyField::ClientCredentials);
        if let Some(sentence) = self.refusal(&namespace, broker_knows) {
            return Converged {
                problem: Some(Ready::new(Reason::ClientCredentialsDisabled, sentence)),
                ..Converged::default()
            };
        }
        let now = context.clock.unix_seconds();
        // Before what it holds: an answer that comes in between counts the next time.
        let answers = context.broker.answers();
        let held = held(app, context);
        let version = Version::of(app);
        let known = self.problems.lock().get(&version).cloned();
        let outcome = match known.filter(|_| self.backoff.rests(&version).is_some()) {
            Some(problem) => Err(Trouble::Shown(problem)),
            None => self.secret(app, spec, (answers, held.as_ref()), context).await,
        };
        match outcome {
            Ok(record) => {
                if self.backoff.done(&version) {
                    self.problems.lock().remove(&version);
                }
                Converged {
                    client: Some(record.client(spec, now)),
                    unknown: false,
                    problem: None,
                    leftovers: self.seen.lock().others(&app_uid, (&namespace, Some(&spec.secret_name))),
                }
            }
            Err(trouble) => {
                let problem = match trouble {
                    Trouble::Wait => shown(app),
                    Trouble::Shown(problem) => {
                        if self.backoff.rests(&version).is_none() {
                            self.rest(version, problem.clone());
                        }
                        Some(problem)
                    }
                };
                // Whoever logs in goes on so: nobody has taken that back.
                Converged {
                    client: held.and_then(|held| counting(held, spec, now)),
                    unknown: !answers,
                    problem,
                    leftovers: Vec::new(),
                }
            }
        }
    }

    fn rest(&self, version: Version, problem: Ready) {
        let mut problems = self.problems.lock();
        if problems.len() >= FORGET_ABOVE {
            problems.retain(|version, _| self.backoff.rests(version).is_some());
        }
        problems.insert(version.clone(), problem);
        self.backoff.failed(version);
    }

    /// What is recorded of the Secret, after it has been made, rotated or healed where that is due.
    async fn secret(
        &self,
        app: &AgentApp,
        spec: &ClientCredentials,
        (answers, held): (bool, Option<&AppClient>),
        context: &Context,
    ) -> Result<Record, Trouble> {
        let now = context.clock.unix_seconds();
        if !context.trust.is_publishable(&context.leadership) {
            return Err(Trouble::Wait);
        }
        let trusted = context.trust.now();
        self.seen.lock().trust(&trusted.bundle);
        let asked = app
            .annotations()
            .get(ANNOTATION_ROTATE_CLIENT_SECRET)
            .map(String::as_str);
        let place = (app.namespace().unwrap_or_default(), spec.secret_name.clone());
        let known = self.seen.lock().record(&place, &app.uid().unwrap_or_default()).cloned();
        // What the broker knows is another one's when the watch hasn't shown yet what another leader wrote.
        if let Some(record) = known
            && record.is_held(held)
            && record.due(spec, held, asked, now).is_none()
        {
            return Ok(record);
        }
        let secrets = Secrets::new(app, spec, &trusted.bundle, context);
        let found = secrets.read(now).await?;
        let why = match &found {
            None if held.is_some() => Why::Gone,
            None => Why::New,
            Some(Ours { record: None, .. }) => Why::Changed,
            Some(Ours {
                record: Some(record),
                is_whole,
                metadata,
            }) => {
                if let Some(why) = record.due(spec, held, asked, now) {
                    why
                } else {
                    let metadata = if *is_whole {
                        metadata.clone()
                    } else {
                        secrets.repair(metadata, record).await?
                    };
                    self.seen
                        .lock()
                        .found(place, &metadata, (record.clone(), &trusted.bundle));
                    return Ok(record.clone());
                }
            }
        };
        // Before the broker has said what clients log in with, a new secret would put an end to that; and without it no new
        // one would be of use.
        if !answers {
            return Err(Trouble::Wait);
        }
        let before = held.and_then(AppClient::current);
        let (metadata, record) = secrets
            .issue(found.as_ref(), |secret| Record::new(secret, before, spec, asked, now))
            .await?;
        self.seen
            .lock()
            .found(place, &metadata, (record.clone(), &trusted.bundle));
        tell(app, spec, why, &record, context).await;
        Ok(record)
    }

    /// Removes the Secrets that the AgentApp has no more: the broker has forgotten theirs, or knows of another.
    pub(crate) async fn remove_leftovers(&self, app: &AgentApp, converged: &Converged, context: &Context) {
        for (name, uid) in &converged.leftovers {
            secret::remove(app, (name, uid), context).await;
        }
    }

    fn ask(owners: impl IntoIterator<Item = Owner>, namespace: &str, context: &Context) {
        for owner in owners {
            context.apps.add(ObjectRef::new(&owner.name).within(namespace));
        }
    }

    /// Follows the labelled Secrets of a namespace, or of all. Runs for ever.
    async fn watch(context: Arc<Context>, namespace: Option<String>) {
        let api: Api<PartialObjectMeta<Secret>> = match &namespace {
            Some(namespace) => Api::namespaced(context.client.clone(), namespace),
            None => Api::all(context.client.clone()),
        };
        let config = watcher::Config::default().labels(LABEL_CLIENT_CREDENTIALS);
        let stream = watch_objects(api, config).default_backoff();
        let seen = &context.credentials.seen;
        let mut listed = HashSet::new();
        for_each_event(stream, "secrets", Arc::clone(&context.metrics), |event| match event {
            Event::Apply(secret) => {
                let owners = seen.lock().apply(secret);
                Self::ask(owners, &secret.namespace().unwrap_or_default(), &context);
            }
            Event::Delete(secret) => {
                let owner = seen.lock().delete(secret);
                Self::ask(owner, &secret.namespace().unwrap_or_default(), &context);
            }
            Event::Init => listed.clear(),
            Event::InitApply(secret) => {
                listed.insert((secret.namespace().unwrap_or_default(), secret.name_any()));
                seen.lock().apply(secret);
            }
            // What was missed meanwhile is seen at the next refresh of the broker's list.
            Event::InitDone => seen.lock().keep(namespace.as_deref(), &std::mem::take(&mut listed)),
        })
        .await;
    }
}

/// Starts the watches, where there may be such Secrets.
pub(crate) fn spawn(context: &Arc<Context>, tasks: &mut JoinSet<()>) {
    match &context.credentials.allowed {
        Where::Nowhere => {}
        Where::Everywhere => {
            tasks.spawn(Credentials::watch(Arc::clone(context), None));
        }
        Where::In(namespaces) => {
            for namespace in namespaces {
                tasks.spawn(Credentials::watch(Arc::clone(context), Some(namespace.clone())));
            }
        }
    }
}

/// What the broker was last seen to let this AgentApp's client log in with.
fn held(app: &AgentApp, context: &Context) -> Option<AppClient> {
    let held = context.broker.held(&PolicyKey {
        kind: PolicyKind::App,
        namespace: app.namespace().unwrap_or_default(),
        name: app.name_any(),
    })?;
    held.client.filter(|_| Some(held.uid.as_str()) == app.uid().as_deref())
}

/// The problem that the AgentApp's condition tells of: it stays so until the Secret was looked at, also when another replica
/// has begun to lead and can't look yet.
fn shown(app: &AgentApp) -> Option<Ready> {
    let present = present(&app.status.as_ref()?.conditions)?;
    let ours = [Reason::SecretNotOwned, Reason::SecretNotWritten].into_iter();
    let mut found = ours.filter(|reason| present.reason == reason.as_str());
    found.next().map(|reason| Ready::new(reason, present.message.clone()))
}

/// What still counts of that, if anything does.
fn counting(held: AppClient, spec: &ClientCredentials, now: UnixSeconds) -> Option<AppClient> {
    let secrets: Vec<_> = held.secrets.into_iter().filter(|secret| secret.counts(now)).collect();
    (!secrets.is_empty()).then_some(AppClient {
        token_ttl_seconds: spec.token_ttl_seconds,
        secrets,
    })
}

async fn tell(app: &AgentApp, spec: &ClientCredentials, why: Why, record: &Record, context: &Context) {
    let before = match record.previous.as_ref().and_then(|previous| previous.until) {
        Some(until) => format!("the one before counts until {}", rfc3339_seconds(until)),
        None => "none before it counts".to_owned(),
    };
    let name = &spec.secret_name;
    let (reason, note) = match why {
        Why::New => (
            "ClientSecretIssued",
            format!("The Secret {name} has the credentials of this app's client."),
        ),
        Why::Gone | Why::Changed | Why::Asked | Why::Due => (
            "ClientSecretRotated",
            format!(
                "The Secret {name} has a new client_secret, since {}; {before}.",
                why.as_str()
            ),
        ),
    };
    tracing::info!(
        namespace = app.namespace(),
        name = app.name_any(),
        secret = name,
        why = why.as_str(),
        "issued a client secret"
    );
    let reference = app.object_ref(&());
    let reporter = &context.reporter;
    reporter
        .event(EventType::Normal, reason, "Reconcile", &note, &reference)
        .await;
}

#[cfg(test)]
mod tests;
