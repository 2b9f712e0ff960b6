//! The config file: where it is, what may stand in it, and that it may change.

use super::{DEVELOPMENT, GOOD, ONE_FOLDER, failure, load};
use crate::config::{AdminAuth, AdminSecret, Config, LogLevel, SecretSource};

/// A file with this content, and its path.
fn file_with(content: impl AsRef<[u8]>) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.yaml");
    std::fs::write(&path, content).unwrap();
    let shown = path.display().to_string();
    (folder, shown)
}

fn secret_of(config: &Config) -> String {
    match &config.admin {
        AdminAuth::On(SecretSource::File {
            secret: AdminSecret::Plain(secret),
            ..
        }) => secret.expose().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_config_file_is_found_and_the_environment_wins() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".broker")).unwrap();
    let path = home.path().join(".broker/config");
    std::fs::write(
        &path,
        "MODE=development\n# x\nOTHER=1\nADMIN_SECRET = from-the-config-file \n",
    )
    .unwrap();
    let home = home.path().to_str().unwrap();
    let config = load(&[("HOME", home)]).unwrap();
    assert!(matches!(config.admin, AdminAuth::On(SecretSource::File { .. })));
    assert_eq!(config.warnings, [DEVELOPMENT, ONE_FOLDER]);
    let config = load(&[("HOME", home), GOOD]).unwrap();
    assert!(matches!(config.admin, AdminAuth::On(SecretSource::Environment(_))));
    assert_eq!(
        failure(&[("HOME", home), ("AA_ADMIN_SECRET", "")]),
        "AA_ADMIN_SECRET must be set (non-empty)"
    );
    // Which secret the file would have held nobody knows, so that none is asked for.
    for settings in [
        [("AA_CONFIG_PATH", "/nope"), GOOD].as_slice(),
        &[("AA_CONFIG_PATH", "/nope")],
    ] {
        assert_eq!(failure(settings), "config file not found at path: /nope");
    }
}

#[test]
fn an_unknown_mode_is_warned_about_and_taken_for_production() {
    for (lines, warned) in [
        ("MODE=fast\n", true),
        ("MODE=\n", true),
        ("MODE=Production\n", true),
        ("MODE=fast\nMODE=production\n", false),
    ] {
        let (_folder, path) = file_with(lines);
        let config = load(&[GOOD, ("AA_CONFIG_PATH", &path)]).unwrap();
        let told: Vec<_> = config
            .warnings
            .iter()
            .filter(|warning| warning.contains("MODE"))
            .collect();
        assert_eq!(told.len(), usize::from(warned), "{lines}: {told:?}");
        assert!(
            !warned || told[0].contains("neither development nor production"),
            "{told:?}"
        );
    }
}

#[test]
fn config_files_of_every_editor_are_read() {
    let table: [(&[u8], &str); 8] = [
        (b"ADMIN_SECRET=from-the-config-file", "from-the-config-file"),
        (
            b"\xef\xbb\xbfADMIN_SECRET=from-the-config-file\n",
            "from-the-config-file",
        ),
        (
            b"# x\r\n\r\nMODE=production\r\nADMIN_SECRET=from-the-config-file\r\n",
            "from-the-config-file",
        ),
        (b" \t ADMIN_SECRET \t= from-the-config-file \t", "from-the-config-file"),
        (
            b"ADMIN_SECRET=first-of-two-secrets\nADMIN_SECRET=last-of-two-secrets\n",
            "last-of-two-secrets",
        ),
        (
            b"ADMIN_SECRET=with=equals#and-hash-in-it\n",
            "with=equals#and-hash-in-it",
        ),
        (
            b"OTHER=1\nno equals sign\n=\nADMIN_SECRET=from-the-config-file\nMODE=production",
            "from-the-config-file",
        ),
        ("ADMIN_SECRET=sécrët-with-accénts\n".as_bytes(), "sécrët-with-accénts"),
    ];
    for (content, wanted) in table {
        let (_folder, path) = file_with(content);
        let config = load(&[("AA_CONFIG_PATH", &path)]).unwrap();
        assert_eq!(secret_of(&config), wanted, "{}", String::from_utf8_lossy(content));
    }
    for (content, wanted) in [
        (
            &b"ADMIN_SECRET=a-good-admin-secret\nADMIN_SECRET=\n"[..],
            "AA_ADMIN_SECRET must be set (non-empty)",
        ),
        (
            b"admin_secret=a-good-admin-secret\n",
            "AA_ADMIN_SECRET must be set (non-empty)",
        ),
        (
            b"ADMIN_SECRET=short\n",
            "admin secret rejected: does not meet security requirements",
        ),
        (b"ADMIN_SECRET=\xff\xfe\n", "failed to read config file: "),
    ] {
        let (_folder, path) = file_with(content);
        let text = failure(&[("AA_CONFIG_PATH", &path)]);
        assert!(text.starts_with(wanted), "{text}");
    }
}

#[test]
fn an_endless_config_file_is_not_read_to_its_end() {
    let text = failure(&[("AA_CONFIG_PATH", "/dev/zero")]);
    assert_eq!(text, "AA_ADMIN_SECRET must be set (non-empty)");
}

#[test]
fn the_level_of_the_file_comes_first_and_may_change() {
    let (_folder, path) = file_with("LOG_LEVEL=quiet\n");
    let config = load(&[GOOD, ("AA_CONFIG_PATH", &path), ("AA_LOG_LEVEL", "trace")]).unwrap();
    assert_eq!(config.log_level, LogLevel::Quiet);
    for (content, wanted) in [
        ("LOG_LEVEL=Verbose", Ok(LogLevel::Verbose)),
        ("LOG_LEVEL=TRACE", Ok(LogLevel::Trace)),
        ("LOG_LEVEL=unheard of", Ok(LogLevel::Verbose)),
        ("LOG_LEVEL=", Ok(LogLevel::Trace)),
        ("", Ok(LogLevel::Trace)),
        ("MODE=fast", Ok(LogLevel::Trace)),
    ] {
        std::fs::write(&path, content).unwrap();
        assert_eq!(config.level_source.current(), wanted, "{content}");
    }
    std::fs::remove_file(&path).unwrap();
    let gone = config.level_source.current().unwrap_err();
    assert_eq!(gone, format!("config file not found at path: {path}"));
}

#[test]
fn a_level_may_come_with_a_file_that_was_not_there_at_first() {
    let home = tempfile::tempdir().unwrap();
    let config = load(&[GOOD, ("HOME", home.path().to_str().unwrap())]).unwrap();
    assert_eq!(config.level_source.current(), Ok(LogLevel::Verbose));
    std::fs::create_dir(home.path().join(".broker")).unwrap();
    std::fs::write(home.path().join(".broker/config"), "LOG_LEVEL=trace\n").unwrap();
    assert_eq!(config.level_source.current(), Ok(LogLevel::Trace));
}
