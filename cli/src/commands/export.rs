//! `awrit audit export`.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use agentwrit_protocol::system::SystemClock;

use crate::args::ExportArgs;
use crate::audit_verify::{Progress, Trail};
use crate::error::CliError;
use crate::session::{Context, wait_for};

/// Readable by its owner only: the trail shows who did what.
const FILE_MODE: u32 = 0o600;

pub(super) fn run(args: &ExportArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let (client, secret) = context.admin()?;
    let path = args.file.as_deref();
    let output = &mut *context.output;
    let count = wait_for(async {
        let mut trail = Trail::open(&client, &secret).await?;
        // Not before the login: a broker that can't be asked leaves no file behind.
        let mut file = path.map(NewFile::create).transpose()?;
        let mut progress = Progress::new(&SystemClock);
        let mut count: i64 = 0;
        while let Some(events) = trail.next_events().await? {
            for event in events {
                let line = format!("{}\n", event.get());
                match &mut file {
                    Some(file) => file.write(&line)?,
                    None => output.text(&line)?,
                }
                count = count.saturating_add(1);
                if let Some(line) = progress.line(count, trail.total()) {
                    output.note(&line)?;
                }
            }
        }
        file.map(NewFile::finish).transpose()?;
        Ok(count)
    })?;
    context.output.note(&format!("Exported {count} events"))?;
    Ok(())
}

/// A file that wasn't there: an export must not hide an older one. Unless it is finished it is removed again, because
/// the beginning of a trail looks like a whole one.
struct NewFile<'a> {
    path: &'a Path,
    writer: BufWriter<File>,
    finished: bool,
}

impl<'a> NewFile<'a> {
    fn create(path: &'a Path) -> Result<Self, CliError> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(path)
            .map_err(unusable(path))?;
        Ok(Self {
            path,
            writer: BufWriter::new(file),
            finished: false,
        })
    }

    fn write(&mut self, line: &str) -> Result<(), CliError> {
        self.writer.write_all(line.as_bytes()).map_err(unusable(self.path))
    }

    fn finish(mut self) -> Result<(), CliError> {
        let written = self.writer.flush().and_then(|()| self.writer.get_ref().sync_all());
        written.map_err(unusable(self.path))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if !self.finished {
            // The command has failed anyway.
            let _ = std::fs::remove_file(self.path);
        }
    }
}

fn unusable(path: &Path) -> impl FnOnce(std::io::Error) -> CliError {
    let path = path.to_owned();
    move |error| CliError::File {
        path,
        reason: match error.kind() {
            ErrorKind::AlreadyExists => "it already exists, and an export replaces nothing".to_owned(),
            _ => error.to_string(),
        },
    }
}
