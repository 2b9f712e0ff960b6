//! Room on the disk of the store: strangers must not be able to take the last of it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Below so many free bytes the denials of strangers are only counted: the rest of the disk is for commands.
pub(super) const RESERVE: u64 = 64 * 1024 * 1024;

/// Whether the reserve has been reached.
#[derive(Debug, Default)]
pub(crate) struct Space(AtomicBool);

impl Space {
    /// Whether only commands may write.
    pub(super) fn scarce(&self) -> bool {
        self.0.load(Ordering::Relaxed)
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
        let scarce = free < RESERVE;
        if self.0.swap(scarce, Ordering::Relaxed) == scarce {
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
        for (free, scarce) in [(RESERVE, false), (RESERVE - 1, true), (0, true), (RESERVE, false)] {
            space.set(free);
            assert_eq!(space.scarce(), scarce, "{free}");
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
