//! Commands about awrit and the broker themselves.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

pub(super) const INIT_EXAMPLES: &str = "\
The broker reads the file that AA_CONFIG_PATH names, else /etc/broker/config, else ~/.broker/config.

Examples:
  awrit init && agentwrit-broker
  awrit init --mode prod --config-path /etc/broker/config";

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// dev: the secret is stored as it is; prod: only its bcrypt hash is
    #[arg(long, default_value = "dev", value_name = "dev|prod")]
    pub(crate) mode: String,
    /// Replace a configuration that is there; its secret is lost
    #[arg(long)]
    pub(crate) force: bool,
    /// Where to write; default: `AA_CONFIG_PATH`, then ~/.broker/config
    #[arg(long, value_name = "FILE")]
    pub(crate) config_path: Option<PathBuf>,
}

pub(super) const DOCTOR_EXAMPLES: &str = "\
One line a check, in the order in which a request meets them: url, dns, tcp, tls, http, clock, version, store, keys, login,
audit. OK: it works. WARN: it works now, but not for long or not for every client. FAIL: it doesn't work. SKIP: it wasn't checked.
The exit code is 1 when a check failed. Without AACTL_ADMIN_SECRET login and audit trail are skipped.
No secret and no token is shown.

Examples:
  awrit doctor
  awrit doctor --full --json";
pub(super) const VERSION_EXAMPLES: &str = "\
When AACTL_BROKER_URL is set, the broker is asked for its version too; it answers on the listener that serves /readyz.

Examples:
  awrit version
  awrit version --json";
pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  awrit completions bash > ~/.local/share/bash-completion/completions/awrit
  awrit completions zsh > ~/.zfunc/_awrit        # with: fpath+=~/.zfunc
  awrit completions fish > ~/.config/fish/completions/awrit.fish";
pub(super) const MAN_EXAMPLES: &str = "\
Examples:
  awrit man --dir ~/.local/share/man/man1
  man awrit-audit-verify";

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Verify the whole audit trail, not only what came after its last checkpoint
    #[arg(long)]
    pub(crate) full: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell to write them for
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder to write the pages to, one for each command
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
}
