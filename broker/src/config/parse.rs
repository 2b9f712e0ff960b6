//! From text to [`Config`], collecting every failure.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use agentwrit_protocol::file_names::{beside, folder_of};
use agentwrit_protocol::spiffe::check_trust_domain;
use agentwrit_protocol::{Sensitive, Ttl};
use agentwrit_server::tls::TlsFiles;
use agentwrit_store::{Declared, Retention, StoreLocation, WhenFull};
use agentwrit_tokens::key_source::KeySource;

use super::file::{ConfigFile, Mode, Places};
use super::settings::{self as set, Setting};
use super::{
    AdminAuth, AdminSecret, AttestConfig, Cidr, Config, LevelSource, LogFormat, LogLevel, ScopeCeilings, SecretSource,
    StorePlace,
};

/// A namespace, a slash and the name of a release have 117.
const LONGEST_INSTALLATION: usize = 128;
/// bcrypt cost of the secrets of apps: no setting.
const APP_COST: u32 = 12;

struct Reader<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    failures: Vec<String>,
}

impl Reader<'_> {
    fn text(&self, setting: &Setting) -> Option<String> {
        (self.env)(setting.name).filter(|value| !value.is_empty())
    }

    fn text_or_default(&self, setting: &Setting) -> String {
        self.text(setting).unwrap_or_else(|| setting.default.to_owned())
    }

    fn fail(&mut self, failure: impl Into<String>) {
        self.failures.push(failure.into());
    }

    /// The number of a setting, of the kind and with the default that the table says.
    fn number<T: FromStr + Copy + TryInto<i64> + Default>(&mut self, setting: &Setting) -> T {
        let read = |text: &str| {
            let number: T = text.parse().ok()?;
            setting.kind.takes(number.try_into().ok()?).then_some(number)
        };
        let text = self.text_or_default(setting);
        read(&text).unwrap_or_else(|| {
            self.fail(format!("{}={text:?} must be {}", setting.name, setting.kind.wanted()));
            T::default()
        })
    }

    fn seconds(&mut self, setting: &Setting) -> Ttl {
        Ttl::seconds(self.number(setting))
    }

    /// The life of a kind of token; 0 means that of `AA_DEFAULT_TTL` (`docs/wire-contract.md` §13.4).
    fn life(&mut self, setting: &Setting, default_ttl: Ttl) -> Ttl {
        let ttl = self.seconds(setting);
        if ttl == Ttl::ZERO { default_ttl } else { ttl }
    }

    fn retention(&mut self) -> Retention {
        Retention {
            days: self.number(&set::AUDIT_RETENTION_DAYS),
            max_bytes: self.number(&set::AUDIT_MAX_BYTES),
            export: self.text(&set::AUDIT_EXPORT_DIR).map(PathBuf::from),
            full: self.choice(
                &set::AUDIT_FULL,
                ("refuse", WhenFull::Refuse),
                &[("drop", WhenFull::Drop)],
            ),
        }
    }

    /// The value of a word; the first one's after an error.
    fn choice<T: Copy>(&mut self, setting: &Setting, first: (&str, T), others: &[(&str, T)]) -> T {
        let text = self.text_or_default(setting);
        let choices = || std::iter::once(&first).chain(others);
        if let Some((_, value)) = choices().find(|(word, _)| *word == text) {
            return *value;
        }
        let words: Vec<&str> = choices().map(|(word, _)| *word).collect();
        self.fail(format!("{}={text:?} must be one of {}", setting.name, words.join(", ")));
        first.1
    }

    fn flag(&mut self, setting: &Setting) -> bool {
        self.choice(setting, ("true", true), &[("false", false)])
    }

    fn keep<T>(&mut self, result: Result<T, impl Display>) -> Option<T> {
        result.map_err(|error| self.fail(error.to_string())).ok()
    }

    /// `file` is `None` when there is one that can't be read: nobody knows what secret it holds.
    fn admin(&mut self, file: Option<&ConfigFile>) -> AdminAuth {
        if !self.choice(&set::ADMIN_AUTH, ("on", true), &[("off", false)]) {
            return AdminAuth::Off;
        }
        let (secret, from_file) = match (self.env)(set::ADMIN_SECRET.name) {
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

    fn installation(&mut self) -> Option<String> {
        let name = self.text(&set::INSTALLATION)?;
        let is_fit = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
        if name.len() > LONGEST_INSTALLATION || !name.chars().all(is_fit) {
            self.fail(format!(
                "AA_INSTALLATION={name:?} must be at most {LONGEST_INSTALLATION} letters, digits, '.', '_', '-' and '/', \
                 such as agentwrit-system/agentwrit"
            ));
        }
        Some(name)
    }

    fn listen(&mut self) -> SocketAddr {
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let address = match self.text_or_default(&set::BIND_ADDRESS).as_str() {
            "localhost" => localhost,
            text => text.parse().unwrap_or_else(|_| {
                self.fail(format!(
                    "AA_BIND_ADDRESS={text:?} must be an IP address such as :: or 127.0.0.1"
                ));
                localhost
            }),
        };
        SocketAddr::new(address, self.number(&set::PORT))
    }

    fn tls(&mut self) -> Option<TlsFiles> {
        #[derive(Clone, Copy, PartialEq)]
        enum Kind {
            None,
            Tls,
            Mtls,
        }
        let kind = self.choice(
            &set::TLS_MODE,
            ("none", Kind::None),
            &[("tls", Kind::Tls), ("mtls", Kind::Mtls)],
        );
        if kind == Kind::None {
            return None;
        }
        let mut path = |setting: &Setting| {
            let text = self.text(setting);
            if text.is_none() {
                let name = setting.name;
                self.fail(format!("{name} must name a PEM file when AA_TLS_MODE is tls or mtls"));
            }
            PathBuf::from(text.unwrap_or_default())
        };
        let (cert, key) = (path(&set::TLS_CERT), path(&set::TLS_KEY));
        let client_ca = (kind == Kind::Mtls).then(|| path(&set::TLS_CLIENT_CA));
        Some(TlsFiles { cert, key, client_ca })
    }

    fn attest(&mut self) -> Option<AttestConfig> {
        match (self.text(&set::ATTEST_AUDIENCE), self.text(&set::CONTROLLER_SUBJECT)) {
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

    fn scope_ceilings(&mut self) -> ScopeCeilings {
        let Some(path) = self.text(&set::SCOPE_CEILINGS_PATH) else {
            return ScopeCeilings::default();
        };
        let read = ScopeCeilings::read(Path::new(&path));
        let named = read.map_err(|error| format!("AA_SCOPE_CEILINGS_PATH={path:?}: {error}"));
        self.keep(named).unwrap_or_default()
    }

    fn store(&mut self) -> StorePlace {
        StorePlace::read(self.env).unwrap_or_else(|failures| {
            self.failures.extend(failures);
            // It isn't used: there is a failure.
            StorePlace::Embedded(StoreLocation::Memory)
        })
    }

    fn signing_keys(&self) -> KeySource {
        KeySource::at(Path::new(&self.text_or_default(&set::SIGNING_KEY_PATH)))
    }

    fn proxies(&mut self) -> Vec<Cidr> {
        let Some(text) = self.text(&set::TRUSTED_PROXIES) else {
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
        environment: LogLevel::of_word(&reader.text_or_default(&set::LOG_LEVEL)),
    };
    let admin = reader.admin(read.map(Option::unwrap_or_default).as_ref());
    let ops = reader.text(&set::OPS_ADDRESS).and_then(|text| {
        let wanted =
            format!("AA_OPS_ADDRESS={text:?} must be an address and a port such as [::]:9090 or 127.0.0.1:9090");
        reader.keep(text.parse::<SocketAddr>().map_err(|_| wanted))
    });
    let trust_domain = reader.text_or_default(&set::TRUST_DOMAIN);
    reader.keep(check_trust_domain(&trust_domain).map_err(|error| format!("AA_TRUST_DOMAIN: {error}")));
    let installation = reader.installation();
    let given_ttl = reader.number(&set::DEFAULT_TTL);
    let default_ttl = Ttl::seconds(match given_ttl {
        0 => set::DEFAULT_TTL.default.parse().unwrap_or_default(),
        ttl => ttl,
    });
    let signing_keys = reader.signing_keys();
    let store_mark = reader
        .text(&set::STORE_MARK)
        .map_or_else(|| beside(signing_keys.path(), ".mark"), PathBuf::from);
    let mut config = Config {
        admin,
        listen: reader.listen(),
        ops,
        log_level: log_level.unwrap_or(level_source.environment),
        level_source,
        log_format: reader.choice(
            &set::LOG_FORMAT,
            ("text", LogFormat::Text),
            &[("json", LogFormat::Json)],
        ),
        trust_domain,
        default_ttl,
        max_ttl: reader.seconds(&set::MAX_TTL),
        admin_token_ttl: reader.life(&set::ADMIN_TOKEN_TTL, default_ttl),
        app_token_ttl: reader.life(&set::APP_TOKEN_TTL, default_ttl),
        secret_cost: APP_COST,
        declared: Declared::default(),
        installation,
        issuer: reader.text_or_default(&set::ISSUER),
        audience: reader.text_or_default(&set::AUDIENCE),
        signing_keys,
        signing_key_required: reader.flag(&set::SIGNING_KEY_REQUIRED),
        key_publish_ahead: reader.seconds(&set::KEY_PUBLISH_SECONDS),
        store: reader.store(),
        store_required: reader.flag(&set::STORE_REQUIRED),
        store_mark,
        retention: reader.retention(),
        seed_tokens: reader.text_or_default(&set::SEED_TOKENS) == "true",
        tls: reader.tls(),
        api_metrics: reader.flag(&set::API_METRICS),
        challenge_rate: reader.number(&set::CHALLENGE_RATE),
        register_rate: reader.number(&set::REGISTER_RATE),
        denial_audit_rate: reader.number(&set::DENIAL_AUDIT_RATE),
        trusted_proxies: reader.proxies(),
        attest: reader.attest(),
        max_session_age: reader.seconds(&set::MAX_SESSION_AGE),
        max_scopes: reader.number(&set::MAX_SCOPES),
        max_scope_bytes: reader.number(&set::MAX_SCOPE_BYTES),
        session_rate: reader.number(&set::SESSION_RATE),
        max_open_delegations: reader.number(&set::MAX_OPEN_DELEGATIONS),
        nbf_skew: reader.seconds(&set::NBF_SKEW_SECONDS),
        scope_ceilings: Arc::new(reader.scope_ceilings()),
        warnings: Vec::new(),
    };
    config.warnings = warnings(&config, mode);
    config.warnings.extend(unknown_mode.map(|word| {
        format!("MODE={word:?} in the config file is neither development nor production: taken for production")
    }));
    if given_ttl == 0 {
        let warning = format!("AA_DEFAULT_TTL=0 is no life of a token: taken for its default, {default_ttl}");
        config.warnings.push(warning);
    }
    if reader.failures.is_empty() {
        Ok(config)
    } else {
        Err(reader.failures)
    }
}

/// Where the signing keys are, for who needs nothing else.
pub(super) fn signing_keys(env: &dyn Fn(&str) -> Option<String>) -> KeySource {
    let failures = Vec::new();
    Reader { env, failures }.signing_keys()
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
    if mode == Some(Mode::Development)
        || (mode.is_none() && !config.store_required && matches!(config.store, StorePlace::Embedded(_)))
    {
        warnings.push("MODE=development, the default: MODE=production in the config file ends this warning".to_owned());
    }
    if config.max_ttl.is_positive() && config.default_ttl > config.max_ttl {
        warnings.push("AA_DEFAULT_TTL exceeds AA_MAX_TTL".to_owned());
    }
    if let Some(store) = config.store.file()
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
