//! The trail as files, one event a line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use agentwrit_protocol::audit::{AuditEvent, EventType};
use serde::Deserialize;

use super::{Broken, Progress, Start, Verification};
use crate::error::CliError;
use crate::output::Output;

/// Where a verification begins.
#[derive(Debug)]
pub(crate) struct Place {
    /// Number of the line.
    line: usize,
    /// Number of the first event, when that is where the trail begins, and not one that was asked for.
    pub(crate) first: Option<i64>,
    /// Whether it is a checkpoint that was asked for.
    pub(crate) anchored: bool,
}

/// Files of events that follow each other.
pub(crate) struct EventFiles {
    paths: Vec<PathBuf>,
}

fn unusable(path: &Path, reason: &dyn ToString) -> CliError {
    CliError::File {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// The lines of a file that aren't empty.
fn lines(path: &Path) -> Result<impl Iterator<Item = Result<String, CliError>> + '_, CliError> {
    let file = File::open(path).map_err(|error| unusable(path, &error))?;
    Ok(BufReader::new(file)
        .lines()
        .map(|line| line.map_err(|error| unusable(path, &error)))
        .filter(|line| line.as_ref().map_or(true, |line| !line.trim().is_empty())))
}

impl EventFiles {
    /// Files in any order: each begins with the event after the last of another.
    ///
    /// Fails when one can't be read, or holds no event.
    pub(crate) fn new(paths: &[PathBuf]) -> Result<Self, CliError> {
        let mut numbered = Vec::new();
        for path in paths {
            let first = lines(path)?.next().transpose()?;
            let Some(first) = first else {
                return Err(unusable(path, &"it holds no event"));
            };
            numbered.push((number(&first).unwrap_or_default(), path.clone()));
        }
        numbered.sort_by_key(|(number, _)| *number);
        Ok(Self {
            paths: numbered.into_iter().map(|(_, path)| path).collect(),
        })
    }

    /// The lines of all, with their numbers from 1.
    fn lines(&self) -> impl Iterator<Item = Result<(usize, String), CliError>> + '_ {
        let all = self.paths.iter().flat_map(|path| {
            let (lines, error) = match lines(path) {
                Ok(lines) => (Some(lines), None),
                Err(error) => (None, Some(Err(error))),
            };
            lines.into_iter().flatten().chain(error)
        });
        all.enumerate()
            .map(|(index, line)| line.map(|line| (index.saturating_add(1), line)))
    }

    pub(crate) fn place(&self, start: &Start) -> Result<Place, CliError> {
        let begin = |first| Place {
            line: 1,
            first,
            anchored: false,
        };
        let first = self.lines().next().transpose()?.map(|(_, line)| beginning(&line));
        let wanted = match start {
            Start::First => return Ok(begin(first)),
            Start::LastCheckpoint => None,
            Start::Checkpoint(sequence) => Some(AuditEvent::id_for(*sequence)),
        };
        let mut found = None;
        for line in self.lines() {
            let (number, line) = line?;
            if is_checkpoint(&line, wanted.as_deref()) {
                found = Some(number);
            }
        }
        match (found, wanted) {
            (Some(line), _) => Ok(Place {
                line,
                first: None,
                anchored: true,
            }),
            (None, None) => Ok(begin(first)),
            (None, Some(id)) => {
                let path = self.paths.first().map_or(Path::new(""), PathBuf::as_path);
                Err(unusable(path, &format!("it holds no event {id}")))
            }
        }
    }

    /// Verifies from this place to the end of the files; the first thing that is wrong.
    pub(crate) fn feed(
        &self,
        place: &Place,
        verification: &mut Verification<'_>,
        progress: &mut Progress<'_>,
        output: &mut Output<'_>,
    ) -> Result<Option<Broken>, CliError> {
        for line in self.lines() {
            let (number, line) = line?;
            if number < place.line {
                continue;
            }
            if let Err(broken) = verification.feed(line.trim()) {
                return Ok(Some(broken));
            }
            if let Some(line) = progress.line(verification.count(), None) {
                output.note(&line)?;
            }
        }
        Ok(None)
    }
}

/// What one has to know of an event to find it.
#[derive(Deserialize)]
struct Outline {
    id: String,
    #[serde(default)]
    event_type: String,
}

/// The number in an event's id.
pub(super) fn number(event: &str) -> Option<i64> {
    let event: Outline = serde_json::from_str(event).ok()?;
    AuditEvent::sequence_of(&event.id)
}

/// Number of the event that a trail begins with when this is its first; without its beginning it begins with a checkpoint.
pub(super) fn beginning(event: &str) -> i64 {
    number(event).filter(|_| is_checkpoint(event, None)).unwrap_or(1)
}

/// Whether a line is the event with this id, or any checkpoint.
fn is_checkpoint(line: &str, wanted: Option<&str>) -> bool {
    serde_json::from_str::<Outline>(line).is_ok_and(|event| match wanted {
        Some(id) => event.id == id,
        None => event.event_type == EventType::AuditCheckpoint.as_str(),
    })
}
