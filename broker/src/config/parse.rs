//! From text to [`Config`], collecting every failure.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use agentwrit_protocol::Sensitive;
use agentwrit_protocol::file_names::{beside, folder_of};
use agentwrit_protocol::spiffe::check_trust_domain;
use agentwrit_server::tls::TlsFiles;
use agentwrit_store::segment::LEAST_BOUND;
use agentwrit_store::{Retention, StoreLocation, WhenFull};

use super::file::{ConfigFile, Mode, Places};
use super::{AdminAuth, AdminSecret, AttestConfig, Cidr, Config, LevelSource, LogFormat, LogLevel, SecretSource};
use crate::passwords::APP_COST;

/// Default of `AA_DEFAULT_TTL`, seconds.
const DEFAULT_TTL: i64 = 300;

/// More scopes don't fit into a list, whose JSON has 32 KiB at most: `"a:b:c",` are 8 bytes.
const MOST_SCOPES: usize = 4096;
/// Bytes of `a:b:c`.
const SHORTEST_SCOPE: usize = 5;
/// Bytes of a whole list.
const LONGEST_SCOPE: usize = 32 * 1024;

struct Reader<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    failures: Vec<String>,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    fn fail(&mut self, failure: impl Into<String>) {
        self.failures.push(failure.into());
    }

    fn parsed<T: FromStr>(&mut self, name: &str, default: T, wanted: &str, fits: impl Fn(&T) -> bool) -> T {
        let Some(text) = self.text(name) else { return default };
        match text.parse::<T>() {
            Ok(value) if fits(&value) => value,
            _ => {
                self.fail(format!("{name}={text:?} must be {wanted}"));
                default
            }
        }
    }

    fn seconds(&mut self, name: &str, default: i64, least: i64) -> i64 {
        // Far below the end of i64, so that sums of moments and lives can't overflow.
        const MOST: i64 = 1_000_000_000;
        let wanted = format!("a whole number of seconds from {least} to {MOST}");
        self.parsed(name, default, &wanted, |value| (least..=MOST).contains(value))
    }

    /// The default of every life, and what to say of one that is none.
    fn default_ttl(&mut self) -> (i64, Option<String>) {
        match self.seconds("AA_DEFAULT_TTL", DEFAULT_TTL, 0) {
            0 => {
                let warning = format!("AA_DEFAULT_TTL=0 is no life of a token: taken for its default, {DEFAULT_TTL}");
                (DEFAULT_TTL, Some(warning))
            }
            ttl => (ttl, None),
        }
    }

    /// The life of a kind of token; 0 means that of `AA_DEFAULT_TTL` (`docs/wire-contract.md` §13.4).
    fn life(&mut self, name: &str, default: i64, default_ttl: i64) -> i64 {
        match self.seconds(name, default, 0) {
            0 => default_ttl,
            ttl => ttl,
        }
    }

    fn retention(&mut self) -> Retention {
        const MOST_DAYS: i64 = 36_500;
        // Far below the end of i64, so that sums of sizes can't overflow.
        const MOST_BYTES: i64 = 1 << 50;
        let days = "a whole number of days from 0 (for ever) to 36500";
        let bytes = format!(
            "0 (no bound) or a whole number of bytes from {LEAST_BOUND} to {MOST_BYTES}, without a unit: the trail goes in \
             sixteen parts of at least 1 MiB"
        );
        Retention {
            days: self.parsed("AA_AUDIT_RETENTION_DAYS", 0, days, |days| {
                (0..=MOST_DAYS).contains(days)
            }),
            max_bytes: self.parsed("AA_AUDIT_MAX_BYTES", 0, &bytes, |bytes| {
                *bytes == 0 || (LEAST_BOUND..=MOST_BYTES).contains(bytes)
            }),
            export: self.text("AA_AUDIT_EXPORT_DIR").map(PathBuf::from),
            full: self.choice(
                "AA_AUDIT_FULL",
                WhenFull::Refuse,
                &[("refuse", WhenFull::Refuse), ("drop", WhenFull::Drop)],
            ),
        }
    }

    fn rate(&mut self, name: &str, default: u32) -> u32 {
        let wanted = "a whole number per second from 0 (no limit) to 1000000000";
        self.parsed(name, default, wanted, |value: &u32| *value <= 1_000_000_000)
    }

    fn count(&mut self, name: &str, default: usize, least: usize, most: usize) -> usize {
        let wanted = format!("a whole number from {least} to {most}");
        self.parsed(name, default, &wanted, |value| (least..=most).contains(value))
    }

    fn choice<T: Copy>(&mut self, name: &str, default: T, choices: &[(&str, T)]) -> T {
        let Some(text) = self.text(name) else { return default };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return *value;
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.fail(format!("{name}={text:?} must be one of {}", words.join(", ")));
        default
    }

    fn flag(&mut self, name: &str, default: bool) -> bool {
        self.choice(name, default, &[("true", true), ("false", false)])
    }

    fn keep<T>(&mut self, result: Result<T, impl Display>) -> Option<T> {
        result.map_err(|error| self.fail(error.to_string())).ok()
    }

    /// `file` is `None` when there is one that can't be read: nobody knows what secret it holds.
    fn admin(&mut self, file: Option<&ConfigFile>) -> AdminAuth {
        if !self.choice("AA_ADMIN_AUTH", true, &[("on", true), ("off", false)]) {
            return AdminAuth::Off;
        }
        let (secret, from_file) = match (self.env)("AA_ADMIN_SECRET") {
            Some(secret) => (Some(Sensitive::from(secret)), None),
            None => match file {
                Some(file) => (file.admin_secret.clone(), Some(&file.path)),
                None => return AdminAuth::Off,
            },
        };
        let Some(secret) = secret.filter(|secret| !secret.expose().is_empty()) else {
            self.fail("AA_ADMIN_SECRET must be set (non-empty)");
            return AdminAuth::Off;
        };
        match self.keep(AdminSecret::accept(secret)) {
            Some(secret) => AdminAuth::On(match from_file {
                Some(path) => SecretSource::File {
                    path: path.clone(),
                    secret,
                },
                None => SecretSource::Environment(secret),
            }),
            None => AdminAuth::Off,
        }
    }

    fn listen(&mut self) -> SocketAddr {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let address = match self.text("AA_BIND_ADDRESS").as_deref() {
            None | Some("localhost") => localhost,
            Some(text) => text.parse().unwrap_or_else(|_| {
                self.fail(format!(
                    "AA_BIND_ADDRESS={text:?} must be an IP address such as :: or 127.0.0.1"
                ));
                localhost
            }),
        };
        let port = self.parsed("AA_PORT", 8080, "a port from 0 to 65535", |_: &u16| true);
        SocketAddr::new(address, port)
    }

    fn tls(&mut self) -> Option<TlsFiles> {
        #[derive(Clone, Copy, PartialEq)]
        enum Kind {
            None,
            Tls,
            Mtls,
        }
        let kind = self.choice(
            "AA_TLS_MODE",
            Kind::None,
            &[("none", Kind::None), ("tls", Kind::Tls), ("mtls", Kind::Mtls)],
        );
        if kind == Kind::None {
            return None;
        }
        let mut path = |name: &str| {
            let text = self.text(name);
            if text.is_none() {
                self.fail(format!("{name} must name a PEM file when AA_TLS_MODE is tls or mtls"));
            }
            PathBuf::from(text.unwrap_or_default())
        };
        let (cert, key) = (path("AA_TLS_CERT"), path("AA_TLS_KEY"));
        let client_ca = (kind == Kind::Mtls).then(|| path("AA_TLS_CLIENT_CA"));
        Some(TlsFiles { cert, key, client_ca })
    }

    fn attest(&mut self) -> Option<AttestConfig> {
        match (self.text("AA_ATTEST_AUDIENCE"), self.text("AA_CONTROLLER_SUBJECT")) {
            (None, None) => None,
            (Some(audience), Some(controller_subject)) => {
                let parts: Vec<&str> = controller_subject.split(':').collect();
                if !matches!(parts.as_slice(), ["system", "serviceaccount", namespace, name] if !namespace.is_empty() && !name.is_empty())
                {
                    self.fail(format!(
                        "AA_CONTROLLER_SUBJECT={controller_subject:?} must be system:serviceaccount:<namespace>:<name>"
                    ));
                }
                Some(AttestConfig {
                    audience,
                    controller_subject,
                })
            }
            (Some(_), None) => {
                self.fail("AA_CONTROLLER_SUBJECT must be set when AA_ATTEST_AUDIENCE is");
                None
            }
            (None, Some(_)) => {
                self.fail("AA_ATTEST_AUDIENCE must be set when AA_CONTROLLER_SUBJECT is");
                None
            }
        }
    }

    fn store(&mut self) -> StoreLocation {
        // Its value holds a password: only the name is told.
        if self.text("AA_DATABASE_URL").is_some() {
            self.fail(
                "AA_DATABASE_URL is set, but this broker has no PostgreSQL store: \
                 unset it, and name an SQLite file in AA_DB_PATH",
            );
        }
        match (self.env)("AA_DB_PATH") {
            Some(path) if path.is_empty() => StoreLocation::Memory,
            path => StoreLocation::File(PathBuf::from(path.unwrap_or_else(|| "./data.db".to_owned()))),
        }
    }

    fn proxies(&mut self) -> Vec<Cidr> {
        let Some(text) = self.text("AA_TRUSTED_PROXIES") else {
            return Vec::new();
        };
        let parsed = text.split(',').map(|item| {
            item.trim()
                .parse::<Cidr>()
                .map_err(|error| format!("AA_TRUSTED_PROXIES: {error}"))
        });
        parsed
            .collect::<Vec<_>>()
            .into_iter()
            .filter_map(|item| self.keep(item))
            .collect()
    }
}

