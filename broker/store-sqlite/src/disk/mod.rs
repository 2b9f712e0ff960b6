//! The files beside the store's own, and the room on its disk.

pub(crate) mod memory_run;
mod reserve;
pub(crate) mod space;
pub(crate) mod stale_wal;
