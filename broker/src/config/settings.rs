//! The table of settings: names, what they may be, defaults, and the text of `--help`. `parse.rs` reads them by it.

use std::fmt::Write;

use agentwrit_store::segment::LEAST_BOUND;

use Kind::{Bytes, Count, Days, PerSecond, Port, Seconds, Text, Word};

/// Far below the end of i64, so that sums of moments and lives can't overflow.
const MOST_SECONDS: i64 = 1_000_000_000;
const MOST_PER_SECOND: i64 = 1_000_000_000;
const MOST_DAYS: i64 = 36_500;
/// Far below the end of i64, so that sums of sizes can't overflow.
const MOST_BYTES: i64 = 1 << 50;
/// More scopes don't fit into a list, whose JSON has 32 KiB at most: `"a:b:c",` are 8 bytes.
const MOST_SCOPES: i64 = 4096;
/// Bytes of `a:b:c`.
const SHORTEST_SCOPE: i64 = 5;
/// Bytes of a whole list.
const LONGEST_SCOPE: i64 = 32 * 1024;

/// What a setting may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text; `parse.rs` checks what it must be.
    Text,
    /// One of the words that `parse.rs` knows.
    Word,
    /// A port.
    Port,
    /// Seconds from 0 to this many.
    Seconds(i64),
    /// A rate; 0 is no limit.
    PerSecond,
    /// Days; 0 is for ever.
    Days,
    /// Bytes of the audit trail; 0 is no bound.
    Bytes,
    /// A number from the first to the second.
    Count(i64, i64),
}

impl Kind {
    /// Whether this is one of its numbers.
    pub(super) fn takes(self, number: i64) -> bool {
        match self {
            Text | Word => false,
            Port => u16::try_from(number).is_ok(),
            Seconds(most) => (0..=most).contains(&number),
            PerSecond => (0..=MOST_PER_SECOND).contains(&number),
            Days => (0..=MOST_DAYS).contains(&number),
            Bytes => number == 0 || (LEAST_BOUND..=MOST_BYTES).contains(&number),
            Count(least, most) => (least..=most).contains(&number),
        }
    }

    /// What it must be, for the error about something else.
    pub(super) fn wanted(self) -> String {
        match self {
            Text => "text".to_owned(),
            Word => "a word".to_owned(),
            Port => format!("a port from 0 to {}", u16::MAX),
            Seconds(most) => format!("a whole number of seconds from 0 to {most}"),
            PerSecond => format!("a whole number per second from 0 (no limit) to {MOST_PER_SECOND}"),
            Days => format!("a whole number of days from 0 (for ever) to {MOST_DAYS}"),
            Bytes => format!(
                "0 (no bound) or a whole number of bytes from {LEAST_BOUND} to {MOST_BYTES}, without a unit: the trail goes in \
                 sixteen parts of at least 1 MiB"
            ),
            Count(least, most) => format!("a whole number from {least} to {most}"),
        }
    }
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Name of the environment variable.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Default, as text; empty when there is none.
    pub default: &'static str,
    /// A value that makes sense.
    pub example: &'static str,
    /// What it does, with unit and range.
    pub about: &'static str,
}

/// Makes a constant of each setting, and the list of all in the order of `--help`.
macro_rules! settings {
    ($($id:ident = $name:literal, $kind:expr, $default:literal, $example:literal, $about:literal;)+) => {
        $(pub(super) const $id: Setting = Setting {
            name: $name,
            kind: $kind,
            default: $default,
            example: $example,
            about: $about,
        };)+

        /// Every setting, in the order of `--help`.
        pub const SETTINGS: &[Setting] = &[$($id),+];
    };
}

