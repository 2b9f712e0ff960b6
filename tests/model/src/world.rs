//! Replicas over one store: each runs commands in transactions under the lock of the chain's head, answers from a view
//! that lags, loses the answers of COMMITs, and crashes (architecture §3, kubernetes-api §4, issue 12.1 and 12.2).

use stateright::{Model, Property};

use crate::fault::Fault;
use crate::properties;
use crate::rows::{Node, Opened, Rows, at, numbers};
use crate::rules::{Command, Rules};
use crate::view::View;

/// Sessions and delegations that are ever opened.
pub const NODES: usize = 3;
/// Replicas of the broker.
pub const REPLICAS: usize = 2;
/// The lease epoch of the controller that has written the policy at the beginning.
pub const OLD_WRITER: u8 = 1;
/// That of the one that suspends it.
pub const NEW_WRITER: u8 = 2;

/// A command on its way, or what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It has arrived, and waits for the lock of the chain's head. Whether its launch token was unused then, where a
    /// fault asks for it.
    Waiting(bool),
    /// It has run in the transaction, which holds the lock. Nothing of that is seen before the commit, but by a fault:
    /// without one, to run and to commit are one step.
    Ran(bool),
    /// COMMIT was sent, and its answer is lost.
    Unknown,
}

/// What a replica works on: a batch of one command. A longer one is the same as its commands one after the other, since
/// nobody sees what is between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Work {
    /// What; forgotten when only the batch's id matters.
    pub command: Option<Command>,
    /// How far it is.
    pub phase: Phase,
    /// How often the batch is in the store.
    pub written: u8,
}

/// Something that should never be seen, and can't be seen in the state of that moment any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Wrong {
    /// A token that another renewal had replaced was renewed.
    pub second_winner: bool,
    /// A replica accepted, right after its start, what the store refuses.
    pub revived: bool,
    /// What was acknowledged was not in the store exactly once.
    pub not_once: bool,
}

/// Everything there is.
///
/// Every replica writes, and one of them, the first, is looked at: what it knows and accepts. The views of the others are
/// left out. They make no difference to it, since each command is decided by the rows; and what holds for the first
/// holds for each, since all are alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// What is committed.
    pub rows: Rows<NODES>,
    /// The batch that each replica works on.
    pub work: [Option<Work>; REPLICAS],
    /// What the first replica knows is revoked; nothing is known, and nothing accepted, from its start until it has read
    /// the store.
    pub view: Option<View>,
    /// Ticks since the view was what the store says, counted to one beyond the bound.
    pub age: u8,
    /// Nodes of which a change was missed for ever: by a fault only.
    pub missed: u8,
    /// What went wrong.
    pub wrong: Wrong,
}

impl State {
    /// Whether the first replica accepts a token of a node: from its view, or, when that is too old, as the store says.
    pub fn accepts(&self, rules: Rules, node: u8, token: u8) -> bool {
        let Some(view) = &self.view else { return false };
        if self.asks_store(rules) {
            return self.rows.stands(rules, node, token);
        }
        rules.is_unexpired(&self.rows.nodes[at(node)]) && view.stands(rules, &self.rows, node, token)
    }

    /// Whether it accepts any token of a node.
    pub fn accepts_any(&self, rules: Rules, node: u8) -> bool {
        (0..=self.rows.nodes[at(node)].token).any(|token| self.accepts(rules, node, token))
    }

    /// Whether its view is too old to answer.
    pub fn asks_store(&self, rules: Rules) -> bool {
        self.age > rules.bound && rules.fault != Fault::StaleViewAnswers
    }

    fn is_locked(&self) -> bool {
        let ran = |work: &Work| matches!(work.phase, Phase::Ran(_));
        self.work.iter().flatten().any(ran)
    }
}

/// What happens next. A replica is told by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A client asks it for this, and it has to wait.
    Ask(usize, Command),
    /// It runs its command in a transaction.
    Run(usize),
    /// It commits this, hears so, takes the change in and answers.
    Commit(usize, Command),
    /// It commits this, and the answer of COMMIT is lost.
    CommitUnheard(usize, Command),
    /// The same, but there was no commit.
    Lose(usize),
    /// It reads back whether its batch is in the store, and answers.
    ReadBack(usize),
    /// It dies, and is started again.
    Crash(usize),
    /// The first one reads what is revoked, and is ready.
    Load,
    /// The first one hears the feed, or asks for what it has missed.
    Follow,
    /// Time passes, for a longer while than a transaction takes.
    Tick,
}

/// What is looked at. The two halves don't look at each other: a command is decided by the rows, whatever a view says, and
/// a view hears of commits, however they came about. So each of them is gone through completely by itself, with all
/// nodes, and both together with fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Replicas that write: what waits, what is unknown, what dies with a replica.
    Writers,
    /// A replica that answers: what it knows, and how old that is.
    Reader,
    /// Both.
    Both,
}

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// Its rules.
    pub rules: Rules,
    /// What is looked at.
    pub half: Half,
    /// How many nodes are opened at most.
    pub nodes: usize,
    /// How often a node is renewed at most.
    pub renewals: u8,
    /// How many launch tokens there are, all for one pod.
    pub launches: u8,
}

