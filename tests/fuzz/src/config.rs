//! Settings: environment and file, any text for each.

use std::collections::HashMap;

use agentwrit_broker::config::Config;
use agentwrit_protocol::Ttl;

/// The secret that must never be told.
const CANARY: &str = "canary-QZ7x-never-told";

/// `NAME=value` lines of the environment, then a line `---`, then the file.
pub fn run(input: &[u8]) {
    let split = input.windows(5).position(|part| part == b"\n---\n");
    let (environment, file) = match split {
        Some(at) => (&input[..at], &input[at + 5..]),
        None => (input, &b""[..]),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, file).unwrap();
    let text = String::from_utf8_lossy(environment);
    let mut settings: HashMap<&str, String> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| name.starts_with("AA_"))
        .map(|(name, value)| (name, value.to_owned()))
        .collect();
    settings.insert("AA_CONFIG_PATH", path.display().to_string());
    if let Some(secret) = settings.get_mut("AA_ADMIN_SECRET").filter(|secret| !secret.is_empty()) {
        secret.push_str(CANARY);
    }
    if let Some(url) = settings.get_mut("AA_DATABASE_URL") {
        url.push_str(CANARY);
    }
    match Config::load(&|name| settings.get(name).cloned()) {
        Ok(config) => sound(&config),
        Err(failures) => {
            assert!(!failures.is_empty());
            for failure in failures {
                assert!(!failure.trim().is_empty());
                assert!(!failure.contains(CANARY), "{failure}");
            }
        }
    }
}

/// What the broker counts on.
fn sound(config: &Config) {
    assert!(config.default_ttl > Ttl::ZERO && config.admin_token_ttl > Ttl::ZERO);
    assert!(config.max_ttl >= Ttl::ZERO && config.max_session_age >= Ttl::ZERO);
    for ttl in [1, 300, i64::MAX].map(Ttl::seconds) {
        let clamped = config.clamp_ttl(ttl);
        assert!(clamped <= ttl && (config.max_ttl == Ttl::ZERO || clamped <= config.max_ttl));
    }
    assert!(!format!("{config:?}").contains(CANARY));
    if let Some(attest) = &config.attest {
        assert!(!attest.audience.is_empty() && !attest.controller_subject.is_empty());
    }
}
