//! The sidecar's process: two flags, then the library.

use std::io::Write;
use std::process::ExitCode;

const HELP: &str = "\
agentwrit-sidecar gets a pod's AgentWrit token, keeps it fresh, and gives it back at the end.

Usage: agentwrit-sidecar [wait | --help | --version]

  wait   ends with 0 when the sidecar of this pod has a token, or says after 20 s why it has none and ends with 1:
         the hook of agentwrit.io/start-gate: hook

The admission webhook puts it into pods; it takes its settings from the environment:
  AGENTWRIT_BROKER_URL        https:// URL of the broker (required)
  AGENTWRIT_LAUNCH_TOKEN      name of the LaunchToken in the pod's namespace (required)
  AGENTWRIT_SCOPES            comma list, to ask for less than the LaunchToken allows
  AGENTWRIT_TTL_SECONDS       10 to 86400, to ask for a shorter life
  AGENTWRIT_TOKEN_FILE_GID    number of the group that alone may read the token file
  AGENTWRIT_ENDPOINT_ENABLED  true (default) or false: http://127.0.0.1:15080/token

Exit codes: 0 after SIGTERM, 1 when it can't start or has waited in vain, 2 for a flag that it doesn't know.
";

fn main() -> ExitCode {
    let mut flags = std::env::args().skip(1);
    match flags.next().as_deref() {
        None => match agentwrit_sidecar::from_environment() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Some("wait") => match agentwrit_sidecar::wait() {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                let _ = writeln!(std::io::stderr(), "{why}");
                ExitCode::FAILURE
            }
        },
        Some("--help" | "-h") => say(HELP),
        Some("--version" | "-V") => say(concat!("agentwrit-sidecar ", env!("CARGO_PKG_VERSION"), "\n")),
        Some(other) => {
            let _ = writeln!(std::io::stderr(), "Error: unknown flag {other:?}; see --help");
            ExitCode::from(2)
        }
    }
}

fn say(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
