//! `awrit init`, and a broker that starts with what it wrote.

use std::os::unix::fs::PermissionsExt;

use super::brokers::RealBroker;
use super::support::awrit;

fn mode_of(path: &std::path::Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn init_writes_a_private_file_with_a_fresh_secret() {
    let home = tempfile::tempdir().unwrap();
    let ended = awrit(&[("HOME", home.path().to_str().unwrap())], &["init"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let path = home.path().join(".broker/config");
    let secret = ended
        .out
        .lines()
        .find_map(|line| line.strip_prefix("Admin secret: "))
        .unwrap();
    assert_eq!(secret.len(), 43);
    assert!(
        ended
            .out
            .starts_with(&format!("Config written to: {}\n", path.display())),
        "{}",
        ended.out
    );
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("MODE=development\n") && text.contains(&format!("ADMIN_SECRET={secret}\n")),
        "{text}"
    );
    assert_eq!((mode_of(&path), mode_of(path.parent().unwrap())), (0o600, 0o700));
}

#[test]
fn init_for_production_stores_a_hash_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let path_text = path.to_str().unwrap();
    let ended = awrit(&[("AA_CONFIG_PATH", path_text)], &["init", "--mode", "prod", "--json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let json: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    let secret = json["admin_secret"].as_str().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("MODE=production\n") && !text.contains(secret), "{text}");
    let hash = text
        .lines()
        .find_map(|line| line.strip_prefix("ADMIN_SECRET="))
        .unwrap();
    assert!(hash.starts_with("$2b$12$") && hash.len() == 60, "{hash}");
    assert!(bcrypt::verify(secret, hash).unwrap());
}

#[test]
fn init_replaces_only_when_forced_and_never_through_a_symlink() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    std::fs::write(&path, "old").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let init = |path: &std::path::Path, more: &[&str]| {
        let mut arguments = vec!["init", "--config-path", path.to_str().unwrap()];
        arguments.extend(more);
        awrit(&[], &arguments)
    };
    let ended = init(&path, &[]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.err.contains("already exists") && ended.err.contains("--force"),
        "{}",
        ended.err
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");

    let ended = init(&path, &["--force"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.err.starts_with("WARNING") && ended.err.contains(path.to_str().unwrap()),
        "{}",
        ended.err
    );
    assert_eq!(mode_of(&path), 0o600);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );

    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for more in [&[][..], &["--force"]] {
        let ended = init(&link, more);
        assert!(ended.code == 1 && ended.err.contains("symlink"), "{ended:?}");
    }
    let ended = init(&path, &["--mode", "test"]);
    assert!(
        ended.code == 1 && ended.err.contains("Error: invalid mode \"test\""),
        "{ended:?}"
    );
}

#[test]
fn a_broker_takes_the_file_and_the_secret_that_was_shown() {
    for mode in ["dev", "prod"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config").display().to_string();
        let ended = awrit(&[], &["init", "--mode", mode, "--config-path", &path, "--json"]);
        let secret = ended.json()["admin_secret"].as_str().unwrap().to_owned();
        let broker = RealBroker::in_folder(folder, &[("AA_CONFIG_PATH", &path), ("AA_ADMIN_SECRET", "{unset}")]);
        let events = ["audit", "events"];
        let with = |secret: &str| {
            let environment = [
                ("AACTL_BROKER_URL", broker.url.as_str()),
                ("AACTL_ADMIN_SECRET", secret),
            ];
            awrit(&environment, &events).code
        };
        assert_eq!((with(&secret), with("another-secret-altogether")), (0, 1), "{mode}");
    }
}

#[test]
fn the_path_comes_from_the_flag_then_the_variable_then_the_home() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (flag, variable, home) = (path("flag/config"), path("variable/config"), path("home"));
    let environment = [("AA_CONFIG_PATH", variable.as_str()), ("HOME", home.as_str())];
    let written = |environment: &[(&str, &str)], arguments: &[&str]| {
        let ended = awrit(environment, &[&["init", "--json"], arguments].concat());
        ended.json()["config_path"].as_str().unwrap().to_owned()
    };
    assert_eq!(written(&environment, &["--config-path", &flag]), flag);
    assert_eq!(written(&environment, &[]), variable);
    assert_eq!(written(&environment[1..], &[]), format!("{home}/.broker/config"));
    // Empty is unset.
    let empty = [("AA_CONFIG_PATH", ""), ("HOME", home.as_str())];
    let ended = awrit(&empty, &["init"]);
    assert!(
        ended.err.contains(&format!("{home}/.broker/config already exists")),
        "{ended:?}"
    );
}
