//! What the commands of a batch are answered.

use agentwrit_store::{Job, StoreError};

/// Answers jobs of a batch that was committed, but for those that there was no status index for.
pub(crate) fn done_but(jobs: Vec<Box<dyn Job>>, refused: &[usize]) {
    for (index, job) in jobs.into_iter().enumerate() {
        job.finish(if refused.contains(&index) {
            Err(StoreError::StatusListsFull)
        } else {
            Ok(())
        });
    }
}

/// Answers jobs of a batch that was rolled back: the culprit hears why.
pub(crate) fn refuse(jobs: Vec<Box<dyn Job>>, culprit: usize, error: StoreError) {
    let mut error = Some(error);
    for (index, job) in jobs.into_iter().enumerate() {
        let mine = if index == culprit { error.take() } else { None };
        job.finish(Err(mine.unwrap_or(StoreError::RolledBack)));
    }
}

/// Answers jobs of a batch that may be in the store or not: nobody may be told that nothing was changed.
pub(crate) fn unknown(jobs: Vec<Box<dyn Job>>) {
    for job in jobs {
        job.finish(Err(StoreError::Unknown));
    }
}
