//! `awrit audit export`.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use agentwrit_client::system::SystemClock;

use crate::args::ExportArgs;
use crate::error::CliError;
use crate::session::{Context, wait_for};
use crate::verify::{Progress, Trail};

/// The trail tells who did what.
const FILE_MODE: u32 = 0o600;

pub(super) fn run(args: &ExportArgs, context: &mut Context<'_, '_>) -> Result<(), CliError> {
    let (client, secret) = context.admin()?;
    let path = args.file.as_deref();
    let mut file = path.map(create).transpose()?;
    let output = &mut *context.output;
    let count = wait_for(async {
        let mut trail = Trail::open(&client, &secret).await?;
        let mut progress = Progress::new(&SystemClock);
        let mut count: i64 = 0;
        while let Some(events) = trail.next_events().await? {
            for event in events {
                let line = format!("{}\n", event.get());
                match (&mut file, path) {
                    (Some(file), Some(path)) => file.write_all(line.as_bytes()).map_err(unusable(path))?,
                    _ => output.text(&line)?,
                }
                count = count.saturating_add(1);
                if let Some(line) = progress.line(count, trail.total()) {
                    output.note(&line)?;
                }
            }
        }
        Ok(count)
    })?;
    if let (Some(mut file), Some(path)) = (file, path) {
        let written = file.flush().and_then(|()| file.get_ref().sync_all());
        written.map_err(unusable(path))?;
    }
    context.output.note(&format!("Exported {count} events"))?;
    Ok(())
}

/// A file that wasn't there: an export must not hide an older one.
fn create(path: &Path) -> Result<BufWriter<File>, CliError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path);
    Ok(BufWriter::new(file.map_err(unusable(path))?))
}

fn unusable(path: &Path) -> impl FnOnce(std::io::Error) -> CliError {
    let path = path.to_owned();
    move |error| CliError::File {
        path,
        reason: error.to_string(),
    }
}
