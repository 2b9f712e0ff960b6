//! The model's rules one command after the other, and which commands there may be.

use agentwrit_model::fault::Fault;
use agentwrit_model::rows::{Opened, Rows, at};
use agentwrit_model::rules::{Command, Outcome, Rules};
use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

/// Sessions and delegations of one case.
pub(crate) const NODES: usize = 12;
/// Launch tokens; two for each pod.
pub(crate) const LAUNCHES: u8 = 8;
/// The first lease epoch that has written nothing.
const EPOCHS: u8 = 7;

/// A tick is half an hour: the hour after which an index is free is two of them.
pub(crate) const RULES: Rules = Rules {
    ttl: 2,
    overlap: 1,
    hour: 2,
    bound: 0,
    fault: Fault::None,
};

/// What is done to the store.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// One command.
    Once(Command),
    /// The same command by two clients at once.
    Twice(Command),
    /// A command whose client has gone before the answer: what came of it is read back.
    Unheard(Command),
    /// Time passes, and indexes are given back.
    Tick,
    /// The store is closed and opened again: a replica that starts.
    Reopen,
}

/// What is committed, and what came of the last step.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reference {
    pub(crate) rows: Rows<NODES>,
    pub(crate) last: Vec<Outcome>,
}

impl ReferenceStateMachine for Reference {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Step> {
        let command = command(&state.rows);
        prop_oneof![
            12 => command.clone().prop_map(Step::Once),
            2 => command.clone().prop_map(Step::Twice),
            2 => command.prop_map(Step::Unheard),
            // Rarely, since nothing can be opened afterwards.
            1 => prop::bool::weighted(0.2).prop_map(|begins| if begins { Step::Once(Command::NewEpoch) } else { Step::Tick }),
            3 => Just(Step::Tick),
            1 => Just(Step::Reopen),
        ]
        .boxed()
    }

    fn preconditions(state: &Self, step: &Step) -> bool {
        let room = NODES - state.rows.opened();
        match *step {
            Step::Tick | Step::Reopen => true,
            Step::Once(command) | Step::Unheard(command) => is_possible(&state.rows, command, room >= 1),
            Step::Twice(command) => is_possible(&state.rows, command, room >= 2),
        }
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        let rows = &mut state.rows;
        state.last = match *step {
            Step::Once(command) | Step::Unheard(command) => vec![RULES.apply(rows, command, false)],
            Step::Twice(command) => (0..2).map(|_| RULES.apply(rows, command, false)).collect(),
            Step::Tick => {
                RULES.tick(rows);
                Vec::new()
            }
            Step::Reopen => Vec::new(),
        };
        state
    }
}

fn command(rows: &Rows<NODES>) -> BoxedStrategy<Command> {
    let register = (0..LAUNCHES).prop_map(Command::Register);
    let write = (1..EPOCHS).prop_map(Command::Write);
    let opened = u8::try_from(rows.opened()).unwrap();
    if opened == 0 {
        return prop_oneof![6 => register, 1 => write].boxed();
    }
    // The current token or one before, of any node.
    let tokens: Vec<u8> = rows.nodes.iter().map(|node| node.token).collect();
    let bearer =
        (0..opened, 0_u8..3).prop_map(move |(node, before)| (node, tokens[at(node)].saturating_sub(before / 2)));
    prop_oneof![
        4 => register,
        5 => bearer.clone().prop_map(|(node, token)| Command::Renew(node, token)),
        5 => bearer.clone().prop_map(|(node, token)| Command::Delegate(node, token)),
        1 => bearer.prop_map(|(node, token)| Command::Release(node, token)),
        1 => (0..opened).prop_map(Command::Revoke),
        1 => write,
    ]
    .boxed()
}

/// Whether a command is one that the model speaks of; shrinking takes steps before it away.
fn is_possible(rows: &Rows<NODES>, command: Command, has_room: bool) -> bool {
    let is_there = |node: u8| rows.nodes[at(node)].opened != Opened::Not;
    let was_issued = |node: u8, token: u8| is_there(node) && token <= rows.nodes[at(node)].token;
    match command {
        Command::Register(_) => has_room,
        // A predecessor in overlap could delegate, until its own exp, which the model doesn't keep.
        Command::Delegate(node, token) => {
            let row = rows.nodes[at(node)];
            let overlaps = token != row.token && row.overlap > 0;
            has_room && was_issued(node, token) && !overlaps && rows.lineage(node).count() <= 5
        }
        Command::Renew(node, token) | Command::Release(node, token) => was_issued(node, token),
        Command::Revoke(node) => is_there(node),
        Command::Write(_) | Command::NewEpoch => true,
    }
}
