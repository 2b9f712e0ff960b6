//! Named scenarios of settings.

mod file;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use agentwrit_protocol::Ttl;
use agentwrit_store::{Retention, WhenFull};
use agentwrit_tokens::key_source::KeySource;

use super::settings::Kind;
use super::{AdminAuth, AttestConfig, Config, LogFormat, LogLevel, SETTINGS, StorePlace};

const GOOD: (&str, &str) = ("AA_ADMIN_SECRET", "a-good-admin-secret");

const DEVELOPMENT: &str = "MODE=development, the default: MODE=production in the config file ends this warning";

const ONE_FOLDER: &str = "the store and its mark ./signing.key.mark are in one folder: when all of it is put back from a copy, \
     nobody notices; name a file elsewhere in AA_STORE_MARK, or start with --restored after each restore";
const MARK: (&str, &str) = ("AA_STORE_MARK", "/mark/store.mark");

fn load(settings: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let settings: HashMap<&str, &str> = settings.iter().copied().collect();
    Config::load(&|name| settings.get(name).map(|value| (*value).to_owned()))
}

fn failure(settings: &[(&str, &str)]) -> String {
    load(settings).unwrap_err().join("\n")
}

#[test]
fn defaults_are_the_contracts() {
    let config = load(&[GOOD]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(
        [
            config.default_ttl,
            config.max_ttl,
            config.admin_token_ttl,
            config.app_token_ttl,
            config.max_session_age,
            config.nbf_skew
        ],
        [300, 86_400, 300, 1800, 0, 0].map(Ttl::seconds)
    );
    assert_eq!(
        (
            config.trust_domain.as_str(),
            config.issuer.as_str(),
            config.audience.as_str()
        ),
        ("agentwrit.local", "", "")
    );
    assert_eq!(config.store.file(), Some(Path::new("./data.db")));
    assert_eq!(config.signing_keys, KeySource::File(PathBuf::from("./signing.key")));
    assert_eq!(config.key_publish_ahead, Ttl::seconds(600));
    assert_eq!(
        (config.tls.clone(), config.log_level, config.log_format),
        (None, LogLevel::Verbose, LogFormat::Text)
    );
    assert_eq!(
        (config.challenge_rate, config.register_rate, config.denial_audit_rate),
        (1000, 1000, 1000)
    );
    assert!(config.api_metrics && !config.store_required && !config.signing_key_required && !config.seed_tokens);
    assert!(config.ops.is_none() && config.attest.is_none() && config.trusted_proxies.is_empty());
    assert_eq!(config.store_mark, PathBuf::from("./signing.key.mark"));
    assert_eq!(config.warnings, [DEVELOPMENT, ONE_FOLDER]);
    assert!(!config.declared.restored.is_said());
    assert!(
        load(&[GOOD, MARK, ("AA_STORE_REQUIRED", "true")])
            .unwrap()
            .warnings
            .is_empty()
    );
    assert_eq!(
        (config.clamp_ttl(Ttl::seconds(100_000)), config.secret_cost),
        (Ttl::seconds(86_400), 12)
    );
}

#[test]
fn empty_is_unset_but_for_the_two_that_say_something() {
    let config = load(&[
        GOOD,
        ("AA_MAX_TTL", ""),
        ("AA_TLS_MODE", ""),
        ("AA_OPS_ADDRESS", ""),
        ("AA_DB_PATH", ""),
    ])
    .unwrap();
    assert_eq!((config.max_ttl.get(), config.store.file()), (86_400, None));
    assert_eq!(
        failure(&[("AA_ADMIN_SECRET", "")]),
        "AA_ADMIN_SECRET must be set (non-empty)"
    );
    assert_eq!(failure(&[]), "AA_ADMIN_SECRET must be set (non-empty)");
}

#[test]
fn every_bad_value_is_named_with_what_would_be_right() {
    let table = [
        ("AA_ADMIN_AUTH", "yes", "on, off"),
        ("AA_BIND_ADDRESS", "nowhere.example", "IP address"),
        ("AA_PORT", "65536", "a port"),
        ("AA_OPS_ADDRESS", "9090", "[::]:9090"),
        ("AA_LOG_FORMAT", "xml", "text, json"),
        ("AA_TRUST_DOMAIN", "Example.org", "a-z"),
        ("AA_DEFAULT_TTL", "-1", "from 0"),
        ("AA_MAX_TTL", "-1", "from 0"),
        ("AA_MAX_TTL", "1h", "seconds"),
        ("AA_MAX_TTL", "9223372036854775807", "1000000000"),
        ("AA_ADMIN_TOKEN_TTL", "-1", "from 0"),
        ("AA_APP_TOKEN_TTL", "-1", "from 0"),
        ("AA_APP_TOKEN_TTL", "30m", "seconds"),
        ("AA_MAX_SESSION_AGE", "x", "seconds"),
        ("AA_SESSION_RATE", "-1", "no limit"),
        ("AA_MAX_OPEN_DELEGATIONS", "1000001", "from 0 to 1000000"),
        ("AA_MAX_SCOPES", "0", "from 1 to 4096"),
        ("AA_MAX_SCOPES", "4097", "from 1 to 4096"),
        ("AA_MAX_SCOPE_BYTES", "4", "from 5 to 32768"),
        ("AA_MAX_SCOPE_BYTES", "32769", "from 5 to 32768"),
        ("AA_SIGNING_KEY_REQUIRED", "1", "true, false"),
        ("AA_STORE_REQUIRED", "TRUE", "true, false"),
        ("AA_AUDIT_RETENTION_DAYS", "-1", "from 0"),
        ("AA_AUDIT_RETENTION_DAYS", "90d", "days"),
        ("AA_AUDIT_RETENTION_DAYS", "36501", "36500"),
        ("AA_AUDIT_MAX_BYTES", "16777215", "16777216"),
        ("AA_AUDIT_MAX_BYTES", "64Mi", "without a unit"),
        ("AA_AUDIT_MAX_BYTES", "-1", "0 (no bound)"),
        ("AA_AUDIT_FULL", "wait", "refuse, drop"),
        ("AA_TLS_MODE", "TLS", "none, tls, mtls"),
        ("AA_API_METRICS", "off", "true, false"),
        ("AA_CHALLENGE_RATE", "-1", "no limit"),
        ("AA_REGISTER_RATE", "fast", "no limit"),
        ("AA_DENIAL_AUDIT_RATE", "1.5", "no limit"),
        ("AA_TRUSTED_PROXIES", "10.0.0.0/8,x", "10.0.0.0/8"),
        ("AA_ATTEST_AUDIENCE", "x", "AA_CONTROLLER_SUBJECT"),
        (
            "AA_CONTROLLER_SUBJECT",
            "system:serviceaccount:a:b",
            "AA_ATTEST_AUDIENCE",
        ),
    ];
    for (name, value, right) in table {
        let text = failure(&[GOOD, (name, value)]);
        assert!(text.contains(name) && text.contains(right), "{name}={value}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let both = failure(&[GOOD, ("AA_ATTEST_AUDIENCE", "x"), ("AA_CONTROLLER_SUBJECT", "somebody")]);
    assert!(both.contains("system:serviceaccount:<namespace>:<name>"), "{both}");
    assert_eq!(
        failure(&[("AA_PORT", "x"), ("AA_MAX_TTL", "x"), ("AA_TLS_MODE", "x")])
            .lines()
            .count(),
        4,
        "all at once"
    );
}

#[test]
fn lives_of_zero_are_the_default_one() {
    let zero = [("AA_ADMIN_TOKEN_TTL", "0"), ("AA_APP_TOKEN_TTL", "0")];
    for (default, wanted) in [("", 300), ("0", 300), ("600", 600)] {
        let config = load(&[GOOD, zero[0], zero[1], ("AA_DEFAULT_TTL", default)]).unwrap();
        let lives = [config.default_ttl, config.admin_token_ttl, config.app_token_ttl];
        assert_eq!(lives, [Ttl::seconds(wanted); 3], "{default:?}");
        let warned = config
            .warnings
            .iter()
            .any(|warning| warning.contains("AA_DEFAULT_TTL=0"));
        assert_eq!(warned, default == "0", "{:?}", config.warnings);
    }
    for ttl in ["1", "59", "86401", "1000000000"] {
        let config = load(&[GOOD, ("AA_APP_TOKEN_TTL", ttl)]).unwrap();
        assert_eq!(config.app_token_ttl.to_string(), ttl);
    }
}

#[test]
fn secrets_are_never_in_what_is_said() {
    let text = failure(&[("AA_ADMIN_SECRET", "hunter2")]);
    assert_eq!(text, "admin secret rejected: does not meet security requirements");
    assert!(!format!("{:?}", load(&[GOOD]).unwrap()).contains(GOOD.1));
}

#[test]
fn a_database_is_named_once_and_its_password_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let url = "postgres://agentwrit:hunter2@db.example/agentwrit?sslrootcert=/ca.crt";
    let (whole, empty, two) = (
        file("url", &format!("{url}\r\n")),
        file("empty", "\n"),
        file("two", "postgres://a@hunter2/b\npostgres://a@hunter2/b\n"),
    );
    for given in [("AA_DATABASE_URL", url), ("AA_DATABASE_URL_FILE", whole.as_str())] {
        let config = load(&[GOOD, given]).unwrap();
        let StorePlace::Postgres(settings) = &config.store else {
            panic!("{given:?}: {:?}", config.store);
        };
        assert_eq!(
            (settings.user.as_str(), settings.database.as_str()),
            ("agentwrit", "agentwrit")
        );
        assert!(!format!("{config:?}").contains("hunter2"));
    }
    let both = "AA_DATABASE_URL and AA_DATABASE_URL_FILE are both set: only one of them may be";
    for (given, wanted) in [
        (
            vec![("AA_DATABASE_URL", url), ("AA_DB_PATH", "")],
            "AA_DB_PATH and a database",
        ),
        (vec![("AA_DATABASE_URL", url), ("AA_DATABASE_URL_FILE", &whole)], both),
        (
            vec![("AA_DATABASE_URL_FILE", "/not/there")],
            "AA_DATABASE_URL_FILE=/not/there: No such file",
        ),
        (
            vec![("AA_DATABASE_URL_FILE", &empty)],
            "must hold one line, the URL of the database",
        ),
        (
            vec![("AA_DATABASE_URL_FILE", &two)],
            "must hold one line, the URL of the database",
        ),
        (
            vec![("AA_DATABASE_PASSWORD_FILE", "/p")],
            "no database is named: set AA_DATABASE_URL too",
        ),
        (
            vec![("AA_DATABASE_URL", url), ("AA_DATABASE_PASSWORD_FILE", "/p")],
            "only one of them may be",
        ),
        (
            vec![("AA_DATABASE_URL", "postgres://agentwrit:hunter2@db.example/agentwrit")],
            "needs sslrootcert=FILE",
        ),
        (
            vec![("AA_DATABASE_URL", "mysql://agentwrit:hunter2@db.example/agentwrit")],
            "must begin with postgres://",
        ),
    ] {
        let text = failure(&[&[GOOD], given.as_slice()].concat());
        assert!(text.contains(wanted) && text.lines().count() == 1, "{given:?}: {text}");
        assert!(!text.contains("hunter2") && !text.contains("db.example"), "{text}");
    }
    let unset = load(&[GOOD, ("AA_DATABASE_URL", ""), ("AA_DATABASE_URL_FILE", "")]).unwrap();
    assert_eq!(unset.store.file(), Some(Path::new("./data.db")));
}

#[test]
fn tls_wants_its_files() {
    let text = failure(&[GOOD, ("AA_TLS_MODE", "mtls"), ("AA_TLS_CERT", "a")]);
    assert!(
        text.contains("AA_TLS_KEY") && text.contains("AA_TLS_CLIENT_CA") && !text.contains("AA_TLS_CERT "),
        "{text}"
    );
    let config = load(&[GOOD, ("AA_TLS_MODE", "tls"), ("AA_TLS_CERT", "a"), ("AA_TLS_KEY", "b")]).unwrap();
    let wanted = agentwrit_server::tls::TlsFiles {
        cert: "a".into(),
        key: "b".into(),
        client_ca: None,
    };
    assert_eq!(config.tls, Some(wanted));
}

#[test]
fn attestation_is_on_with_both_settings() {
    let subject = "system:serviceaccount:agentwrit-system:agentwrit-controller";
    let config = load(&[GOOD, ("AA_ATTEST_AUDIENCE", "x"), ("AA_CONTROLLER_SUBJECT", subject)]).unwrap();
    let wanted = AttestConfig {
        audience: "x".into(),
        controller_subject: subject.into(),
    };
    assert_eq!(config.attest, Some(wanted));
}

#[test]
fn without_admin_login_no_secret_is_needed() {
    assert!(matches!(
        load(&[("AA_ADMIN_AUTH", "off")]).unwrap().admin,
        AdminAuth::Off
    ));
}

#[test]
fn risky_settings_are_warned_about() {
    let config = load(&[
        GOOD,
        ("AA_BIND_ADDRESS", "0.0.0.0"),
        ("AA_DEFAULT_TTL", "600"),
        ("AA_MAX_TTL", "60"),
    ])
    .unwrap();
    assert_eq!(
        config.warnings,
        [
            "listening on 0.0.0.0 without TLS",
            DEVELOPMENT,
            "AA_DEFAULT_TTL exceeds AA_MAX_TTL",
            ONE_FOLDER
        ]
    );
}

#[test]
fn the_audit_trail_is_kept_for_ever_by_default() {
    assert_eq!(load(&[GOOD]).unwrap().retention, Retention::default());
    let settings = [
        GOOD,
        ("AA_AUDIT_RETENTION_DAYS", "90"),
        ("AA_AUDIT_MAX_BYTES", "16777216"),
        ("AA_AUDIT_EXPORT_DIR", "/audit"),
        ("AA_AUDIT_FULL", "drop"),
    ];
    let wanted = Retention {
        days: 90,
        max_bytes: 16 * 1024 * 1024,
        export: Some(PathBuf::from("/audit")),
        full: WhenFull::Drop,
    };
    assert_eq!(load(&settings).unwrap().retention, wanted);
}

#[test]
fn a_mark_beside_the_store_is_warned_about() {
    let table: [(&[(&str, &str)], bool); 6] = [
        (&[], true),
        (&[("AA_STORE_MARK", "mark")], true),
        (&[("AA_DB_PATH", "store/data.db")], false),
        (
            &[("AA_DB_PATH", "store/data.db"), ("AA_STORE_MARK", "./store/mark")],
            true,
        ),
        (&[("AA_DB_PATH", "")], false),
        (
            // The controller's Lease remembers it too.
            &[
                ("AA_ATTEST_AUDIENCE", "x"),
                ("AA_CONTROLLER_SUBJECT", "system:serviceaccount:a:b"),
            ],
            false,
        ),
    ];
    for (settings, warned) in table {
        let settings: Vec<_> = settings.iter().copied().chain([GOOD]).collect();
        let warnings = load(&settings).unwrap().warnings;
        let found = warnings.iter().any(|warning| warning.contains("are in one folder"));
        assert_eq!(found, warned, "{settings:?}: {warnings:?}");
    }
}

#[test]
fn every_setting_is_in_the_help_once() {
    for setting in SETTINGS {
        assert_eq!(SETTINGS.iter().filter(|other| other.name == setting.name).count(), 1);
        assert!(super::help().contains(setting.about));
    }
}

#[test]
fn every_default_and_every_bound_is_that_of_the_table() {
    for setting in SETTINGS {
        if !matches!(setting.kind, Kind::Text | Kind::Word) {
            let default = setting.default.parse().unwrap();
            assert!(setting.kind.takes(default), "{}: {default}", setting.name);
        }
        if let Kind::Count(least, most) = setting.kind {
            let bounds = format!("{least} to {most}");
            assert!(setting.about.contains(&bounds), "{}: {bounds}", setting.name);
        }
    }
}

#[test]
fn log_levels_ignore_case_and_unknown_ones_mean_verbose() {
    for (word, wanted) in [
        ("quiet", LogLevel::Quiet),
        ("QUIET", LogLevel::Quiet),
        ("standard", LogLevel::Verbose),
        ("Verbose", LogLevel::Verbose),
        ("debug", LogLevel::Verbose),
        ("trace", LogLevel::Trace),
    ] {
        assert_eq!(
            load(&[GOOD, ("AA_LOG_LEVEL", word)]).unwrap().log_level,
            wanted,
            "{word}"
        );
    }
}
