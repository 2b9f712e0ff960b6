//! Room on the disk of the store: strangers must not be able to take the last of it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Below so many free bytes the denials of strangers are only counted: the rest of the disk is for commands.
pub(super) const RESERVE: u64 = 64 * 1024 * 1024;

/// Below so many free bytes the store counts as failing: what still fits is what earlier writes left in the WAL.
const FULL: u64 = 1024 * 1024;

/// Whether the reserve has been reached, and its end.
#[derive(Debug, Default)]
pub(crate) struct Space {
    scarce: AtomicBool,
    full: AtomicBool,
}

impl Space {
    /// Whether only commands may write.
    pub(super) fn scarce(&self) -> bool {
        self.scarce.load(Ordering::Relaxed)
    }

    /// Whether the next write may be the last that fits.
    pub(super) fn full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Looks at the disk; says in the log when that changes.
    pub(super) fn look(&self, folder: &Path) {
        match rustix::fs::statvfs(folder) {
            Ok(disk) => self.set(disk.f_bavail.saturating_mul(disk.f_frsize)),
            Err(error) => {
                tracing::debug!(target: "STORE", component = "Space", error = %error, "free space is not known");
            }
        }
    }

    fn set(&self, free: u64) {
        self.full.store(free < FULL, Ordering::Relaxed);
        let scarce = free < RESERVE;
        if self.scarce.swap(scarce, Ordering::Relaxed) == scarce {
            return;
        }
        if scarce {
            tracing::warn!(target: "STORE", component = "Space", free, reserve = RESERVE,
                "the disk is nearly full: denials of strangers are only counted");
        } else {
            tracing::info!(target: "STORE", component = "Space", free, "there is room on the disk again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_scarce_below_the_reserve_only() {
        let space = Space::default();
        for (free, scarce, full) in [
            (RESERVE, false, false),
            (RESERVE - 1, true, false),
            (FULL - 1, true, true),
            (0, true, true),
            (RESERVE, false, false),
        ] {
            space.set(free);
            assert_eq!((space.scarce(), space.full()), (scarce, full), "{free}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_changes_nothing() {
        let space = Space::default();
        space.set(0);
        space.look(Path::new("/there/is/no/such/folder"));
        assert!(space.scarce());
        space.look(&std::env::temp_dir());
    }
}