settings! {
    ADMIN_SECRET = "AA_ADMIN_SECRET", Text, "", "$(openssl rand -base64 32)",
        "admin secret, 16 to 72 bytes or a bcrypt hash; required unless AA_ADMIN_AUTH=off or in the config file";
    ADMIN_AUTH = "AA_ADMIN_AUTH", Word, "on", "off",
        "on or off: whether POST /v1/admin/auth is served";
    CONFIG_PATH = "AA_CONFIG_PATH", Text, "", "/etc/broker/config",
        "KEY=VALUE file with MODE, ADMIN_SECRET and LOG_LEVEL; also looked for at /etc/broker/config and \
         ~/.broker/config";
    BIND_ADDRESS = "AA_BIND_ADDRESS", Text, "127.0.0.1", "::",
        "IP address of the API listener; :: is IPv6 and IPv4";
    PORT = "AA_PORT", Port, "8080", "8443",
        "port of the API listener, 0 to 65535";
    OPS_ADDRESS = "AA_OPS_ADDRESS", Text, "", "[::]:9090",
        "address and port of the ops listener; [::] is IPv6 and IPv4 (plain HTTP: /livez, /readyz, /metrics); \
         empty: /livez and /readyz are on the API listener";
    LOG_LEVEL = "AA_LOG_LEVEL", Text, "verbose", "trace",
        "quiet, standard, verbose or trace; LOG_LEVEL in the config file comes before it and may change at any time";
    LOG_FORMAT = "AA_LOG_FORMAT", Word, "text", "json",
        "text or json";
    TRUST_DOMAIN = "AA_TRUST_DOMAIN", Text, "agentwrit.local", "example.org",
        "trust domain of SPIFFE ids: a-z, 0-9, '.', '_', '-'";
    ISSUER = "AA_ISSUER", Text, "", "https://broker.example.org",
        "iss of tokens; when set, tokens with another are refused";
    AUDIENCE = "AA_AUDIENCE", Text, "", "orders",
        "aud of tokens; when set, bearers without it are refused";
    DEFAULT_TTL = "AA_DEFAULT_TTL", Seconds(MOST_SECONDS), "300", "600",
        "life of an agent's token when its launch token names none, seconds; 0 = 300";
    MAX_TTL = "AA_MAX_TTL", Seconds(MOST_SECONDS), "86400", "3600",
        "ceiling of every token's life, seconds; 0 = none";
    ADMIN_TOKEN_TTL = "AA_ADMIN_TOKEN_TTL", Seconds(MOST_SECONDS), "300", "900",
        "life of admin tokens, seconds; 0 = that of AA_DEFAULT_TTL";
    APP_TOKEN_TTL = "AA_APP_TOKEN_TTL", Seconds(MOST_SECONDS), "1800", "3600",
        "life of an app's tokens when its registration names none, seconds; 0 = that of AA_DEFAULT_TTL";
    MAX_SESSION_AGE = "AA_MAX_SESSION_AGE", Seconds(MOST_SECONDS), "0", "604800",
        "how long an agent can go on renewing, seconds; 0 = no limit";
    SESSION_RATE = "AA_SESSION_RATE", PerSecond, "0", "50",
        "renewals of its own token, renewals of what it delegated, and delegations, each, of one session per \
         second, twice as many at once; 0 = no limit; attested agents have rates of their own";
    MAX_OPEN_DELEGATIONS = "AA_MAX_OPEN_DELEGATIONS", Count(0, 1_000_000), "10000", "256",
        "delegations that stand under one session at a time, 0 to 1000000; 0 = no limit; always 256 for attested \
         agents";
    MAX_SCOPES = "AA_MAX_SCOPES", Count(1, MOST_SCOPES), "1000", "64",
        "most scopes in one list of a launch token, an app, a registration or a delegation, 1 to 4096; always 64 \
         for attested agents";
    MAX_SCOPE_BYTES = "AA_MAX_SCOPE_BYTES", Count(SHORTEST_SCOPE, LONGEST_SCOPE), "8192", "256",
        "longest scope in such a list, bytes, 5 to 32768; always 256 for attested agents";
    NBF_SKEW_SECONDS = "AA_NBF_SKEW_SECONDS", Seconds(60), "0", "5",
        "nbf of every token is this many seconds before iat, for verifiers whose clock is behind; 0 to 60";
    SIGNING_KEY_PATH = "AA_SIGNING_KEY_PATH", Text, "./signing.key", "/data/signing.key",
        "PEM file (PKCS#8, Ed25519), made when missing; or, ending with /, a folder of such files that end with .key: a \
         key set, which can be rotated";
    SIGNING_KEY_REQUIRED = "AA_SIGNING_KEY_REQUIRED", Word, "false", "true",
        "true: a missing key is fatal rather than made";
    KEY_PUBLISH_SECONDS = "AA_KEY_PUBLISH_SECONDS", Seconds(MOST_SECONDS), "600", "3600",
        "how long a new signing key is published before it signs, seconds; /.well-known/jwks.json may be kept half as \
         long, but no longer than 300 s";
    DB_PATH = "AA_DB_PATH", Text, "./data.db", "/data/data.db",
        "SQLite file; explicitly empty: memory only";
    DATABASE_URL = "AA_DATABASE_URL", Text, "",
        "postgres://agentwrit@db.example.org/agentwrit?sslrootcert=/etc/agentwrit/database-ca.crt",
        "database on PostgreSQL 13 or newer, in place of AA_DB_PATH, which several brokers may share; its options are \
         in docs/postgres.md";
    DATABASE_URL_FILE = "AA_DATABASE_URL_FILE", Text, "", "/etc/agentwrit/database/url",
        "file with that URL, in place of AA_DATABASE_URL";
    DATABASE_PASSWORD_FILE = "AA_DATABASE_PASSWORD_FILE", Text, "", "/etc/agentwrit/database/password",
        "file with the password of the database's role, when the URL has none; read again at each connect";
    STORE_REQUIRED = "AA_STORE_REQUIRED", Word, "false", "true",
        "true: while the store can't open, answer 503 and retry each second, rather than run on memory; so it always is \
         with a database";
    STORE_MARK = "AA_STORE_MARK", Text, "AA_SIGNING_KEY_PATH with .mark at its end", "/mark/store.mark",
        "file that remembers where the store stood, so that a store put back from a copy is noticed; not in the \
         store's folder";
    INSTALLATION = "AA_INSTALLATION", Text, "", "agentwrit-system/agentwrit",
        "whose store it is, namespace/release with the chart: noted in the store at the first start with it, and a store of \
         another is refused; empty: not compared";
    AUDIT_RETENTION_DAYS = "AA_AUDIT_RETENTION_DAYS", Days, "0", "90",
        "days that an audit event is kept, up to 36500; 0 = for ever";
    AUDIT_MAX_BYTES = "AA_AUDIT_MAX_BYTES", Bytes, "0", "1073741824",
        "bytes that the audit trail may take of the store, 16777216 (16 MiB) or more: the oldest events go first; 0 \
         = no bound";
    AUDIT_EXPORT_DIR = "AA_AUDIT_EXPORT_DIR", Text, "", "/audit",
        "folder that events are written to before they go, as JSON lines; best on another file system; empty: none";
    AUDIT_FULL = "AA_AUDIT_FULL", Word, "refuse", "drop",
        "drop or refuse: what happens when the disk is nearly full and events that should go can't be exported; \
         drop also lets the oldest go when no bound is set";
    TLS_MODE = "AA_TLS_MODE", Word, "none", "tls",
        "none, tls or mtls";
    TLS_CERT = "AA_TLS_CERT", Text, "", "/tls/tls.crt",
        "PEM certificate chain, for tls and mtls; read again when it changes";
    TLS_KEY = "AA_TLS_KEY", Text, "", "/tls/tls.key",
        "PEM key, for tls and mtls; read again when it changes";
    TLS_CLIENT_CA = "AA_TLS_CLIENT_CA", Text, "", "/tls/ca.crt",
        "PEM CAs of clients, for mtls; read again when it changes";
    API_METRICS = "AA_API_METRICS", Word, "true", "false",
        "whether /v1/metrics is served on the API listener";
    CHALLENGE_RATE = "AA_CHALLENGE_RATE", PerSecond, "1000", "100",
        "GET /v1/challenge per source and second, burst twice that; 0 = no limit";
    REGISTER_RATE = "AA_REGISTER_RATE", PerSecond, "1000", "100",
        "POST /v1/register per source and second, burst twice that; 0 = no limit";
    DENIAL_AUDIT_RATE = "AA_DENIAL_AUDIT_RATE", PerSecond, "1000", "10",
        "denials that are audited, per second and source (or, with a verified credential, subject); the rest is \
         counted; 0 = no limit";
    TRUSTED_PROXIES = "AA_TRUSTED_PROXIES", Text, "", "10.0.0.0/8,fd00::/8",
        "addresses and ranges whose X-Forwarded-For is believed";
    ATTEST_AUDIENCE = "AA_ATTEST_AUDIENCE", Text, "", "agentwrit://agentwrit-system/agentwrit",
        "audience of pods' projected ServiceAccount tokens; with AA_CONTROLLER_SUBJECT, turns attestation on";
    CONTROLLER_SUBJECT = "AA_CONTROLLER_SUBJECT", Text, "",
        "system:serviceaccount:agentwrit-system:agentwrit-controller",
        "username of the ServiceAccount that may write policy";
    SCOPE_CEILINGS_PATH = "AA_SCOPE_CEILINGS_PATH", Text, "", "/etc/agentwrit/ceilings/ceilings.json",
        "JSON file with the scopes that the agents of each namespace may have at most, read at start: \
         {\"tenancy\":\"open\",\"scopeCeilings\":{\"shop\":[\"read:orders:*\"]}}; with tenancy strict a namespace that it \
         doesn't list may have none; empty: no ceilings";
    SEED_TOKENS = "AA_SEED_TOKENS", Text, "false", "true",
        "true: print a launch token and an admin token at start; never in production";
}

