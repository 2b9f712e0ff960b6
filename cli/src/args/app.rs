//! `awrit app`.

use clap::{Args, Subcommand};

const REGISTER_EXAMPLES: &str = "\
The client secret is shown this once; the broker keeps only a hash of it.

Example:
  awrit app register --name order-desk --scopes read:orders:*,write:notes:* --token-ttl 900";
const LIST_EXAMPLES: &str = "Examples:\n  awrit app list\n  awrit app list --json";
const GET_EXAMPLES: &str = "Example:\n  awrit app get app-order-desk-1a2b3c";
const UPDATE_EXAMPLES: &str = "\
A new ceiling holds for launch tokens made from now on; agents keep what they have.

Examples:
  awrit app update --id app-order-desk-1a2b3c --scopes read:orders:*
  awrit app update --id app-order-desk-1a2b3c --token-ttl 600";
const REMOVE_EXAMPLES: &str = "\
The app can't log in again and its tokens are revoked; its agents keep their tokens until they expire or are revoked.

Example:
  awrit app remove --id app-order-desk-1a2b3c";

#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// Register an app and show its credentials
    #[command(after_help = REGISTER_EXAMPLES)]
    Register(AppRegisterArgs),
    /// List all apps, newest first
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Show one app
    #[command(after_help = GET_EXAMPLES)]
    Get(AppGetArgs),
    /// Change an app's scopes or the life of its tokens
    #[command(after_help = UPDATE_EXAMPLES)]
    Update(AppUpdateArgs),
    /// Deregister an app
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove(AppRemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct AppRegisterArgs {
    /// 2 to 64 of a-z, 0-9 and inner hyphens (required)
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Ceiling of what its agents may hold, separated by commas without spaces (required)
    #[arg(long, value_name = "SCOPE,...")]
    pub(crate) scopes: Option<String>,
    /// Life of its tokens in seconds, 60 to 86400; default: the broker's `AA_APP_TOKEN_TTL`
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) token_ttl: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct AppGetArgs {
    /// The app's id
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct AppUpdateArgs {
    /// The app's id (required)
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// The new ceiling, separated by commas without spaces
    #[arg(long, value_name = "SCOPE,...")]
    pub(crate) scopes: Option<String>,
    /// The new life of its tokens in seconds, 60 to 86400
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) token_ttl: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct AppRemoveArgs {
    /// The app's id (required)
    #[arg(long)]
    pub(crate) id: Option<String>,
}
