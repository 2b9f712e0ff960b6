//! Login of the client of an AgentApp, which the controller gave a secret (`docs/kubernetes-api.md` §1).
//!
//! Whether a client id is an AgentApp's shows in its form, and a login by such an id is compared by SHA-256 whether there
//! is an app or not: the time that it takes tells what the caller knows already.

use std::net::IpAddr;

use agentwrit_protocol::apps::APP_SCOPES;
use agentwrit_protocol::audit::EventType;
use agentwrit_protocol::k8s::PolicyState;
use agentwrit_protocol::k8s::clients::{CLIENT_SECRET_CHARACTERS, MAX_CLIENT_SECRETS, secret_hash};
use agentwrit_protocol::timestamp::rfc3339_seconds;
use agentwrit_protocol::{Jti, Sensitive, Ttl, UnixSeconds};
use agentwrit_server::Source;
use agentwrit_store::policy::Policy;
use agentwrit_store::{Command, EventDraft, Result as StoreResult, Tx};
use async_trait::async_trait;
use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::login::{AppLogin, LoginError, Reason};
use crate::service::session::token::Issued;

/// What no secret has as its hash, as far as anybody knows.
const NO_ONES_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A login that is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Admitted {
    app_id: String,
    subject: String,
    ttl: Ttl,
    /// Until when the secret counts; that of the current one is open.
    until: Option<UnixSeconds>,
}

/// Who refuses, and why; the app as far as it is known.
type Verdict = Result<Admitted, (Reason, Option<String>)>;

impl AppLogin<'_> {
    /// Trades the credentials of an AgentApp's client for a token.
    pub(super) async fn login_of_agent_app(
        &self,
        client_id: String,
        presented: Sensitive,
        source: IpAddr,
    ) -> Result<Issued, LoginError> {
        let presented = hash_of(&presented);
        let decide = Decide { client_id, presented };
        // Decided again in the transaction; a refusal needs none.
        let decided = self.store.read(decide.clone());
        self.strangers
            .read(Source::of(source), decided)
            .await?
            .map_err(|(reason, app_id)| self.refuse(source, reason, app_id.as_deref()))?;
        let jti = Jti::from(self.ids.random_hex::<16>()?);
        let login = Login {
            decide,
            jti: jti.clone(),
            source,
        };
        let admitted = self
            .store
            .commit(login)
            .await?
            .map_err(|(reason, app_id)| self.refuse(source, reason, app_id.as_deref()))?;
        let (now, ttl) = (self.clock.unix_seconds(), self.config.clamp_ttl(admitted.ttl));
        let claims = self.tokens.claims(&admitted.subject, &APP_SCOPES, jti, now, ttl);
        Ok(self.tokens.sign(&claims)?)
    }
}

/// The hash of what is presented; of what is no secret by its length, that of nothing.
fn hash_of(presented: &Sensitive) -> String {
    let presented = presented.expose();
    if presented.len() == CLIENT_SECRET_CHARACTERS {
        secret_hash(presented)
    } else {
        secret_hash("")
    }
}

/// Decides by what the store holds.
#[derive(Clone)]
struct Decide {
    client_id: String,
    presented: String,
}

impl Decide {
    async fn decide(&self, tx: &mut dyn Tx) -> StoreResult<Verdict> {
        let policy = tx.policy_by_client_id(&self.client_id).await?;
        let now = tx.times().judged.second();
        Ok(verdict(policy.as_ref(), &self.presented, now))
    }
}

#[async_trait]
impl Command for Decide {
    type Outcome = Verdict;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Verdict> {
        self.decide(tx).await
    }
}

/// Compares with as many hashes whoever asks, and with each of them whole.
fn verdict(policy: Option<&Policy>, presented: &str, now: UnixSeconds) -> Verdict {
    let client = policy.and_then(Policy::client);
    let secrets = client.map(|client| client.secrets.as_slice()).unwrap_or_default();
    let mut matched = None;
    for index in 0..MAX_CLIENT_SECRETS {
        let secret = secrets.get(index).filter(|secret| secret.counts(now));
        let hash = secret.map_or(NO_ONES_HASH, |secret| secret.sha256.as_str());
        if verify_slices_are_equal(hash.as_bytes(), presented.as_bytes()).is_ok() {
            matched = secret;
        }
    }
    let (Some(policy), Some(client)) = (policy, client) else {
        return Err((Reason::Unknown, None));
    };
    let refused = |reason| Err((reason, policy.app_id.clone()));
    match policy.state {
        PolicyState::Ready => {}
        PolicyState::Suspended => return refused(Reason::Suspended),
        PolicyState::NotReady => return refused(Reason::Inactive),
    }
    let (Some(secret), Some(app_id), Some(subject)) = (matched, policy.app_id.clone(), policy.client_subject()) else {
        return refused(Reason::Secret);
    };
    Ok(Admitted {
        app_id,
        subject,
        ttl: Ttl::seconds(client.token_ttl_seconds),
        until: secret.until,
    })
}

struct Login {
    decide: Decide,
    jti: Jti,
    source: IpAddr,
}

#[async_trait]
impl Command for Login {
    type Outcome = Verdict;
    const ISSUES: bool = true;

    async fn run(self, tx: &mut dyn Tx) -> StoreResult<Verdict> {
        let verdict = self.decide.decide(tx).await?;
        if let Ok(admitted) = &verdict {
            let by = match admitted.until {
                None => "the current secret".to_owned(),
                Some(until) => format!("the secret before, which counts until {}", rfc3339_seconds(until)),
            };
            let detail = format!(
                "app {} logged in as client {} by {by}, jti {}",
                admitted.app_id, self.decide.client_id, self.jti
            );
            let event = EventDraft::success(EventType::AppAuthenticated, detail)
                .actor(&admitted.subject)
                .source(&self.source.to_string());
            tx.audit(event);
        }
        Ok(verdict)
    }
}
