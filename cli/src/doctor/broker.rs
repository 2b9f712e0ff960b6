//! The broker itself: http, clock, version, store, keys, login, audit.

use std::time::Duration;

use agentwrit_client::{BrokerClient, Dated, Error, Jwks, Readiness};
use agentwrit_protocol::claims::unverified;
use agentwrit_protocol::wire::HealthResponse;
use agentwrit_protocol::{Clock, Sensitive, UnixSeconds};
use serde::Deserialize;

use super::report::Report;
use super::skew::Skew;
use crate::audit_verify::{Expected, Progress, Start, Trail, Verdict, Verification};
use crate::error::CliError;
use crate::output::Output;

/// This much does no harm.
const SMALL_SKEW: Duration = Duration::from_secs(1);
/// From here on short-lived tokens die early or are not valid yet.
const LARGE_SKEW: Duration = Duration::from_secs(30);
/// The wire contract that this program speaks.
const CONTRACT: &str = "2.";
/// What only a broker that answers can be asked.
pub(super) const CHECKS: [&str; 6] = ["clock", "version", "store", "keys", "login", "audit"];
pub(super) const NOT_ASKED: &str = "the broker can't be asked";
const NO_SECRET: &str = "AACTL_ADMIN_SECRET is not set";

/// The checks of a broker that takes connections.
pub(super) struct BrokerChecks<'a> {
    client: &'a BrokerClient,
    clock: &'a dyn Clock,
    report: Report,
}

impl<'a> BrokerChecks<'a> {
    /// Goes on with the report of the network checks.
    pub(super) fn new(client: &'a BrokerClient, clock: &'a dyn Clock, report: Report) -> Self {
        Self { client, clock, report }
    }

    /// All checks; `full` verifies the whole trail.
    pub(super) async fn check(mut self, secret: Option<&Sensitive>, full: bool, output: &mut Output<'_>) -> Report {
        let before = self.clock.unix_millis();
        let Some(health) = self.http().await else {
            self.report.skip_all(&CHECKS, NOT_ASKED);
            return self.report;
        };
        let date = health.date.map(|date| Skew::of(date, before, self.clock.unix_millis()));
        let before = self.clock.unix_millis();
        // Ahead of its line in the report: the time of its token is needed when there is no Date header.
        let login = match secret {
            Some(secret) => Some(self.client.admin_auth(secret).await.map(|answer| answer.access_token)),
            None => None,
        };
        let token = login.as_ref().and_then(|login| login.as_ref().ok());
        let issued = token.and_then(issued_at);
        let issued = issued.map(|second| Skew::of(second, before, self.clock.unix_millis()));
        self.skew(date.or(issued));
        self.version(&health.value).await;
        self.store(&health.value).await;
        let keys = self.keys().await;
        self.login(login.as_ref());
        match (secret, token, keys) {
            (Some(secret), Some(token), Some(keys)) => {
                let trail = Trail::with_token(self.client, secret, token.clone());
                let verdict = audit(trail, &keys, full, self.clock, output).await;
                self.audit(verdict);
            }
            (None, ..) => self.report.skip("audit", NO_SECRET),
            (Some(_), None, _) => self.report.skip("audit", "there is no login"),
            (Some(_), Some(_), None) => self.report.skip("audit", "there are no keys to check it with"),
        }
        self.report
    }

    async fn http(&mut self) -> Option<Dated<HealthResponse>> {
        match self.client.dated_health().await {
            Ok(health) => {
                let HealthResponse { status, uptime, .. } = &health.value;
                self.report
                    .ok("http", format!("/v1/health says {status}, up for {uptime} s"));
                Some(health)
            }
            Err(error) => {
                let advice = match &error {
                    error if error.wants_client_certificate() => {
                        "the broker asks for a client certificate that it trusts: --client-cert and --client-key"
                    }
                    Error::Malformed { .. } | Error::Refused(_) => "is AACTL_BROKER_URL the URL of a broker?",
                    Error::Timeout(_) => "the broker takes connections and doesn't answer: see its log",
                    Error::Overloaded(_) => "see the logs of the broker and of the proxy in front of it",
                    _ => "is this the API's port? a broker with TLS is reached by https://",
                };
                self.report.fail("http", error.to_string(), advice);
                None
            }
        }
    }

    fn skew(&mut self, skew: Option<Skew>) {
        let Some(skew) = skew else {
            let reason = "the broker sends no Date header; with AACTL_ADMIN_SECRET the time is read from its token";
            return self.report.skip("clock", reason);
        };
        let (apart, direction) = match skew {
            Skew::None => (Duration::ZERO, ""),
            Skew::Ahead(by) => (by, "behind"),
            Skew::Behind(by) => (by, "ahead of"),
        };
        if apart <= SMALL_SKEW {
            return self
                .report
                .ok("clock", "this machine and the broker agree, to the second");
        }
        let seconds = apart.as_millis().div_ceil(1000);
        let result = format!("this machine is {seconds} s {direction} the broker");
        let advice = "set both by NTP: tokens are good from their first to their last second, without leeway";
        if apart <= LARGE_SKEW {
            self.report.warn("clock", result, advice);
        } else {
            self.report.fail("clock", result, advice);
        }
    }

