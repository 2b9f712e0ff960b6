//! Certificates as files.

use std::path::{Path, PathBuf};

use agentwrit_testkit::Authority;
use rcgen::{CertificateParams, KeyPair};

/// An authority and the folder that its files are in.
pub(crate) struct CaFiles {
    authority: Authority,
    folder: PathBuf,
    name: String,
}

impl CaFiles {
    /// An authority of this name; its certificate is `<name>.crt`.
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let files = Self {
            authority: Authority::named(name, |_| ()),
            folder: folder.to_owned(),
            name: name.to_owned(),
        };
        std::fs::write(files.file(), files.authority.pem()).unwrap();
        files
    }

    /// The file with its certificate.
    pub(crate) fn file(&self) -> String {
        self.folder.join(format!("{}.crt", self.name)).display().to_string()
    }

    /// A certificate for `host`, in `<host>.crt` with its key in `<host>.key`.
    pub(crate) fn issue(&self, host: &str) -> (String, String) {
        self.issue_with(host, |_| ())
    }

    /// The same with changes.
    pub(crate) fn issue_with(&self, host: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let issued = self.authority.issue_with(host, KeyPair::generate().unwrap(), change);
        issued.write(&self.folder, host)
    }
}
