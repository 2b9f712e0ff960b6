//! The list of settings, for `--help`.

use std::fmt::Write;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Name of the environment variable.
    pub name: &'static str,
    /// Default, as text; empty when there is none.
    pub default: &'static str,
    /// A value that makes sense.
    pub example: &'static str,
    /// What it does, with unit and range.
    pub about: &'static str,
}

const fn setting(name: &'static str, default: &'static str, example: &'static str, about: &'static str) -> Setting {
    Setting {
        name,
        default,
        example,
        about,
    }
}

/// Every setting, in the order of `--help`.
pub const SETTINGS: &[Setting] = &[
    setting(
        "AA_ADMIN_SECRET",
        "",
        "$(openssl rand -base64 32)",
        "admin secret, 16 to 72 bytes or a bcrypt hash; required unless AA_ADMIN_AUTH=off or in the config file",
    ),
    setting(
        "AA_ADMIN_AUTH",
        "on",
        "off",
        "on or off: whether POST /v1/admin/auth is served",
    ),
    setting(
        "AA_CONFIG_PATH",
        "",
        "/etc/broker/config",
        "KEY=VALUE file with MODE, ADMIN_SECRET and LOG_LEVEL; also looked for at /etc/broker/config and ~/.broker/config",
    ),
    setting(
        "AA_BIND_ADDRESS",
        "127.0.0.1",
        "::",
        "IP address of the API listener; :: is IPv6 and IPv4",
    ),
    setting("AA_PORT", "8080", "8443", "port of the API listener, 0 to 65535"),
    setting(
        "AA_OPS_ADDRESS",
        "",
        "[::]:9090",
        "address and port of the ops listener; [::] is IPv6 and IPv4 (plain HTTP: /livez, /readyz, /metrics); empty: /livez and /readyz are on the API listener",
    ),
    setting(
        "AA_LOG_LEVEL",
        "verbose",
        "trace",
        "quiet, standard, verbose or trace; LOG_LEVEL in the config file comes before it and may change at any time",
    ),
    setting("AA_LOG_FORMAT", "text", "json", "text or json"),
    setting(
        "AA_TRUST_DOMAIN",
        "agentwrit.local",
        "example.org",
        "trust domain of SPIFFE ids: a-z, 0-9, '.', '_', '-'",
    ),
    setting(
        "AA_ISSUER",
        "",
        "https://broker.example.org",
        "iss of tokens; when set, tokens with another are refused",
    ),
    setting(
        "AA_AUDIENCE",
        "",
        "orders",
        "aud of tokens; when set, bearers without it are refused",
    ),
    setting(
        "AA_DEFAULT_TTL",
        "300",
        "600",
        "life of an agent's token when its launch token names none, seconds; 0 = 300",
    ),
    setting(
        "AA_MAX_TTL",
        "86400",
        "3600",
        "ceiling of every token's life, seconds; 0 = none",
    ),
    setting(
        "AA_ADMIN_TOKEN_TTL",
        "300",
        "900",
        "life of admin tokens, seconds; 0 = that of AA_DEFAULT_TTL",
    ),
    setting(
        "AA_APP_TOKEN_TTL",
        "1800",
        "3600",
        "life of an app's tokens when its registration names none, seconds; 0 = that of AA_DEFAULT_TTL",
    ),
    setting(
        "AA_MAX_SESSION_AGE",
        "0",
        "604800",
        "how long an agent can go on renewing, seconds; 0 = no limit",
    ),
    setting(
        "AA_SESSION_RATE",
        "0",
        "50",
        "renewals of its own token, renewals of what it delegated, and delegations, each, of one session per second, twice as many at once; 0 = no limit; attested agents have rates of their own",
    ),
    setting(
        "AA_MAX_OPEN_DELEGATIONS",
        "10000",
        "256",
        "delegations that stand under one session at a time, 0 to 1000000; 0 = no limit; always 256 for attested agents",
    ),
    setting(
        "AA_MAX_SCOPES",
        "1000",
        "64",
        "most scopes in one list of a launch token, an app, a registration or a delegation, 1 to 4096; always 64 for attested agents",
    ),
    setting(
        "AA_MAX_SCOPE_BYTES",
        "8192",
        "256",
        "longest scope in such a list, bytes, 5 to 32768; always 256 for attested agents",
    ),
    setting(
        "AA_NBF_SKEW_SECONDS",
        "0",
        "5",
        "nbf of every token is this many seconds before iat, for verifiers whose clock is behind; 0 to 60",
    ),
    setting(
        "AA_SIGNING_KEY_PATH",
        "./signing.key",
        "/data/signing.key",
        "PEM file (PKCS#8, Ed25519); made when missing",
    ),
    setting(
        "AA_SIGNING_KEY_REQUIRED",
        "false",
        "true",
        "true: a missing key is fatal rather than made",
    ),
    setting(
        "AA_DB_PATH",
        "./data.db",
        "/data/data.db",
        "SQLite file; explicitly empty: memory only",
    ),
    setting(
        "AA_STORE_REQUIRED",
        "false",
        "true",
        "true: while the store can't open, answer 503 and retry each second, rather than run on memory",
    ),
    setting(
        "AA_STORE_MARK",
        "AA_SIGNING_KEY_PATH with .mark at its end",
        "/mark/store.mark",
        "file that remembers where the store stood, so that a store put back from a copy is noticed; not in the store's folder",
    ),
    setting(
        "AA_AUDIT_RETENTION_DAYS",
        "0",
        "90",
        "days that an audit event is kept, up to 36500; 0 = for ever",
    ),
    setting(
        "AA_AUDIT_MAX_BYTES",
        "0",
        "1073741824",
        "bytes that the audit trail may take of the store, 16777216 (16 MiB) or more: the oldest events go first; 0 = no bound",
    ),
    setting(
        "AA_AUDIT_EXPORT_DIR",
        "",
        "/audit",
        "folder that events are written to before they go, as JSON lines; best on another file system; empty: none",
    ),
    setting(
        "AA_AUDIT_FULL",
        "refuse",
        "drop",
        "drop or refuse: what happens when the disk is nearly full and events that should go can't be exported; drop also lets the oldest go when no bound is set",
    ),
    setting("AA_TLS_MODE", "none", "tls", "none, tls or mtls"),
    setting(
        "AA_TLS_CERT",
        "",
        "/tls/tls.crt",
        "PEM certificate chain, for tls and mtls; read again when it changes",
    ),
    setting(
        "AA_TLS_KEY",
        "",
        "/tls/tls.key",
        "PEM key, for tls and mtls; read again when it changes",
    ),
    setting(
        "AA_TLS_CLIENT_CA",
        "",
        "/tls/ca.crt",
        "PEM CAs of clients, for mtls; read again when it changes",
    ),
    setting(
        "AA_API_METRICS",
        "true",
        "false",
        "whether /v1/metrics is served on the API listener",
    ),
    setting(
        "AA_CHALLENGE_RATE",
        "1000",
        "100",
        "GET /v1/challenge per source and second, burst twice that; 0 = no limit",
    ),
    setting(
        "AA_REGISTER_RATE",
        "1000",
        "100",
        "POST /v1/register per source and second, burst twice that; 0 = no limit",
    ),
    setting(
        "AA_DENIAL_AUDIT_RATE",
        "1000",
        "10",
        "denials that are audited, per second and source (or, with a verified credential, subject); the rest is counted; 0 = no limit",
    ),
    setting(
        "AA_TRUSTED_PROXIES",
        "",
        "10.0.0.0/8,fd00::/8",
        "addresses and ranges whose X-Forwarded-For is believed",
    ),
    setting(
        "AA_ATTEST_AUDIENCE",
        "",
        "agentwrit://agentwrit-system/agentwrit",
        "audience of pods' projected ServiceAccount tokens; with AA_CONTROLLER_SUBJECT, turns attestation on",
    ),
    setting(
        "AA_CONTROLLER_SUBJECT",
        "",
        "system:serviceaccount:agentwrit-system:agentwrit-controller",
        "username of the ServiceAccount that may write policy",
    ),
    setting(
        "AA_SEED_TOKENS",
        "false",
        "true",
        "true: print a launch token and an admin token at start; never in production",
    ),
];

/// The text of `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "agentwrit-broker: issues short-lived, scoped, revocable tokens to agents\n\n\
         Usage: agentwrit-broker [--restored | --accept-clock | --help | --version]\n\n\
         --restored: the store was put back from a copy; all tokens of before are refused, and people revoke again\n\
         what they revoked since the copy was made. For one start, after each restore.\n\
         --accept-clock: the wall clock is right although the store has seen a later time. A new epoch begins, and all\n\
         tokens of before are refused. It changes nothing while the clock is not behind the store.\n\n\
         Settings are environment variables; empty counts as unset, except for AA_ADMIN_SECRET and AA_DB_PATH.\n\
         AA_DATABASE_URL must be unset: this version has no PostgreSQL store.\n",
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
