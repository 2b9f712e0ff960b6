//! Room on the disk of the store, and what may still be written.
//!
//! Free bytes | who may write
//! --- | ---
//! [`Bounds::scarce`] or more | everybody
//! less | commands; denials of strangers are only counted
//! less than [`Bounds::full`] beside the reserve | only what takes authority away, or makes room
//!
//! The [`Reserve`] is given up when the disk is full for those as well. It stands again before anybody else writes, unless
//! the store's own file has free pages for as much: those no other program can take.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use agentwrit_protocol::file_names::{beside, folder_of};
use agentwrit_store::{DiskSpace, StoreObserver};
use parking_lot::{Mutex, MutexGuard};

use crate::disk::reserve::Reserve;

const MIB: u64 = 1024 * 1024;
/// The reserve is given up in so many parts.
const PARTS: u64 = 8;

/// Where the room ends, on a file system of a size: a small one has smaller parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    /// Below so many free bytes strangers' denials are only counted.
    scarce: u64,
    /// What is set aside for taking authority away.
    reserve: u64,
    /// Below so many free bytes nothing else is written.
    full: u64,
}

impl Bounds {
    fn of(size: u64) -> Self {
        Self {
            scarce: (64 * MIB).min(size / 8),
            reserve: (32 * MIB).min(size / 8),
            full: (8 * MIB).min(size / 32),
        }
    }
}

/// Bytes of the file system of the store in this file, and those of them that a process without privileges may still take.
fn size_and_free(store: &Path) -> rustix::io::Result<(u64, u64)> {
    let disk = rustix::fs::statvfs(folder_of(store))?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    Ok((bytes(disk.f_blocks), bytes(disk.f_bavail)))
}

/// Bytes that the file `copy` may take of its disk. On the disk of a store the room is left alone in which its broker
/// writes everything.
pub(crate) fn room_for_copy(copy: &Path, store: &Path) -> rustix::io::Result<u64> {
    let (size, free) = size_and_free(copy)?;
    let disk = |file| rustix::fs::stat(folder_of(file)).map(|found| found.st_dev);
    Ok(room(size, free, disk(copy)? == disk(store)?))
}

fn room(size: u64, free: u64, of_a_store: bool) -> u64 {
    let kept = if of_a_store { Bounds::of(size).scarce } else { 0 };
    free.saturating_sub(kept)
}

/// The room of one store. A store in memory has none to look at, and is never full.
pub(crate) struct Space {
    free: AtomicU64,
    held: AtomicU64,
    /// What the reserve is to hold.
    wanted: AtomicU64,
    /// Bytes of free pages in the store's file.
    reusable: AtomicU64,
    /// Whether the reserve can't be made, for another reason than a full disk.
    impossible: AtomicBool,
    looked: AtomicBool,
    scarce: AtomicBool,
    full: AtomicBool,
    /// None for a store in memory. Locked while the reserve is made or given up.
    reserve: OnceLock<Mutex<Reserve>>,
    observer: Arc<dyn StoreObserver>,
}

impl Space {
    /// Of a store that isn't known yet; the observer is told of the free bytes.
    pub(crate) fn new(observer: Arc<dyn StoreObserver>) -> Self {
        Self {
            free: AtomicU64::new(0),
            held: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            reusable: AtomicU64::new(0),
            impossible: AtomicBool::new(false),
            looked: AtomicBool::new(false),
            scarce: AtomicBool::new(false),
            full: AtomicBool::new(false),
            reserve: OnceLock::new(),
            observer,
        }
    }

    /// Whether strangers' denials are only counted.
    pub(crate) fn scarce(&self) -> bool {
        self.scarce.load(Ordering::Relaxed)
    }

    /// Whether only what takes authority away, or makes room, may still be written.
    pub(crate) fn full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// The last look, if there was one.
    pub(crate) fn now(&self) -> Option<DiskSpace> {
        self.looked.load(Ordering::Relaxed).then(|| DiskSpace {
            free: self.free.load(Ordering::Relaxed),
            reserve: self.held.load(Ordering::Relaxed),
            scarce: self.scarce(),
            full: self.full(),
        })
    }

    /// Gets to know the disk of the store in this file, so that the reserve can be given up. To make one takes a sync: that
    /// waits for the first look, and the start doesn't.
    pub(crate) fn learn(&self, store: &Path) {
        if let Ok((size, _)) = size_and_free(store) {
            self.wanted.store(Bounds::of(size).reserve, Ordering::Relaxed);
            drop(self.reserve_of(store));
        }
    }

