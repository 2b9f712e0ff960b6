//! `awrit keys`.

use clap::{Args, Subcommand};

const LIST_EXAMPLES: &str = "\
next: published, and not signing yet. active: it signs. previous: a later key signs, and tokens of it are still accepted.
retired: no token of it is accepted; it stays in the list so that old statements of the audit trail can be checked.

Examples:
  awrit keys list
  awrit keys list --json";
const ROTATE_EXAMPLES: &str = "\
No token is lost: the new key is published first, signs later (AA_KEY_PUBLISH_SECONDS), and the old one is retired when
its last token has expired. In a cluster the controller makes the key, which takes a minute or two.

Example:
  awrit keys rotate && awrit keys list";
const RETIRE_EXAMPLES: &str = "\
Keys are retired by themselves when their last token has expired. --now is for a key that has leaked: every token that
there is is refused from that moment on, whatever key it is of, and agents register again by themselves.

Examples:
  awrit keys retire kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k --now";

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// List the signing keys, in the order in which they were published
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Ask for another signing key
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate,
    /// Retire a signing key
    #[command(after_help = RETIRE_EXAMPLES)]
    Retire(KeysRetireArgs),
}

#[derive(Debug, Args)]
pub(crate) struct KeysRetireArgs {
    /// The key's id, as `awrit keys list` shows it
    #[arg(value_name = "KID", allow_hyphen_values = true)]
    pub(crate) kid: String,
    /// It has leaked: refuse every token that there is
    #[arg(long)]
    pub(crate) now: bool,
}