    async fn version(&mut self, health: &HealthResponse) {
        let own = env!("CARGO_PKG_VERSION");
        let contract = &health.version;
        let program = self.client.program_version().await;
        let shown = program.as_deref().unwrap_or("of a version that it doesn't show here");
        let result = format!("awrit {own}, broker {shown}, contract {contract}");
        if !contract.starts_with(CONTRACT) {
            let advice = format!("this awrit speaks contract {CONTRACT}x: use the one of the broker's release");
            self.report.fail("version", result, advice);
        } else if program.is_some_and(|program| minor(&program) != minor(own)) {
            self.report
                .warn("version", result, "use the awrit of the broker's release");
        } else {
            self.report.ok("version", result);
        }
    }

    async fn store(&mut self, health: &HealthResponse) {
        let failing: Option<Vec<String>> = self.client.readiness().await.ok().map(|Readiness { failing, .. }| {
            failing
                .into_iter()
                .map(|failing| format!("{} ({})", failing.dependency, failing.reason))
                .collect()
        });
        let events = health.audit_events_count;
        match (failing, health.db_connected) {
            (Some(failing), _) if !failing.is_empty() => {
                let result = format!("the broker isn't ready: {}", failing.join(", "));
                self.report.fail(
                    "store",
                    result,
                    "nothing is issued or revoked meanwhile: see the broker's log",
                );
            }
            (_, true) => self.report.ok("store", format!("connected, audit events: {events}")),
            (Some(_), false) => self.report.warn(
                "store",
                "in memory only",
                "revocations and audit trail are lost at a restart: set AA_DB_PATH",
            ),
            (None, false) => self.report.fail(
                "store",
                "the broker has no store that survives a restart",
                "see the broker's log, and /readyz on its ops listener",
            ),
        }
    }

    async fn keys(&mut self) -> Option<Jwks> {
        match self.client.jwks().await {
            Ok(keys) if keys.keys.is_empty() => {
                self.report.fail(
                    "keys",
                    "no key is published",
                    "resource servers can't check tokens: see the broker's log",
                );
                None
            }
            Ok(keys) => {
                let ids: Vec<&str> = keys.keys.iter().map(|key| key.kid.as_str()).collect();
                self.report.ok("keys", format!("published: {}", ids.join(", ")));
                Some(keys)
            }
            Err(error) => {
                let advice = "resource servers can't check tokens: does the proxy in front of the broker pass on /.well-known/jwks.json?";
                self.report.fail("keys", error.to_string(), advice);
                None
            }
        }
    }

    fn login(&mut self, login: Option<&Result<Sensitive, Error>>) {
        let error = match login {
            None => return self.report.skip("login", NO_SECRET),
            Some(Ok(_)) => return self.report.ok("login", "the admin secret is accepted"),
            Some(Err(error)) => error,
        };
        let advice = match error.refusal().map(|refusal| refusal.status) {
            Some(401) => "AACTL_ADMIN_SECRET is not the broker's secret",
            Some(403) => "login is switched off: in a cluster set admin.existingSecret in the chart",
            Some(429) => "too many logins: wait some seconds",
            _ => "see the broker's log",
        };
        self.report.fail("login", error.to_string(), advice);
    }

    fn audit(&mut self, verdict: Result<Verdict, CliError>) {
        match verdict {
            Err(error) => self.report.fail("audit", error.to_string(), "see the broker's log"),
            Ok(Verdict {
                broken: Some(broken), ..
            }) => self.report.fail(
                "audit",
                format!("broken at {}: {}", broken.event, broken.problem),
                "keep a copy of the store and of awrit audit export before anything else",
            ),
            Ok(verdict) => {
                let range = match (&verdict.first, &verdict.last) {
                    (Some(first), Some(last)) => format!("intact from {first} to {last}"),
                    _ => "no events yet".to_owned(),
                };
                self.report.ok("audit", range);
            }
        }
    }
}

async fn audit(
    mut trail: Trail<'_>,
    keys: &Jwks,
    full: bool,
    clock: &dyn Clock,
    output: &mut Output<'_>,
) -> Result<Verdict, CliError> {
    let start = if full { Start::First } else { Start::LastCheckpoint };
    let (from, anchored) = trail.place(&start).await?;
    trail.go_to(from);
    let verification = if anchored {
        Verification::from(true, keys, Expected::default())
    } else {
        Verification::from_first(trail.begins().await?, keys, Expected::default())
    };
    trail.verify(verification, &mut Progress::new(clock), output).await
}

/// `1.2` of `1.2.3`.
fn minor(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(minor, _)| minor)
}

/// The second in which a token was issued, unverified: only its own issuer's clock is asked for.
fn issued_at(token: &Sensitive) -> Option<UnixSeconds> {
    #[derive(Deserialize)]
    struct Claims {
        iat: UnixSeconds,
    }
    unverified::<Claims>(token.expose()).map(|claims| claims.iat)
}
