//! The model's rules one command after the other, and which commands there may be.

use agentwrit_model::fault::Fault;
use agentwrit_model::rows::{Opened, Rows, at};
use agentwrit_model::rules::{Command, Outcome, Rules};
use agentwrit_store_postgres::testing::proxy::Lost;
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

/// Replicas at most. A store of one takes all for itself; of two that one of which is down, the other does.
pub(crate) const REPLICAS: usize = 2;

/// A command, and the replica that is asked for it.
pub(crate) type Asked = (usize, Command);

/// What is done to the store.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Commands one after the other, before any view is looked at: so one may lack what several have done.
    InTurn(Vec<Asked>),
    /// The same command by two clients at once.
    AtOnce([usize; 2], Command),
    /// A command whose client has gone before the answer: what came of it is read back.
    Unheard(Asked),
    /// A command whose COMMIT, or the answer of that, is lost with the connection.
    Cut(Asked, Lost),
    /// Time passes, and this replica gives indexes back.
    Tick(usize),
    /// A replica is closed and opened again.
    Reopen(usize),
    /// A replica dies, in the middle of a command if there is one.
    Die(usize, Option<(Command, Lost)>),
    /// The one that is down is started again.
    Start,
}

impl Step {
    /// The commands that are committed.
    fn committed(&self) -> Vec<Command> {
        match self {
            Self::InTurn(asked) => asked.iter().map(|(_, command)| *command).collect(),
            Self::AtOnce(_, command) => vec![*command; 2],
            Self::Unheard((_, command))
            | Self::Cut((_, command), Lost::Answer)
            | Self::Die(_, Some((command, Lost::Answer))) => vec![*command],
            Self::Die(..) | Self::Cut(..) | Self::Tick(_) | Self::Reopen(_) | Self::Start => Vec::new(),
        }
    }
}

/// What is committed, and what came of the last step.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reference {
    pub(crate) rows: Rows<NODES>,
    pub(crate) last: Vec<Outcome>,
    /// Whether replicas are told nothing, and learn of each other only when they ask.
    pub(crate) is_deaf: bool,
    /// Whether one replica is down.
    is_one_down: bool,
}

impl ReferenceStateMachine for Reference {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        let with = |is_deaf| Self {
            is_deaf,
            ..Self::default()
        };
        any::<bool>().prop_map(with).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Step> {
        let command = command(&state.rows);
        // Rarely a new epoch, since nothing can be opened afterwards.
        let any = prop_oneof![120 => command.clone(), 1 => Just(Command::NewEpoch)];
        let replica = 0..REPLICAS;
        let lost = prop_oneof![Just(Lost::Request), Just(Lost::Answer)];
        let in_turn = prop_oneof![
            1 => prop::collection::vec((replica.clone(), any.clone()), 1),
            1 => prop::collection::vec((replica.clone(), any), 2..7),
        ];
        let asked = (replica.clone(), command.clone());
        let cut = (asked.clone(), lost.clone());
        let death = (replica.clone(), prop::option::of((command.clone(), lost)));
        let goes = if state.is_one_down {
            Just(Step::Start).boxed()
        } else {
            death.prop_map(|(replica, during)| Step::Die(replica, during)).boxed()
        };
        prop_oneof![
            12 => in_turn.prop_map(Step::InTurn),
            3 => ([replica.clone(), replica.clone()], command).prop_map(|(replicas, command)| Step::AtOnce(replicas, command)),
            1 => asked.prop_map(Step::Unheard),
            2 => cut.prop_map(|(asked, lost)| Step::Cut(asked, lost)),
            3 => replica.clone().prop_map(Step::Tick),
            1 => replica.prop_map(Step::Reopen),
            2 => goes,
        ]
        .boxed()
    }

    fn preconditions(state: &Self, step: &Step) -> bool {
        let is_possible_now = match step {
            Step::Die(..) => !state.is_one_down,
            Step::Start => state.is_one_down,
            _ => true,
        };
        // Those that are not committed are asked for, too.
        let asked = match step {
            Step::Cut((_, command), Lost::Request) | Step::Die(_, Some((command, Lost::Request))) => vec![*command],
            _ => step.committed(),
        };
        let mut rows = state.rows.clone();
        is_possible_now
            && asked.into_iter().all(|command| {
                let is_possible = is_possible(&rows, command);
                RULES.apply(&mut rows, command, false);
                is_possible
            })
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        let rows = &mut state.rows;
        let committed = step.committed().into_iter();
        state.last = committed.map(|command| RULES.apply(rows, command, false)).collect();
        match step {
            Step::Tick(_) => RULES.tick(rows),
            Step::Die(..) => state.is_one_down = true,
            Step::Start => state.is_one_down = false,
            _ => {}
        }
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
        2 => bearer.prop_map(|(node, token)| Command::Release(node, token)),
        2 => (0..opened).prop_map(Command::Revoke),
        1 => write,
    ]
    .boxed()
}

/// Whether a command is one that the model speaks of; shrinking takes steps before it away.
fn is_possible(rows: &Rows<NODES>, command: Command) -> bool {
    let has_room = rows.opened() < NODES;
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
