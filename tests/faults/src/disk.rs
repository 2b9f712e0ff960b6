//! Small file systems that can be filled.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use agentwrit_testkit::load::failure::{Failure, Result};
use tempfile::TempDir;

const BALLOON: &str = "balloon";
const PIECE: usize = 64 * 1024;

/// A file system in memory, of so many MiB. It ends with the value, or with the mount namespace of this process.
pub(crate) struct Disk {
    folder: TempDir,
}

impl Disk {
    /// Mounts one.
    pub(crate) fn mount(mib: u32) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("aw-disk-").tempdir_in("/tmp");
        let folder = folder.map_err(Failure::system("make a folder to mount on"))?;
        let options = format!("size={mib}m,mode=0777");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder.path())
            .output()
            .map_err(Failure::system("mount a small file system"))?;
        if !mount.status.success() {
            let said = String::from_utf8_lossy(&mount.stderr).trim().to_owned();
            return Err(Failure::Broker(format!("mount a small file system: {said}")));
        }
        Ok(Self { folder })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn balloon(&self) -> PathBuf {
        self.folder.path().join(BALLOON)
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) -> Result<()> {
        let file = std::fs::File::options().create(true).append(true).open(self.balloon());
        let mut file = file.map_err(Failure::system("fill the file system"))?;
        let piece = vec![0_u8; PIECE];
        while file.write_all(&piece).is_ok() {}
        Ok(())
    }

    /// Gives it back.
    pub(crate) fn drain(&self) -> Result<()> {
        std::fs::remove_file(self.balloon()).map_err(Failure::system("empty the file system"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process of the server may still have its folder open.
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}
