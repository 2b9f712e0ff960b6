//! Starts that succeed and starts that don't: `docs/wire-contract.md` §17.

use agentwrit_testkit::{ADMIN_SECRET, Process, claims};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;

/// Code and standard error of a start that fails; nothing goes to standard output but the log.
fn refused(folder: &Path, settings: &[(&str, &str)]) -> String {
    let output = crate::PROGRAM
        .command(folder)
        // Nobody's address: a start that should fail and doesn't ends all the same.
        .env("AA_BIND_ADDRESS", "192.0.2.1")
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.lines().all(|line| line.starts_with("FATAL: ")), "{text}");
    text
}

#[test]
fn every_secret_that_will_not_do_has_its_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("good"), "ADMIN_SECRET=a-good-admin-secret\n").unwrap();
    fs::write(folder.path().join("weak"), "ADMIN_SECRET=your-secret\n").unwrap();
    fs::write(folder.path().join("none"), "MODE=production\n").unwrap();
    let unset = "FATAL: AA_ADMIN_SECRET must be set (non-empty)\n";
    let weak = "FATAL: admin secret rejected: does not meet security requirements\n";
    let (long, hash) = ("x".repeat(73), format!("$2b$12${}", "!".repeat(53)));
    let table: [(&[(&str, &str)], &str); 9] = [
        (&[], unset),
        (&[("AA_ADMIN_SECRET", "")], unset),
        (&[("AA_ADMIN_SECRET", ""), ("AA_CONFIG_PATH", "good")], unset),
        (&[("AA_CONFIG_PATH", "none")], unset),
        (&[("AA_ADMIN_SECRET", "change-me-in-production")], weak),
        (&[("AA_ADMIN_SECRET", "fifteen-letters")], weak),
        (&[("AA_CONFIG_PATH", "weak")], weak),
        (
            &[("AA_ADMIN_SECRET", &long)],
            "FATAL: admin secret rejected: longer than 72 bytes\n",
        ),
        (
            &[("AA_ADMIN_SECRET", &hash)],
            "FATAL: admin secret rejected: not a well-formed bcrypt hash\n",
        ),
    ];
    for (settings, wanted) in table {
        assert_eq!(refused(folder.path(), settings), wanted, "{settings:?}");
    }
}

#[test]
fn a_database_that_cannot_be_named_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let url = ("AA_DATABASE_URL", "postgres://agentwrit:hunter2@db.example/agentwrit");
    let text = refused(
        folder.path(),
        &[("AA_ADMIN_SECRET", ADMIN_SECRET), url, ("AA_MAX_TTL", "x")],
    );
    let url = "FATAL: AA_DATABASE_URL: sslmode=verify-full, which is the default for a host, needs sslrootcert=FILE";
    assert!(text.lines().any(|line| line.starts_with(url)), "{text}");
    assert!(text.contains("AA_MAX_TTL") && text.lines().count() == 2, "{text}");
    assert!(!text.contains("hunter2") && !text.contains("db.example"), "{text}");
    let made: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert!(made.is_empty(), "{made:?}");
}

