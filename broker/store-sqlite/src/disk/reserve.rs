//! A file that holds room on the disk, so that what takes authority away still fits when everything else is full.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

const OWNER_ONLY: u32 = 0o600;
/// `st_blocks` counts in this unit (stat(2)).
const BLOCK: u64 = 512;
const CHUNK: usize = 1024 * 1024;

/// The reserve of one store.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    /// Whether this process made it: file systems that compress say that zeros take no room.
    made: bool,
}

impl Reserve {
    /// The one in this file, which need not be there.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, made: false }
    }

    /// How many bytes of the disk it holds now.
    pub(crate) fn held(&self) -> u64 {
        let file = std::fs::metadata(&self.path).ok().filter(std::fs::Metadata::is_file);
        file.map_or(0, |file| {
            // A copy of the folder may have holes in its place.
            let blocks = file.blocks().saturating_mul(BLOCK);
            if self.made { file.len() } else { file.len().min(blocks) }
        })
    }

    /// Makes it hold so many bytes. One that can't hold all of them holds what it held before.
    ///
    /// # Errors
    /// When the disk is full, or the file can't be made.
    pub(crate) fn hold(&mut self, bytes: u64) -> io::Result<()> {
        let before = self.held();
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(OWNER_ONLY)
            .open(&self.path)?;
        let filled = match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // A file system without it (NFS before 4.2, some FUSE ones): zeros take the room as well.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(&file, bytes),
            other => other.map_err(io::Error::from),
        };
        let held = filled.and_then(|()| file.sync_all());
        if held.is_ok() {
            self.made = true;
        } else if let Err(error) = file.set_len(before) {
            tracing::debug!(target: "STORE", component = "Space", error = %error, "the reserve can't be made shorter");
        }
        held
    }

    /// Gives some of its room back to the disk; how much it was. Not all at once: others may fill the same disk.
    ///
    /// # Errors
    /// When the file can't be made shorter.
    pub(crate) fn release(&self, bytes: u64) -> io::Result<u64> {
        let held = self.held();
        if held > 0 {
            let file = File::options().write(true).open(&self.path)?;
            file.set_len(held.saturating_sub(bytes))?;
        }
        Ok(held.min(bytes))
    }
}

fn write_zeros(mut file: &File, bytes: u64) -> io::Result<()> {
    let zeros = vec![0_u8; CHUNK];
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    while left > 0 {
        let next = zeros.get(..left.min(CHUNK)).unwrap_or(&zeros);
        file.write_all(next)?;
        left -= next.len();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_the_room_and_gives_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::new(folder.path().join("data.db.reserve"));
        assert_eq!(reserve.held(), 0);
        assert_eq!(reserve.release(1).unwrap(), 0);
        for _ in 0..2 {
            reserve.hold(3 << 20).unwrap();
            reserve.hold(3 << 20).unwrap();
            assert_eq!(reserve.held(), 3 << 20);
            assert_eq!(reserve.release(2 << 20).unwrap(), 2 << 20);
            assert_eq!(reserve.held(), 1 << 20);
            assert_eq!(reserve.release(2 << 20).unwrap(), 1 << 20);
            assert_eq!(reserve.held(), 0);
        }
    }

    #[test]
    fn zeros_take_room_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zeros");
        write_zeros(&File::create(&path).unwrap(), (2 << 20) + 5).unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().len(), (2 << 20) + 5);
    }

    #[test]
    fn a_reserve_that_does_not_fit_holds_what_it_held() {
        let folder = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::new(folder.path().join("data.db.reserve"));
        assert!(reserve.hold(1 << 60).is_err());
        assert_eq!(reserve.held(), 0);
        reserve.hold(1 << 20).unwrap();
        assert!(reserve.hold(1 << 60).is_err());
        assert_eq!(reserve.held(), 1 << 20);
        let mut nowhere = Reserve::new(folder.path().join("no/such/folder"));
        assert!(nowhere.hold(1).is_err());
    }

    #[test]
    fn a_copy_with_holes_holds_nothing_until_it_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.db.reserve");
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        let mut reserve = Reserve::new(path);
        assert_eq!(reserve.held(), 0);
        reserve.hold(1 << 20).unwrap();
        assert_eq!(reserve.held(), 1 << 20);
    }
}