    fn reserve_of(&self, store: &Path) -> MutexGuard<'_, Reserve> {
        self.reserve
            .get_or_init(|| Mutex::new(Reserve::new(beside(store, ".reserve"))))
            .lock()
    }

    /// Looks at the disk of the store in this file, and makes the reserve when there is room for it; says in the log
    /// when what may be written changes.
    pub(crate) fn look(&self, store: &Path) {
        if let Err(error) = self.look_at(store, || size_and_free(store)) {
            tracing::debug!(target: "STORE", component = "Space", error = %error, "free space is not known");
        }
    }

    fn look_at<E>(&self, store: &Path, size_and_free: impl Fn() -> Result<(u64, u64), E>) -> Result<(), E> {
        let mut reserve = self.reserve_of(store);
        let (size, mut free) = size_and_free()?;
        let bounds = Bounds::of(size);
        let mut held = reserve.held();
        if held < bounds.reserve && free.saturating_add(held) >= bounds.reserve.saturating_add(2 * bounds.full) {
            match reserve.hold(bounds.reserve) {
                Ok(()) => {
                    self.impossible.store(false, Ordering::Relaxed);
                    (_, free) = size_and_free()?;
                }
                Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                    tracing::debug!(target: "STORE", component = "Space", error = %error, "the reserve does not fit");
                }
                Err(error) => {
                    if !self.impossible.swap(true, Ordering::Relaxed) {
                        tracing::warn!(target: "STORE", component = "Space", error = %error,
                            "the reserve can't be made: as much is left free instead");
                    }
                }
            }
            held = reserve.held();
        }
        self.set(bounds, free, held);
        Ok(())
    }

    fn set(&self, bounds: Bounds, free: u64, held: u64) {
        self.free.store(free, Ordering::Relaxed);
        self.held.store(held, Ordering::Relaxed);
        self.wanted.store(bounds.reserve, Ordering::Relaxed);
        self.looked.store(true, Ordering::Relaxed);
        self.observer.disk_free(free);
        let enough = bounds.reserve.saturating_add(2 * bounds.full);
        let (stands, least) = if self.reusable.load(Ordering::Relaxed) >= enough {
            // What is left free is for the WAL.
            (true, bounds.full / 2)
        } else {
            let impossible = self.impossible.load(Ordering::Relaxed) && free >= enough;
            // Twice the bound to come back, so that it isn't crossed to and fro.
            let least = if self.full() { 2 * bounds.full } else { bounds.full };
            (held >= bounds.reserve || impossible, least)
        };
        let full = !stands || free < least;
        let scarce = full || free < bounds.scarce;
        let was_scarce = self.scarce.swap(scarce, Ordering::Relaxed);
        if self.full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::error!(target: "STORE", component = "Space", free, reserve = held,
                    "the disk is full: only what takes authority away is still written");
            } else {
                tracing::info!(target: "STORE", component = "Space", free, reserve = held,
                    "there is room on the disk again: everything is written");
            }
        }
        if scarce && !was_scarce && !full {
            tracing::warn!(target: "STORE", component = "Space", free, bound = bounds.scarce,
                "the disk is nearly full: denials of strangers are only counted");
        } else if !scarce && was_scarce {
            tracing::info!(target: "STORE", component = "Space", free, "the disk is no longer nearly full");
        }
    }

    /// As if so many bytes were free on a large disk with its reserve.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn set_free(&self, free: u64) {
        let bounds = Bounds::of(1 << 40);
        self.set(bounds, free, bounds.reserve);
    }

    /// Takes note of the free pages in the store's file.
    pub(crate) fn reusable(&self, bytes: u64) {
        self.reusable.store(bytes, Ordering::Relaxed);
    }

    /// Whether the disk has no room, as it is this moment: a quota is told of as a failed write.
    pub(crate) fn lacks_room(store: &Path) -> bool {
        size_and_free(store).is_ok_and(|(size, free)| free < Bounds::of(size).full)
    }

    /// A write found the disk full: only what takes authority away is written from now on.
    pub(crate) fn found_full(&self) {
        if self.reserve.get().is_none() {
            return;
        }
        self.scarce.store(true, Ordering::Relaxed);
        if !self.full.swap(true, Ordering::Relaxed) {
            tracing::error!(target: "STORE", component = "Space",
                "a write found the disk full: only what takes authority away is still written");
        }
    }

    /// Gives a part of the reserve up to what takes authority away, or to the opening of the store. Whether there was any
    /// left.
    pub(crate) fn give_up(&self) -> bool {
        self.found_full();
        let Some(reserve) = self.reserve.get() else {
            return false;
        };
        let reserve = reserve.lock();
        let part = self.wanted.load(Ordering::Relaxed).div_ceil(PARTS);
        let released = reserve.release(part).unwrap_or_else(|error| {
            tracing::error!(target: "STORE", component = "Space", error = %error, "the reserve can't be given up");
            0
        });
        let left = reserve.held();
        self.held.store(left, Ordering::Relaxed);
        if released > 0 {
            tracing::error!(target: "STORE", component = "Space", released, left,
                "the disk is full: a part of the reserve is given up");
        }
        released > 0
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use super::*;
    use agentwrit_store::testing::Recorder;

    const SIZE: u64 = 1024 * MIB;

    fn space() -> Space {
        Space::new(Arc::new(Recorder::default()))
    }

    #[test]
    fn a_small_file_system_has_smaller_parts() {
        let mib = |scarce, reserve, full| Bounds {
            scarce: scarce * MIB,
            reserve: reserve * MIB,
            full: full * MIB,
        };
        assert_eq!(Bounds::of(1 << 40), mib(64, 32, 8));
        assert_eq!(Bounds::of(512 * MIB), mib(64, 32, 8));
        assert_eq!(Bounds::of(64 * MIB), mib(8, 8, 2));
        assert_eq!(Bounds::of(0), mib(0, 0, 0));
    }

    #[test]
    fn a_copy_beside_a_store_leaves_its_broker_the_room_to_write() {
        assert_eq!(room(1 << 40, 100 * MIB, true), 36 * MIB);
        assert_eq!(room(1 << 40, 100 * MIB, false), 100 * MIB);
        assert_eq!(room(1 << 40, 10 * MIB, true), 0);
    }

    #[test]
    fn the_free_bytes_decide_who_may_write() {
        let recorder = Arc::new(Recorder::default());
        let observer: Arc<dyn StoreObserver> = Arc::<Recorder>::clone(&recorder);
        let (space, bounds) = (Space::new(observer), Bounds::of(SIZE));
        assert_eq!(space.now(), None);
        for (free, scarce, full) in [
            (64 * MIB, false, false),
            (64 * MIB - 1, true, false),
            (8 * MIB, true, false),
            (8 * MIB - 1, true, true),
            (16 * MIB - 1, true, true),
            (16 * MIB, true, false),
            (0, true, true),
            (64 * MIB, false, false),
        ] {
            space.set(bounds, free, bounds.reserve);
            assert_eq!((space.scarce(), space.full()), (scarce, full), "{free}");
            let reserve = bounds.reserve;
            let found = DiskSpace {
                free,
                reserve,
                scarce,
                full,
            };
            assert_eq!(space.now(), Some(found));
            assert_eq!(recorder.free_bytes(), free);
        }
        space.set(bounds, 64 * MIB, bounds.reserve - 1);
        assert!(space.full(), "without its reserve it is full");
        space.reusable(48 * MIB - 1);
        space.set(bounds, 5 * MIB, 0);
        assert!(space.full());
        space.reusable(48 * MIB);
        space.set(bounds, 5 * MIB, 0);
        assert!(!space.full(), "free pages in the file stand for the reserve");
        space.set(bounds, 4 * MIB - 1, 0);
        assert!(space.full(), "the WAL needs some room");
    }

    /// A disk of [`SIZE`] on which something else takes room, beside the reserve that really is there.
    fn look(space: &Space, store: &Path, others: &Cell<u64>) {
        let size_and_free = || {
            let held = Reserve::new(beside(store, ".reserve")).held();
            Ok::<_, Infallible>((SIZE, SIZE.saturating_sub(others.get()).saturating_sub(held)))
        };
        let Ok(()) = space.look_at(store, size_and_free);
    }

    #[test]
    fn the_reserve_is_refilled_before_others_write() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("data.db");
        let (space, others) = (space(), Cell::new(0));
        look(&space, &store, &others);
        assert!(!space.full());
        let held = space.now().unwrap().reserve;
        assert_eq!(held, 32 * MIB);
        for part in 1..=8 {
            assert!(space.give_up());
            let room = space.now().unwrap();
            assert_eq!((room.reserve, room.full), (32 * MIB - part * 4 * MIB, true));
        }
        assert!(!space.give_up(), "nothing is left");
        // What the reserve has freed is not for everybody.
        others.set(SIZE - 40 * MIB);
        look(&space, &store, &others);
        assert_eq!(space.now().map(|room| (room.reserve, room.full)), Some((0, true)));
        others.set(SIZE - 48 * MIB);
        look(&space, &store, &others);
        assert_eq!(space.now().unwrap().reserve, 32 * MIB);
        assert_eq!((space.scarce(), space.full()), (true, false));
    }

    #[test]
    fn a_reserve_that_can_not_be_made_is_left_free_instead() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("data.db");
        std::fs::create_dir(beside(&store, ".reserve")).unwrap();
        let (space, others) = (space(), Cell::new(0));
        let free = |bytes: u64| {
            others.set(SIZE - bytes);
            look(&space, &store, &others);
            space.full()
        };
        assert!(!free(100 * MIB));
        assert!(free(47 * MIB));
        assert!(!free(48 * MIB));
    }

    #[test]
    fn a_folder_that_is_not_there_changes_nothing() {
        let space = space();
        space.look(Path::new("/there/is/no/such/folder/data.db"));
        assert_eq!((space.now(), space.full()), (None, false));
        assert!(!space.give_up());
    }

    #[test]
    fn a_store_in_memory_is_never_full() {
        let space = space();
        assert!(!space.give_up());
        assert!(!space.full() && !space.scarce());
    }
}