#[test]
fn a_config_file_that_is_named_must_be_readable() {
    let folder = tempfile::tempdir().unwrap();
    let text = refused(
        folder.path(),
        &[("AA_ADMIN_SECRET", ADMIN_SECRET), ("AA_CONFIG_PATH", "/nope/config")],
    );
    assert_eq!(text, "FATAL: config file not found at path: /nope/config\n");
    let path = folder.path().join("config");
    fs::write(&path, "ADMIN_SECRET=a-good-admin-secret\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o0)).unwrap();
    let mut command = crate::PROGRAM.command(folder.path());
    command.env("AA_CONFIG_PATH", &path);
    if rustix::process::getuid().is_root() {
        // Nothing is forbidden to root.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        command.uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("FATAL: failed to read config file: permission denied\n"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(1));
    // Nobody named this one: it is passed over.
    fs::create_dir(folder.path().join(".broker")).unwrap();
    let text = refused(folder.path(), &[]);
    assert_eq!(text, "FATAL: AA_ADMIN_SECRET must be set (non-empty)\n");
}

#[test]
fn a_mounted_secret_is_a_config_file() {
    let folder = tempfile::tempdir().unwrap();
    // As the kubelet lays it out: a link to a folder that is replaced as a whole, files readable by everybody.
    let data = folder.path().join("..2026_11_21");
    fs::create_dir(&data).unwrap();
    fs::write(
        data.join("config.yaml"),
        "MODE=production\nADMIN_SECRET=from-the-mounted-secret\n",
    )
    .unwrap();
    fs::set_permissions(data.join("config.yaml"), Permissions::from_mode(0o444)).unwrap();
    symlink("..2026_11_21", folder.path().join("..data")).unwrap();
    symlink("..data/config.yaml", folder.path().join("config.yaml")).unwrap();
    fs::create_dir(folder.path().join("elsewhere")).unwrap();
    let settings = [
        ("AA_PORT", "0"),
        ("AA_CONFIG_PATH", "config.yaml"),
        ("AA_STORE_MARK", "elsewhere/store.mark"),
    ];
    let process = Process::start(crate::PROGRAM.command(folder.path()).envs(settings));
    assert!(
        !process.start.iter().any(|line| line.contains(":WARN]")),
        "{:?}",
        process.start
    );
    let login = |secret: &str| {
        let body = serde_json::json!({ "secret": secret }).to_string();
        process.ask("POST /v1/admin/auth", "", &body).status
    };
    assert_eq!(login("from-the-mounted-secret"), 200);
    // The mount changes, the broker doesn't restart.
    let next = folder.path().join("..2026_11_22");
    fs::create_dir(&next).unwrap();
    fs::write(
        next.join("config.yaml"),
        "MODE=production\nADMIN_SECRET=the-next-mounted-one\n",
    )
    .unwrap();
    symlink("..2026_11_22", folder.path().join("..tmp")).unwrap();
    fs::rename(folder.path().join("..tmp"), folder.path().join("..data")).unwrap();
    assert_eq!(login("the-next-mounted-one"), 200);
    assert_eq!(login("from-the-mounted-secret"), 401);
}

#[test]
fn files_are_looked_at_together() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.key"), "rubbish").unwrap();
    let text = refused(
        folder.path(),
        &[
            ("AA_ADMIN_SECRET", ADMIN_SECRET),
            ("AA_TLS_MODE", "tls"),
            ("AA_TLS_CERT", "x"),
            ("AA_TLS_KEY", "y"),
            ("AA_SIGNING_KEY_PATH", "bad.key"),
        ],
    );
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("FATAL: loading TLS certificate: x: "), "{text}");
    assert!(lines[1].starts_with("FATAL: signing key: bad.key must be "), "{text}");
    assert_eq!(lines.len(), 2);
}

