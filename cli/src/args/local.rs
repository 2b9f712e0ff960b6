//! Commands that ask no broker.

use std::path::PathBuf;

use clap::Args;

pub(super) const INIT_EXAMPLES: &str = "\
The broker reads the file that AA_CONFIG_PATH names, else /etc/broker/config, else ~/.broker/config.

Examples:
  awrit init
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
