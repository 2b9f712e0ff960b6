//! What keeps the revocation view of every replica as the store has it. Each change of the view has a number and a row; the
//! number of the last one stands in the row of the chain's head, whose lock whoever writes holds. So numbers have no gaps and
//! the order of commits.
//!
//! A commit hands its own changes to its own view, after those of others that it lacks. The others hear the number by NOTIFY,
//! or see it at their next look, and read what they lack. What is not there any more, or is a new epoch, is loaded as a whole.

mod changes;
mod follow;
mod load;
mod view;

pub(crate) use changes::{append, append_epoch};
pub(crate) use follow::{driven, follow, look_once};
pub(crate) use load::{Snapshot, snapshot};
pub(crate) use view::{View, bring_up};

/// The channel of NOTIFY, whose payload is the number of the last change.
pub(crate) const CHANNEL: &str = "agentwrit_view";