#[test]
fn missing_tls_settings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(vec!["broker.test".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["broker.test".to_owned()]).unwrap();
    for (name, content) in [
        ("cert", certified.cert.pem()),
        ("key", certified.signing_key.serialize_pem()),
        ("other", other.signing_key.serialize_pem()),
        ("empty", String::new()),
    ] {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let table = [
        ("tls", "cert", "nope", "", "FATAL: loading TLS key: nope: "),
        (
            "tls",
            "empty",
            "key",
            "",
            "FATAL: loading TLS certificate: empty: no PEM block CERTIFICATE",
        ),
        ("tls", "cert", "cert", "", "FATAL: loading TLS key: cert: "),
        ("tls", "cert", "other", "", "FATAL: loading TLS certificate and key: "),
        ("mtls", "cert", "key", "nope", "FATAL: loading client CA: nope: "),
        (
            "mtls",
            "cert",
            "key",
            "empty",
            "FATAL: loading client CA: empty: no PEM block CERTIFICATE",
        ),
        (
            "mtls",
            "cert",
            "key",
            "key",
            "FATAL: loading client CA: key: no PEM block CERTIFICATE",
        ),
        (
            "mtls",
            "cert",
            "key",
            "",
            "FATAL: AA_TLS_CLIENT_CA must name a PEM file",
        ),
        (
            "TLS",
            "cert",
            "key",
            "",
            "FATAL: AA_TLS_MODE=\"TLS\" must be one of none, tls, mtls",
        ),
    ];
    for (mode, cert, key, client_ca, wanted) in table {
        let settings = [
            ("AA_ADMIN_SECRET", ADMIN_SECRET),
            ("AA_TLS_MODE", mode),
            ("AA_TLS_CERT", cert),
            ("AA_TLS_KEY", key),
            ("AA_TLS_CLIENT_CA", client_ca),
        ];
        let text = refused(folder.path(), &settings);
        assert!(text.starts_with(wanted), "{text}");
    }
    let settings = [("AA_TLS_MODE", "tls"), ("AA_TLS_CERT", "cert"), ("AA_TLS_KEY", "key")];
    let process = crate::PROGRAM.start(folder.path(), &settings);
    let banner = process.start.last().unwrap();
    assert_eq!(
        *banner,
        format!("AgentWrit broker v2.0.0 listening on {} (TLS)", process.address)
    );
}

#[test]
fn a_store_that_another_broker_holds_is_fatal() {
    let folder = tempfile::tempdir().unwrap();
    let process = crate::PROGRAM.start(folder.path(), &[]);
    let text = refused(folder.path(), &[("AA_ADMIN_SECRET", ADMIN_SECRET), ("AA_PORT", "0")]);
    assert!(
        text.starts_with("FATAL: init database: ") && text.contains("data.db.lock"),
        "{text}"
    );
    drop(process);
}

#[test]
fn a_store_that_cannot_open_is_replaced_by_memory() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data.db")).unwrap();
    let process = crate::PROGRAM.start(folder.path(), &[]);
    let health = process.ask("GET /v1/health", "", "");
    assert!(
        health.status == 200 && health.text.contains("\"db_connected\":false"),
        "{health:?}"
    );
    process.signal(rustix::process::Signal::TERM);
    let (code, _, err) = process.end();
    assert_eq!(code, Some(0));
    assert!(
        err.starts_with("[AA:STORE:FAIL] ") && err.contains(" | InitDB | "),
        "{err}"
    );
}

#[test]
fn a_start_says_what_it_does_and_warns() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(".broker")).unwrap();
    fs::write(
        folder.path().join(".broker/config"),
        "ADMIN_SECRET=a-good-admin-secret\n",
    )
    .unwrap();
    let process = Process::start(crate::PROGRAM.command(folder.path()).envs([
        ("AA_PORT", "0"),
        ("AA_BIND_ADDRESS", "0.0.0.0"),
        ("AA_DEFAULT_TTL", "600"),
        ("AA_MAX_TTL", "60"),
        ("AA_SEED_TOKENS", "true"),
    ]));
    let start = &process.start;
    let at = |part: &str| {
        start
            .iter()
            .position(|line| line.contains(part))
            .unwrap_or_else(|| panic!("{part}: {start:#?}"))
    };
    for warning in [
        "listening on 0.0.0.0 without TLS",
        "MODE=development",
        "AA_DEFAULT_TTL exceeds AA_MAX_TTL",
        "AA_SEED_TOKENS prints credentials",
    ] {
        let line = &start[at(warning)];
        assert!(line.starts_with("[AA:CFG:WARN] "), "{line}");
    }
    let starting = &start[at("starting broker")];
    assert!(
        starting.starts_with("[AA:BROKER:OK] ")
            && starting.contains(" | starting broker | addr=0.0.0.0:0, version=2.0.0"),
        "{starting}"
    );
    let loaded = &start[at("audit events loaded")];
    assert!(
        loaded.starts_with("[AA:STORE:OK] ") && loaded.ends_with(" | audit events loaded | count=0"),
        "{loaded}"
    );
    let launch = start[at("SEED_LAUNCH_TOKEN=")]
        .strip_prefix("SEED_LAUNCH_TOKEN=")
        .unwrap();
    assert!(
        launch.len() == 64 && launch.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{launch}"
    );
    let admin = start[at("SEED_ADMIN_TOKEN=")]
        .strip_prefix("SEED_ADMIN_TOKEN=")
        .unwrap();
    let claims = claims(admin);
    assert_eq!((claims["sub"].as_str(), claims.get("aud")), (Some("admin"), None));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    assert!(at("SEED_ADMIN_TOKEN=") < at("AgentWrit broker v2.0.0 listening on 0.0.0.0:"));
}
