//! What each action does.

use crate::fault::Fault;
use crate::rows::{Rows, at, numbers};
use crate::rules::{Command, Outcome};
use crate::view::{Known, View};
use crate::world::{NODES, Phase, State, Work, World};

impl World {
    /// What a client is told is in the store once.
    fn answer(state: &mut State, replica: usize) -> Option<()> {
        let work = state.work[replica].take()?;
        state.wrong.not_once |= work.written != 1;
        Some(())
    }

    pub(crate) fn ask(&self, state: &mut State, replica: usize, command: Command) {
        let found_unused = match command {
            Command::Register(launch) => state.rows.used & (1 << launch) == 0,
            _ => false,
        };
        state.work[replica] = Some(Work {
            command: Some(command),
            phase: Phase::Waiting(found_unused && self.rules.fault == Fault::UseNotConditional),
            written: 0,
        });
    }

    pub(crate) fn run(&self, state: &mut State, replica: usize) -> Option<()> {
        let work = state.work[replica].as_mut()?;
        work.phase = Phase::Ran(false);
        let after = self.after(&state.rows, work.command?);
        if replica == 0
            && self.rules.fault == Fault::FeedBeforeCommit
            && let Some(view) = &mut state.view
        {
            view.follow(&state.rows, &after);
        }
        Some(())
    }

    fn after(&self, rows: &Rows<NODES>, command: Command) -> Rows<NODES> {
        let mut after = rows.clone();
        self.rules.apply(&mut after, command, false);
        after
    }

    /// The batch is in the store, and the COMMIT has no answer yet.
    pub(crate) fn write(&self, state: &mut State, replica: usize, command: Command) {
        let before = state.work[replica];
        let found_unused = matches!(before.map(|work| work.phase), Some(Phase::Waiting(true)));
        let token = match command {
            Command::Renew(node, _) => Some(state.rows.nodes[at(node)].token),
            _ => None,
        };
        let outcome = self.rules.apply(&mut state.rows, command, found_unused);
        if let (Command::Renew(_, of), Outcome::Done) = (command, outcome) {
            state.wrong.second_winner |= token != Some(of);
        }
        state.work[replica] = Some(Work {
            command: self.again(command),
            phase: Phase::Unknown,
            written: before.map_or(0, |work| work.written) + 1,
        });
    }

    /// What is kept of a command whose COMMIT has no answer.
    fn again(&self, command: Command) -> Option<Command> {
        (self.rules.fault == Fault::UnknownDoneAgain).then_some(command)
    }

    /// The COMMIT was lost with its answer.
    pub(crate) fn lose(&self, state: &mut State, replica: usize) {
        let (command, written) = state.work[replica].map_or((None, 0), |work| (work.command, work.written));
        state.work[replica] = Some(Work {
            command: command.and_then(|command| self.again(command)),
            phase: Phase::Unknown,
            written,
        });
    }

    pub(crate) fn commit(&self, state: &mut State, replica: usize, command: Command) -> Option<()> {
        let before = state.rows.clone();
        self.write(state, replica, command);
        // Before the answer (`RevocationListener::changed`).
        if replica == 0
            && let Some(view) = &mut state.view
        {
            view.follow(&before, &state.rows);
        }
        Self::answer(state, replica)
    }

    pub(crate) fn read_back(&self, state: &mut State, replica: usize) -> Option<()> {
        let work = state.work[replica].as_mut()?;
        match self.rules.fault {
            Fault::UnknownDoneAgain if work.command.is_some() => work.phase = Phase::Waiting(false),
            Fault::UnknownTakenForDone => Self::answer(state, replica)?,
            // Not in the store: 503, and nothing has changed.
            _ if work.written == 0 => state.work[replica] = None,
            _ => Self::answer(state, replica)?,
        }
        Some(())
    }

    pub(crate) fn crash(state: &mut State, replica: usize) {
        state.work[replica] = None;
        if replica == 0 {
            (state.view, state.age, state.missed) = (None, 0, 0);
        }
    }

    pub(crate) fn load(&self, state: &mut State) {
        let mut view = View::loaded(&state.rows);
        match self.rules.fault {
            Fault::RestartWithoutLoad => view = View::EMPTY,
            Fault::RestartWithoutMinIat => view.min_iat = false,
            _ => {}
        }
        state.view = Some(view);
        let is_revived =
            |node: u8, token: u8| state.accepts(self.rules, node, token) && !state.rows.stands(self.rules, node, token);
        let tokens = |node: u8| 0..=state.rows.nodes[at(node)].token;
        let any = numbers::<NODES>().any(|node| tokens(node).any(|token| is_revived(node, token)));
        state.wrong.revived |= any;
    }

    /// The view becomes what the store says.
    pub(crate) fn follow(&self, state: &mut State) -> Option<()> {
        if self.rules.fault == Fault::NumberBeforeCommit {
            state.missed |= self.announced(state);
        }
        let view = state.view.as_mut()?;
        let now = View::loaded(&state.rows);
        for node in numbers::<NODES>().filter(|node| state.missed & (1 << node) == 0) {
            view.nodes[at(node)] = now.nodes[at(node)];
        }
        view.min_iat = now.min_iat;
        state.age = 0;
        Some(())
    }

    /// The nodes of which another replica is about to commit a change.
    fn announced(&self, state: &State) -> u8 {
        let mut nodes = 0;
        for command in state
            .work
            .iter()
            .skip(1)
            .flatten()
            .filter(|work| matches!(work.phase, Phase::Ran(_)))
        {
            let after = command.command.map(|command| self.after(&state.rows, command));
            for (number, (old, new)) in state
                .rows
                .nodes
                .iter()
                .zip(after.iter().flat_map(|rows| &rows.nodes))
                .enumerate()
            {
                nodes |= u8::from(Known::of(old) != Known::of(new)) << number;
            }
        }
        nodes
    }

    pub(crate) fn tick(&self, state: &mut State) {
        self.rules.tick(&mut state.rows);
        if let Some(view) = &mut state.view {
            state.age = state.age.saturating_add(1).min(self.rules.bound + 1);
            for (known, node) in view.nodes.iter_mut().zip(&state.rows.nodes) {
                (known.end, known.overlap) = (known.end.ticked(), known.overlap.saturating_sub(1));
                if !self.rules.is_unexpired(node) {
                    *known = Known::NOTHING;
                }
            }
        }
    }
}
