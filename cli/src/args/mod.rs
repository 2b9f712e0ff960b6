//! Flags and arguments.

mod app;
mod audit;
mod keys;
mod local;
mod token;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::TypedValueParser as _;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use app::{AppCommand, AppGetArgs, AppRegisterArgs, AppRemoveArgs, AppUpdateArgs};
pub(crate) use audit::{AuditCommand, EventsArgs, ExportArgs, VerifyArgs};
pub(crate) use keys::{KeysCommand, KeysRetireArgs};
pub(crate) use local::{CompletionsArgs, DoctorArgs, InitArgs, ManArgs, Shell};
pub(crate) use token::{PodCommand, PodReleaseArgs, RevokeArgs, TokenArgs, TokenCommand};

const HELP_FOOTER: &str = "\
Environment:
  AACTL_BROKER_URL     the broker's URL, such as https://agentwrit-broker.agentwrit-system.svc:8443
  AACTL_ADMIN_SECRET   the admin secret
  AACTL_CA_CERT        file with the CA certificate, as --ca-cert
  AACTL_CLIENT_CERT    file with the client certificate, as --client-cert
  AACTL_CLIENT_KEY     file with its key, as --client-key
  AACTL_INSECURE_HTTP  1 or true: no warning of plain HTTP, as --insecure-http
  SSL_CERT_FILE        file with the certificates that the system trusts, when it is not the usual one

Results go to standard output, notes and errors to standard error.
The exit code is 0 when all went well, else 1.

Example:
  # The CA of an installation, from any namespace that uses it.
  kubectl get configmap agentwrit-ca -o jsonpath='{.data.ca\\.crt}' > ca.crt";

/// The command line of AgentWrit
#[derive(Debug, Parser)]
#[command(name = "awrit", version, after_help = HELP_FOOTER, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    json: bool,
    /// Print tables, or JSON as --json does
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    output: Format,
    /// File with the CA certificate that signed the broker's, PEM; default: the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_cert: Option<PathBuf>,
    /// File with the certificate that awrit shows a broker in TLS mode mtls, PEM
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_cert: Option<PathBuf>,
    /// File with the private key of --client-cert, PEM
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_key: Option<PathBuf>,
    /// Don't warn of http:// to other hosts, where anybody on the network path can read the admin secret and the tokens
    #[arg(long, global = true)]
    pub(crate) insecure_http: bool,
    /// Seconds to wait for each answer
    #[arg(
        long, global = true, value_name = "SECONDS", default_value = "10",
        value_parser = clap::value_parser!(u64).range(1..=3600).map(Duration::from_secs),
    )]
    pub(crate) timeout: Duration,
}

impl Global {
    /// Whether results are JSON.
    pub(crate) fn json(&self) -> bool {
        self.json || self.output == Format::Json
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a configuration with a new admin secret, for a broker outside Kubernetes
    #[command(after_help = local::INIT_EXAMPLES)]
    Init(InitArgs),
    /// Apps: programs that log in and make launch tokens for their agents
    #[command(subcommand, arg_required_else_help = true)]
    App(AppCommand),
    /// Revoke a token, an agent, a task or a chain, or all pods of a name
    #[command(after_help = token::REVOKE_EXAMPLES)]
    Revoke(RevokeArgs),
    /// The audit trail
    #[command(subcommand, arg_required_else_help = true)]
    Audit(AuditCommand),
    /// The keys that tokens are signed with
    #[command(subcommand, arg_required_else_help = true)]
    Keys(KeysCommand),
    /// Tokens
    #[command(subcommand, arg_required_else_help = true)]
    Token(TokenCommand),
    /// Pods
    #[command(subcommand, arg_required_else_help = true)]
    Pod(PodCommand),
    /// Find out why the broker can't be used, or that it can
    #[command(after_help = local::DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Show the versions of awrit and of the broker
    #[command(after_help = local::VERSION_EXAMPLES)]
    Version,
    /// Write completions for a shell to standard output
    #[command(after_help = local::COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Write the manual pages
    #[command(after_help = local::MAN_EXAMPLES)]
    Man(ManArgs),
}
