//! How one replica comes to lead, and what only the leader does.

pub(crate) mod broker_sync;
mod denials;
mod duties;
pub(crate) mod guard;
pub(crate) mod leadership;
pub(crate) mod lease;
mod lease_step;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::context::Context;
use crate::pki::secrets::Secrets;

/// Starts what only the leader does, but for [`broker_sync`], which waits until the caches are filled.
pub(crate) fn spawn(context: &Arc<Context>, secrets: Secrets, tasks: &mut JoinSet<()>) {
    tasks.spawn(denials::run(Arc::clone(context)));
    tasks.spawn(duties::keep_keys(Arc::clone(context), secrets));
}
