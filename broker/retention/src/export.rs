//! A segment as a file: its events as they are served, one a line.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agentwrit_protocol::audit::ExportedFile;
use agentwrit_protocol::file_names::{beside, folder_of};
use agentwrit_protocol::lower_hex;
use agentwrit_store::{EventFilter, Segment, Store, StoreError};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// Events that are in memory at once.
const PAGE: i64 = 500;

/// Why a segment can't be exported.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path}: {source}", path = .path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is there already, with another content: move it away", path = .path.display())]
    Differs { path: PathBuf },
    #[error("{0} of its events can't be read")]
    Missing(i64),
    #[error("the thread that writes is gone")]
    Gone,
}

/// Writes the events of a segment, durably. A file of before with the same content counts as written.
pub(super) async fn export(store: &Store, folder: &Path, segment: &Segment) -> Result<ExportedFile, ExportError> {
    let epoch = store.epoch();
    let name = format!("audit-{epoch}-{:06}-{:06}.jsonl", segment.first, segment.last);
    let path = folder.join(&name);
    let mut writing = on_thread(move || Writing::begin(path)).await?;
    let (mut after, mut left) = (segment.first.saturating_sub(1), segment.last + 1 - segment.first);
    while left > 0 {
        let limit = left.min(PAGE);
        // On a reader and page by page: a long read would hold up the emptying of the WAL.
        let filter = EventFilter {
            cursor: Some(after),
            limit,
            ..EventFilter::default()
        };
        let read = store.query(move |tx| Box::pin(async move { tx.events(&filter).await }));
        let page = read.await?;
        let Some(last) = page.last.filter(|last| *last == after.saturating_add(limit)) else {
            return Err(ExportError::Missing(left));
        };
        (after, left) = (last, left.saturating_sub(limit));
        writing = on_thread(move || writing.add(&page.events)).await?;
    }
    let sha256 = on_thread(move || writing.finish()).await?;
    Ok(ExportedFile { name, sha256 })
}

/// Does what may block where that holds up nobody.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ExportError> + Send + 'static,
) -> Result<T, ExportError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ExportError::Gone)?
}

/// A file that is being written, under another name until it is whole.
struct Writing {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
    digest: Sha256,
}

/// Names the file that an error is about.
fn at(path: &Path) -> impl FnOnce(io::Error) -> ExportError + '_ {
    |source| ExportError::File {
        path: path.to_owned(),
        source,
    }
}

impl Writing {
    fn begin(path: PathBuf) -> Result<Self, ExportError> {
        let part = beside(&path, ".part");
        let file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&part)
            .map_err(at(&part))?;
        Ok(Self {
            path,
            part,
            file: BufWriter::new(file),
            digest: Sha256::new(),
        })
    }

    /// Adds the events of a JSON array.
    fn add(mut self, events: &str) -> Result<Self, ExportError> {
        let events: Vec<&RawValue> = serde_json::from_str(events).map_err(|error| StoreError::Corrupt {
            what: "audit event",
            why: error.to_string(),
        })?;
        for event in events {
            for bytes in [event.get().as_bytes(), b"\n"] {
                self.digest.update(bytes);
                self.file.write_all(bytes).map_err(at(&self.part))?;
            }
        }
        Ok(self)
    }

    /// Makes it whole; the hash of its content.
    fn finish(mut self) -> Result<String, ExportError> {
        self.file.flush().map_err(at(&self.part))?;
        let sha256 = lower_hex(std::mem::take(&mut self.digest).finalize());
        match hash_of(&self.path) {
            // A crash may have come between its name and the folder's.
            Ok(there) if there == sha256 => {
                sync_folder_of(&self.path).map_err(at(&self.path))?;
                return Ok(sha256);
            }
            Ok(_) => {
                return Err(ExportError::Differs {
                    path: self.path.clone(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&self.path)(error)),
        }
        self.file.get_ref().sync_all().map_err(at(&self.part))?;
        fs::rename(&self.part, &self.path).map_err(at(&self.path))?;
        sync_folder_of(&self.path).map_err(at(&self.path))?;
        Ok(sha256)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // It isn't there any more when it became the file itself; a part that stays is written anew the next time.
        let _ = fs::remove_file(&self.part);
    }
}

/// The hash of a file's content.
fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(lower_hex(digest.finalize())),
            read => digest.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

/// Makes it last that a file has its name: a crash may undo what only the file was synced for (fsync(2)).
fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}
