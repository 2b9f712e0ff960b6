//! The trail as a file, one event a line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use agentwrit_protocol::audit::{AuditEvent, EventType};
use serde::Deserialize;

use super::{Progress, Start, Verdict, Verification};
use crate::error::CliError;
use crate::output::Output;

/// A file of events.
pub(crate) struct EventFile {
    path: PathBuf,
}

impl EventFile {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn unusable(&self, error: &std::io::Error) -> CliError {
        CliError::File {
            path: self.path.clone(),
            reason: error.to_string(),
        }
    }

    /// The lines that aren't empty, with their numbers from 1.
    fn lines(&self) -> Result<impl Iterator<Item = Result<(usize, String), CliError>> + '_, CliError> {
        let file = File::open(&self.path).map_err(|error| self.unusable(&error))?;
        let lines = BufReader::new(file).lines().enumerate();
        Ok(lines
            .map(|(index, line)| match line {
                Ok(line) => Ok((index.saturating_add(1), line)),
                Err(error) => Err(self.unusable(&error)),
            })
            .filter(|line| line.as_ref().map_or(true, |(_, line)| !line.trim().is_empty())))
    }

    /// Number of the line to begin with, and whether it is a checkpoint.
    pub(crate) fn place(&self, start: &Start) -> Result<(usize, bool), CliError> {
        let wanted = match start {
            Start::First => return Ok((1, false)),
            Start::LastCheckpoint => None,
            Start::Checkpoint(sequence) => Some(AuditEvent::id_for(*sequence)),
        };
        let mut found = None;
        for line in self.lines()? {
            let (number, line) = line?;
            if is_checkpoint(&line, wanted.as_deref()) {
                found = Some((number, true));
            }
        }
        match (found, wanted) {
            (Some(found), _) => Ok(found),
            (None, None) => Ok((1, false)),
            (None, Some(id)) => Err(CliError::File {
                path: self.path.clone(),
                reason: format!("it holds no event {id}"),
            }),
        }
    }

    /// Verifies from this line on.
    pub(crate) fn verify(
        &self,
        from: usize,
        mut verification: Verification<'_>,
        progress: &mut Progress<'_>,
        output: &mut Output<'_>,
    ) -> Result<Verdict, CliError> {
        for line in self.lines()? {
            let (number, line) = line?;
            if number < from {
                continue;
            }
            if let Err(broken) = verification.feed(line.trim()) {
                return Ok(verification.end(broken));
            }
            if let Some(line) = progress.line(verification.count(), None) {
                output.note(&line)?;
            }
        }
        Ok(verification.finish())
    }
}

/// Whether a line is the event with this id, or any checkpoint.
fn is_checkpoint(line: &str, wanted: Option<&str>) -> bool {
    #[derive(Deserialize)]
    struct Outline {
        id: String,
        event_type: String,
    }
    serde_json::from_str::<Outline>(line).is_ok_and(|event| match wanted {
        Some(id) => event.id == id,
        None => event.event_type == EventType::AuditCheckpoint.as_str(),
    })
}
