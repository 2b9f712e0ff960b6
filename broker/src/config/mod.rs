//! Configuration: `AA_*` environment and the KEY=VALUE file, parsed once, validated together, passed down.

mod cidr;
mod file;
mod log_level;
mod parse;
mod scope_ceilings;
mod secret;
mod settings;
mod store_place;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use agentwrit_protocol::Ttl;
use agentwrit_protocol::apps::LONGEST_TTL;
use agentwrit_protocol::signing_keys::KeyTimes;
use agentwrit_server::tls::TlsFiles;
use agentwrit_store::{Declared, Installation, Retention};
use agentwrit_tokens::key_source::KeySource;

pub use agentwrit_logging::{LogFormat, LogLevel};
pub use cidr::Cidr;
pub use file::Mode;
pub use log_level::LevelSource;
pub(crate) use scope_ceilings::Ceiling;
pub use scope_ceilings::ScopeCeilings;
pub(crate) use secret::BCRYPT_BYTES;
pub use secret::{AdminAuth, AdminSecret, SecretSource, equal, known_to_everybody};
pub use settings::{Kind, SETTINGS, Setting, help};
pub use store_place::StorePlace;

/// Longest that verifiers may keep the public keys.
const LONGEST_CACHED: Ttl = Ttl::seconds(300);

/// Attestation of pods; off unless both of its settings are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestConfig {
    /// Audience of the projected ServiceAccount tokens.
    pub audience: String,
    /// Full username of the controller's ServiceAccount.
    pub controller_subject: String,
}

/// Everything that can be set.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is a setting of its own, on or off")]
pub struct Config {
    /// Admin login.
    pub admin: AdminAuth,
    /// API listener.
    pub listen: SocketAddr,
    /// Ops listener (plain HTTP), when apart.
    pub ops: Option<SocketAddr>,
    /// How much is logged at first.
    pub log_level: LogLevel,
    /// Where the level can change.
    pub level_source: LevelSource,
    /// What a log line looks like.
    pub log_format: LogFormat,
    /// Trust domain of SPIFFE ids.
    pub trust_domain: String,
    /// Default life of agents' tokens.
    pub default_ttl: Ttl,
    /// Ceiling of every token's life; 0 = none.
    pub max_ttl: Ttl,
    /// Life of admin tokens.
    pub admin_token_ttl: Ttl,
    /// Life of the tokens of apps that were registered without one.
    pub app_token_ttl: Ttl,
    /// bcrypt cost of apps' secrets; no setting, but tests take a lower one.
    pub secret_cost: u32,
    /// What a person says at this start: flags and no settings.
    pub declared: Declared,
    /// Whose brokers these are; `None` is not compared.
    pub installation: Option<String>,
    /// `iss`; empty = not enforced.
    pub issuer: String,
    /// `aud`; empty = none.
    pub audience: String,
    /// Where the signing keys are.
    pub signing_keys: KeySource,
    /// A missing key is FATAL rather than made.
    pub signing_key_required: bool,
    /// How long a new signing key is published before it signs.
    pub key_publish_ahead: Ttl,
    /// Where the store is.
    pub store: StorePlace,
    /// Answer 503 rather than fall back to memory.
    pub store_required: bool,
    /// File with the store's mark.
    pub store_mark: PathBuf,
    /// How long the audit trail is kept.
    pub retention: Retention,
    /// Print a launch token and an admin token at start.
    pub seed_tokens: bool,
    /// Certificate files of the API listener; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// Serve `/v1/metrics` on the API listener.
    pub api_metrics: bool,
    /// `/v1/challenge` per source and second; 0 = no limit.
    pub challenge_rate: u32,
    /// `/v1/register` per source and second; 0 = no limit.
    pub register_rate: u32,
    /// Audited denials per source and second; 0 = no limit.
    pub denial_audit_rate: u32,
    /// Who may say X-Forwarded-For.
    pub trusted_proxies: Vec<Cidr>,
    /// Attestation of pods.
    pub attest: Option<AttestConfig>,
    /// Longest life of a session; 0 = no limit.
    pub max_session_age: Ttl,
    /// Most scopes in one list, for all but attested agents.
    pub max_scopes: usize,
    /// Longest scope, bytes, for all but attested agents.
    pub max_scope_bytes: usize,
    /// Renewals, and delegations, of one session in a second, but for attested agents; 0 = no limit.
    pub session_rate: u32,
    /// Delegations that stand under one session, but for attested agents; 0 = no limit.
    pub max_open_delegations: usize,
    /// How long before `iat` every token is good already, by its `nbf`.
    pub nbf_skew: Ttl,
    /// What the agents of each namespace may have at most.
    pub scope_ceilings: Arc<ScopeCeilings>,
    /// What to say at start, as WARN.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads and validates everything.
    ///
    /// # Errors
    /// Every failure, one sentence each, in the order of the settings.
    pub fn load(env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<String>> {
        parse::load(env)
    }

    /// Where the store is; no other setting is read.
    ///
    /// # Errors
    /// When the settings name no store that this broker has.
    pub fn store_alone(env: &dyn Fn(&str) -> Option<String>) -> Result<StorePlace, Vec<String>> {
        StorePlace::read(env)
    }

    /// The same with what a person says at this start.
    #[must_use]
    pub fn declared(self, declared: Declared) -> Self {
        Self { declared, ..self }
    }

    /// Whose brokers these are, for the store.
    pub(crate) fn owner(&self) -> Installation {
        Installation {
            name: self.installation.clone(),
            trust_domain: self.trust_domain.clone(),
        }
    }

    /// Where the signing keys are; no other setting is read.
    pub fn signing_keys_alone(env: &dyn Fn(&str) -> Option<String>) -> KeySource {
        parse::signing_keys(env)
    }

    /// What the rates and caps are made of.
    pub(crate) fn limits(&self) -> agentwrit_limits::Settings {
        agentwrit_limits::Settings {
            challenge_rate: self.challenge_rate,
            register_rate: self.register_rate,
            denial_audit_rate: self.denial_audit_rate,
            session_rate: self.session_rate,
            max_open_delegations: self.max_open_delegations,
        }
    }

    /// What the life of signing keys depends on.
    pub(crate) fn key_times(&self) -> KeyTimes {
        KeyTimes {
            publish_ahead: self.key_publish_ahead,
            longest_unremembered: LONGEST_TTL.max(self.app_token_ttl).max(self.admin_token_ttl),
        }
    }

    /// How long verifiers may keep the public keys: a new one reaches them before it signs.
    pub(crate) fn jwks_max_age(&self) -> Ttl {
        Ttl::seconds(self.key_publish_ahead.get() / 2).capped_at(LONGEST_CACHED)
    }

    /// `ttl` under the ceiling.
    pub fn clamp_ttl(&self, ttl: Ttl) -> Ttl {
        ttl.capped_at(self.max_ttl)
    }
}