impl World {
    /// A world with this rule broken. A tick is as long as a view may be old (1 s); the other times are the fewest ticks that
    /// keep their order: a token outlives an overlap, and its index outlives the token.
    pub const fn new(half: Half, nodes: usize, fault: Fault) -> Self {
        Self {
            half,
            nodes,
            rules: Rules {
                ttl: 2,
                overlap: 1,
                hour: 1,
                bound: 0,
                fault,
            },
            // Of two renewals the second ends the overlap of the first; that is seen by the reader.
            renewals: if matches!(half, Half::Reader) { 2 } else { 1 },
            launches: 2,
        }
    }

    /// What may be asked for: what a client could know of.
    fn commands(&self, rows: &Rows<NODES>, mut ask: impl FnMut(Command)) {
        let has_room = rows.opened() < self.nodes;
        for launch in (0..self.launches).filter(|_| has_room) {
            ask(Command::Register(launch));
        }
        for node in numbers::<NODES>() {
            let row = &rows.nodes[at(node)];
            if !self.rules.is_unexpired(row) || rows.is_over(node) {
                continue;
            }
            if row.token < self.renewals {
                ask(Command::Renew(node, row.token));
            }
            if has_room {
                ask(Command::Delegate(node, row.token));
            }
            ask(Command::Release(node, row.token));
            ask(Command::Revoke(node));
        }
        for epoch in [OLD_WRITER, NEW_WRITER] {
            ask(Command::Write(epoch));
        }
        if !rows.min_iat {
            ask(Command::NewEpoch);
        }
    }

    /// Whether it makes a difference that a command waits before it is decided: only where two may want the same once. Any
    /// other is decided as if it had come that moment.
    fn waits(&self, command: Command) -> bool {
        let is_wanted_twice = matches!(command, Command::Register(_) | Command::Renew(..));
        (is_wanted_twice && self.has_writers()) || self.runs_apart()
    }

    fn has_writers(&self) -> bool {
        self.half != Half::Reader
    }

    fn has_reader(&self) -> bool {
        self.half != Half::Writers
    }

    /// Whether something is seen between run and commit.
    const fn runs_apart(&self) -> bool {
        matches!(self.rules.fault, Fault::FeedBeforeCommit | Fault::NumberBeforeCommit)
    }

    fn actions_of(&self, state: &State, replica: usize, actions: &mut Vec<Action>) {
        // To the reader, what a replica has not heard of is what another one has done.
        let writers = self.has_writers();
        let mut commit = |command| {
            actions.push(Action::Commit(replica, command));
            actions.extend(writers.then_some(Action::CommitUnheard(replica, command)));
        };
        let may_lose = match state.work[replica] {
            None => {
                let mut asked = Vec::new();
                self.commands(&state.rows, |command| {
                    if self.waits(command) {
                        asked.push(Action::Ask(replica, command));
                    } else {
                        commit(command);
                    }
                });
                actions.append(&mut asked);
                true
            }
            Some(Work {
                phase: Phase::Waiting(_),
                ..
            }) if self.runs_apart() => {
                actions.push(Action::Run(replica));
                false
            }
            Some(Work {
                phase: Phase::Waiting(_) | Phase::Ran(_),
                command,
                ..
            }) => {
                command.into_iter().for_each(commit);
                true
            }
            Some(Work {
                phase: Phase::Unknown, ..
            }) => {
                actions.push(Action::ReadBack(replica));
                false
            }
        };
        if may_lose && (writers || state.work[replica].is_some()) {
            actions.push(Action::Lose(replica));
        }
        if (replica == 0 && self.has_reader()) || state.work[replica].is_some() {
            actions.push(Action::Crash(replica));
        }
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            rows: Rows {
                lease: OLD_WRITER,
                policy: OLD_WRITER,
                ..Rows::default()
            },
            work: [None; REPLICAS],
            view: self.has_reader().then_some(View::EMPTY),
            age: 0,
            missed: 0,
            wrong: Wrong::default(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let locked = state.is_locked();
        // Who doesn't hold the lock can do nothing meanwhile that it can't do before or after, but read.
        let may_act = |replica: &usize| match state.work[*replica] {
            Some(Work {
                phase: Phase::Ran(_), ..
            }) => true,
            _ => !locked && (*replica > 0 || state.view.is_some() || !self.has_reader()),
        };
        for replica in (0..REPLICAS).filter(may_act) {
            self.actions_of(state, replica, actions);
        }
        match &state.view {
            None if !self.has_reader() => {}
            None => actions.push(Action::Load),
            Some(view) if state.age > 0 || *view != View::loaded(&state.rows) => actions.push(Action::Follow),
            Some(_) => {}
        }
        if !locked {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Ask(replica, command) => self.ask(&mut state, replica, command),
            Action::Run(replica) => self.run(&mut state, replica)?,
            Action::Commit(replica, command) => self.commit(&mut state, replica, command)?,
            Action::CommitUnheard(replica, command) => self.write(&mut state, replica, command),
            Action::Lose(replica) => self.lose(&mut state, replica),
            Action::ReadBack(replica) => self.read_back(&mut state, replica)?,
            Action::Crash(replica) => Self::crash(&mut state, replica),
            Action::Load => self.load(&mut state),
            Action::Follow => self.follow(&mut state)?,
            Action::Tick => self.tick(&mut state),
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::of(self)
    }
}

/// Whether a node is there and its tokens have not expired.
pub fn is_live(rules: Rules, node: &Node) -> bool {
    node.opened != Opened::Not && rules.is_unexpired(node)
}
