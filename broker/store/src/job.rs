//! A command on its way through an implementation of the store, which doesn't know its type.

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{Command, Foreseen, Result, StoreError, Tx};

/// A command without its type, with the one that waits for its outcome. What isn't said otherwise is as for a [`Command`]
/// that says nothing of it.
#[async_trait]
pub trait Job: Send {
    /// See [`Command::TAKES_AUTHORITY`].
    fn takes_authority(&self) -> bool {
        false
    }
    /// See [`Command::MAKES_ROOM`].
    fn makes_room(&self) -> bool {
        false
    }
    /// See [`Command::ISSUES`].
    fn issues(&self) -> bool {
        false
    }
    /// See [`Command::OPENS`].
    fn opens(&self) -> bool {
        false
    }
    /// See [`Command::foresees`].
    fn foresees(&self) -> Vec<Foreseen> {
        Vec::new()
    }
    /// Whether it may take the last places of the queue and the last bytes of the disk.
    fn uses_reserves(&self) -> bool {
        self.takes_authority() || self.makes_room()
    }
    /// Runs the command in this transaction; its outcome is kept until [`Job::finish`].
    ///
    /// # Errors
    /// When the store fails: the transaction has to be rolled back.
    async fn run(&mut self, tx: &mut dyn Tx) -> Result<()>;
    /// Whether [`Job::rewind`] can do it.
    fn can_rewind(&self) -> bool {
        false
    }
    /// Makes it as it was before it ran, for another transaction after a rollback; whether that can be done.
    fn rewind(&mut self) -> bool {
        false
    }
    /// Answers the caller: after the commit with its outcome, or with the error.
    fn finish(self: Box<Self>, result: Result<()>);
}

/// A command of a known type as a job.
pub(super) struct Slot<C: Command> {
    command: Option<C>,
    /// For another try.
    again: Option<C>,
    outcome: Option<C::Outcome>,
    reply: oneshot::Sender<Result<C::Outcome>>,
}

impl<C: Command> Slot<C> {
    /// The job, and where its answer arrives.
    pub(super) fn new(command: C) -> (Box<Self>, oneshot::Receiver<Result<C::Outcome>>) {
        let (reply, answer) = oneshot::channel();
        let slot = Self {
            again: C::TAKES_AUTHORITY.copy(&command),
            command: Some(command),
            outcome: None,
            reply,
        };
        (Box::new(slot), answer)
    }
}

#[async_trait]
impl<C: Command> Job for Slot<C> {
    fn takes_authority(&self) -> bool {
        C::TAKES_AUTHORITY.is_yes()
    }

    fn makes_room(&self) -> bool {
        C::MAKES_ROOM
    }

    fn issues(&self) -> bool {
        C::ISSUES
    }

    fn opens(&self) -> bool {
        C::OPENS
    }

    fn foresees(&self) -> Vec<Foreseen> {
        self.command.as_ref().map(Command::foresees).unwrap_or_default()
    }

    async fn run(&mut self, tx: &mut dyn Tx) -> Result<()> {
        if let Some(command) = self.command.take() {
            self.outcome = Some(command.run(tx).await?);
        }
        Ok(())
    }

    fn can_rewind(&self) -> bool {
        self.again.is_some()
    }

    fn rewind(&mut self) -> bool {
        self.command = self.again.as_ref().and_then(|command| C::TAKES_AUTHORITY.copy(command));
        self.outcome = None;
        self.command.is_some()
    }

    fn finish(self: Box<Self>, result: Result<()>) {
        let Self { outcome, reply, .. } = *self;
        let answer = result.and_then(|()| outcome.ok_or(StoreError::RolledBack));
        if reply.send(answer).is_err() {
            // The caller hung up; what was committed stays committed.
            tracing::trace!(target: "STORE", component = "Commit", "nobody waits for the answer");
        }
    }
}
