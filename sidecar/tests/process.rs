//! The process itself: flags, a wrong environment, the signal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Output};

fn sidecar(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentwrit-sidecar"));
    command.env_clear().args(arguments).output().unwrap()
}

#[test]
fn version_and_help_go_to_standard_output() {
    let version = sidecar(&["--version"]);
    assert!(version.status.success());
    assert!(version.stdout.starts_with(b"agentwrit-sidecar 0."));
    let help = String::from_utf8(sidecar(&["--help"]).stdout).unwrap();
    assert!(
        help.contains("AGENTWRIT_BROKER_URL") && help.contains("Usage"),
        "{help}"
    );
}

#[test]
fn an_unknown_flag_is_an_error_of_its_own() {
    let output = sidecar(&["--verbose"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--verbose"));
}

#[test]
fn a_wrong_environment_names_every_variable() {
    let output = sidecar(&[]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("AGENTWRIT_BROKER_URL is not set"), "{text}");
    assert!(text.contains("AGENTWRIT_LAUNCH_TOKEN is \"\""), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[tokio::test]
async fn sigterm_is_the_wish_to_stop() {
    let stop = agentwrit_sidecar::terminated().unwrap();
    let pid = std::process::id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    stop.await;
}