/// The text of `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "agentwrit-broker: issues short-lived, scoped, revocable tokens to agents\n\n\
         Usage: agentwrit-broker [--restored[=TIME] | --accept-clock | --adopt-installation | --help | --version]\n       \
         agentwrit-broker backup [--json] FILE\n       \
         agentwrit-broker migrate --from sqlite:PATH [--to postgres://...]\n\n\
         --restored: the store was put back from a copy; all tokens of before are refused, and people revoke again\n\
         what they revoked since the copy was made. For one start, after each restore. With the TIME at which it was put back,\n\
         such as 2026-11-30T12:00:00Z, once: however many brokers start with it, and however often.\n\
         --accept-clock: the wall clock is right although the store has seen a later time. A new epoch begins, and all\n\
         tokens of before are refused. It changes nothing while the clock is not behind the store.\n\
         --adopt-installation: the store of another AA_INSTALLATION or AA_TRUST_DOMAIN has moved here. For one start; it\n\
         changes nothing on a store that is this installation's.\n\
         backup: copies the store into a new file, also while the broker runs; agentwrit-broker backup --help.\n\
         migrate: moves the store from an SQLite file into a database; agentwrit-broker migrate --help.\n\n\
         Settings are environment variables; empty counts as unset, except for AA_ADMIN_SECRET and AA_DB_PATH.\n",
    );
    for setting in SETTINGS {
        let default = if setting.default.is_empty() {
            "none"
        } else {
            setting.default
        };
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "\n  {}\n      {}\n      default: {default}; example: {}={}\n",
            setting.name, setting.about, setting.name, setting.example
        );
    }
    text
}