pub(super) fn load(env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Vec<String>> {
    let mut reader = Reader {
        env,
        failures: Vec::new(),
    };
    let places = Places::new(env);
    let read = reader.keep(places.read());
    let file = read.as_ref().and_then(Option::as_ref);
    let mode = file.map(|file| file.mode);
    let unknown_mode = file.and_then(|file| file.unknown_mode.clone());
    let log_level = file.and_then(|file| file.log_level);
    let level_source = LevelSource {
        places: places.paths,
        environment: LogLevel::of_word(&reader.text("AA_LOG_LEVEL").unwrap_or_default()),
    };
    let admin = reader.admin(read.map(Option::unwrap_or_default).as_ref());
    let ops = reader.text("AA_OPS_ADDRESS").and_then(|text| {
        let wanted =
            format!("AA_OPS_ADDRESS={text:?} must be an address and a port such as [::]:9090 or 127.0.0.1:9090");
        reader.keep(text.parse::<SocketAddr>().map_err(|_| wanted))
    });
    let trust_domain = reader
        .text("AA_TRUST_DOMAIN")
        .unwrap_or_else(|| "agentwrit.local".to_owned());
    reader.keep(check_trust_domain(&trust_domain).map_err(|error| format!("AA_TRUST_DOMAIN: {error}")));
    let (default_ttl, no_default) = reader.default_ttl();
    let signing_key_path = PathBuf::from(
        reader
            .text("AA_SIGNING_KEY_PATH")
            .unwrap_or_else(|| "./signing.key".to_owned()),
    );
    let store_mark = reader
        .text("AA_STORE_MARK")
        .map_or_else(|| beside(&signing_key_path, ".mark"), PathBuf::from);
    let mut config = Config {
        admin,
        listen: reader.listen(),
        ops,
        log_level: log_level.unwrap_or(level_source.environment),
        level_source,
        log_format: reader.choice(
            "AA_LOG_FORMAT",
            LogFormat::Text,
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        ),
        trust_domain,
        default_ttl,
        max_ttl: reader.seconds("AA_MAX_TTL", 86_400, 0),
        admin_token_ttl: reader.life("AA_ADMIN_TOKEN_TTL", 300, default_ttl),
        app_token_ttl: reader.life("AA_APP_TOKEN_TTL", 1800, default_ttl),
        secret_cost: APP_COST,
        accept_clock: false,
        issuer: reader.text("AA_ISSUER").unwrap_or_default(),
        audience: reader.text("AA_AUDIENCE").unwrap_or_default(),
        signing_key_path,
        signing_key_required: reader.flag("AA_SIGNING_KEY_REQUIRED", false),
        store: reader.store(),
        store_required: reader.flag("AA_STORE_REQUIRED", false),
        store_mark,
        restored: false,
        retention: reader.retention(),
        seed_tokens: reader.text("AA_SEED_TOKENS").as_deref() == Some("true"),
        tls: reader.tls(),
        api_metrics: reader.flag("AA_API_METRICS", true),
        challenge_rate: reader.rate("AA_CHALLENGE_RATE", 1000),
        register_rate: reader.rate("AA_REGISTER_RATE", 1000),
        denial_audit_rate: reader.rate("AA_DENIAL_AUDIT_RATE", 1000),
        trusted_proxies: reader.proxies(),
        attest: reader.attest(),
        max_session_age: reader.seconds("AA_MAX_SESSION_AGE", 0, 0),
        max_scopes: reader.count("AA_MAX_SCOPES", 1000, 1, MOST_SCOPES),
        max_scope_bytes: reader.count("AA_MAX_SCOPE_BYTES", 8192, SHORTEST_SCOPE, LONGEST_SCOPE),
        session_rate: reader.rate("AA_SESSION_RATE", 0),
        max_open_delegations: reader.count("AA_MAX_OPEN_DELEGATIONS", 10_000, 0, 1_000_000),
        nbf_skew: reader.parsed(
            "AA_NBF_SKEW_SECONDS",
            0,
            "a whole number of seconds from 0 to 60",
            |value| (0..=60).contains(value),
        ),
        warnings: Vec::new(),
    };
    config.warnings = warnings(&config, mode);
    config.warnings.extend(unknown_mode.map(|word| {
        format!("MODE={word:?} in the config file is neither development nor production: taken for production")
    }));
    config.warnings.extend(no_default);
    if reader.failures.is_empty() {
        Ok(config)
    } else {
        Err(reader.failures)
    }
}

/// Whether two files are in one folder, as far as their names tell.
fn same_folder(one: &Path, other: &Path) -> bool {
    let folder = |path| std::path::absolute(folder_of(path)).ok();
    folder(one) == folder(other)
}

fn warnings(config: &Config, mode: Option<Mode>) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.listen.ip().is_unspecified() && config.tls.is_none() {
        warnings.push(format!("listening on {} without TLS", config.listen.ip()));
    }
    // The default mode; who requires a store is past development, though nobody said so in a file.
    if mode == Some(Mode::Development) || (mode.is_none() && !config.store_required) {
        warnings.push("MODE=development, the default: MODE=production in the config file ends this warning".to_owned());
    }
    if config.max_ttl > 0 && config.default_ttl > config.max_ttl {
        warnings.push("AA_DEFAULT_TTL exceeds AA_MAX_TTL".to_owned());
    }
    if let Some(store) = config.store.path()
        && config.attest.is_none()
        && same_folder(store, &config.store_mark)
    {
        warnings.push(format!(
            "the store and its mark {} are in one folder: when all of it is put back from a copy, nobody notices; \
             name a file elsewhere in AA_STORE_MARK, or start with --restored after each restore",
            config.store_mark.display()
        ));
    }
    if config.seed_tokens {
        warnings.push("AA_SEED_TOKENS prints credentials to standard output".to_owned());
    }
    warnings
}
