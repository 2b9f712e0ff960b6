//! What every store does alike with the audit trail: the chain and its checkpoints, where it is cut into segments, the
//! mark outside the store, and how a store that was put back from a copy is noticed. No database: an implementation of
//! the store reads and writes the rows.
#![deny(missing_docs)]

mod base;
mod chain;
mod event;
mod files;
mod filter_cache;
mod identity;
mod installation;
mod kept;
mod mark_file;
mod restored;
mod short_form;
mod tail;

pub use base::{Base, Opening};
pub use chain::{ChainHead, Links, Terms, log_checkpoint, seal};
pub use event::{SealedEvent, corrupt, hash_in, text};
pub use files::sync_folder_of;
pub use filter_cache::{FilterCache, Known};
pub use identity::{Identity, UnusedSecond, accept_clock, epochs_in, longer_ttl, new_epoch, unused_second, with_epoch};
pub use installation::{Claim, Owner};
pub use kept::{Growing, Kept, Saved};
pub use mark_file::MarkFile;
pub use restored::{Finding, Rule, judge};
pub use short_form::Short;
pub use tail::{Row, Tail, checkpoint_from_text, checkpoint_text};
