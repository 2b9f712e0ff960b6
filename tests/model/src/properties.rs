//! What holds in every state, and what must happen somewhere, so that the former says something.

use stateright::Property;

use crate::rows::{Moment, Node, Opened, at, numbers};
use crate::rules::Command;
use crate::world::{Half, NEW_WRITER, NODES, Phase, State, Work, World, is_live};

/// A token of an ended session is refused by every replica once the bound is over. Counted from the commit of the end,
/// so earlier than from its acknowledgement.
pub const ENDED: &str = "an end is felt everywhere within the bound";
/// Single use has one winner.
pub const USED_ONCE: &str = "a launch token opens one session";
/// A renewal has one winner.
pub const RENEWED_ONCE: &str = "a token is renewed once";
/// Nothing below what a replica knows to be over is accepted by it.
pub const DESCENDANTS: &str = "a descendant is refused with its ancestor";
/// Of two nodes whose tokens may live, or have expired less than an hour ago.
pub const INDEXES: &str = "no two have one status index";
/// The bits of what is over are set.
pub const BITS: &str = "an end sets all bits in the same step";
/// The bits of what is to be over are set when it is.
pub const PENDING_BITS: &str = "a pending end has its bits at its moment";
/// No bit of what stands is set.
pub const NO_OTHER_BITS: &str = "no bit is set of what stands";
/// A restart gives nothing back.
pub const RESTART: &str = "a restarted replica revives nothing";
/// The policy in force is that of the highest epoch.
pub const FENCE: &str = "an old lease epoch changes nothing";
/// What was acknowledged is in the store once.
pub const ONCE: &str = "what was acknowledged is in the store once";
/// A view holds nothing that isn't committed.
pub const COMMITTED: &str = "a view holds nothing that the store does not";

type Holds = fn(&World, &State) -> bool;

/// Those of a world; of what must happen, what can.
pub fn of(world: &World) -> Vec<Property<World>> {
    let always = ALWAYS.map(|(name, holds)| Property::<World>::always(name, holds));
    let can_happen =
        |of: Half, nodes| (of == Half::Both || world.half == Half::Both || world.half == of) && world.nodes >= nodes;
    let sometimes = SOMETIMES
        .into_iter()
        .filter(|(half, nodes, ..)| can_happen(*half, *nodes));
    let sometimes = sometimes.map(|(_, _, name, holds)| Property::<World>::sometimes(name, holds));
    always.into_iter().chain(sometimes).collect()
}

/// What holds in every state.
pub const ALWAYS: [(&str, Holds); 12] = [
    (ENDED, |world, state| {
        let bound = world.rules.bound;
        numbers::<NODES>().all(|node| {
            over_for(state, node).is_none_or(|ticks| ticks <= bound) || !state.accepts_any(world.rules, node)
        })
    }),
    (USED_ONCE, |world, state| {
        let of = |launch| {
            state
                .rows
                .nodes
                .iter()
                .filter(|node| node.opened == Opened::By(launch))
                .count()
        };
        (0..world.launches).all(|launch| of(launch) <= 1)
    }),
    (RENEWED_ONCE, |_, state| !state.wrong.second_winner),
    (DESCENDANTS, |world, state| {
        let known_over = |above: u8| match &state.view {
            Some(view) if !state.asks_store(world.rules) => view.knows_over(&state.rows, above),
            _ => state.rows.nodes[at(above)].is_over(),
        };
        numbers::<NODES>().all(|node| {
            let above_over = state.rows.lineage(node).skip(1).any(known_over);
            !above_over || !state.accepts_any(world.rules, node)
        })
    }),
    (INDEXES, |_, state| {
        let nodes = &state.rows.nodes;
        nodes.iter().enumerate().all(|(number, node)| {
            let others = nodes.iter().skip(number + 1);
            !node.holds_index()
                || !others
                    .into_iter()
                    .any(|other| other.holds_index() && other.index == node.index)
        })
    }),
    (BITS, |world, state| {
        live(world, state).all(|node| !state.rows.is_over(node) || state.rows.nodes[at(node)].bit.has_come())
    }),
    (PENDING_BITS, |world, state| {
        live(world, state).all(|node| {
            let ends = state.rows.lineage(node).map(|above| state.rows.nodes[at(above)].end);
            let pending = ends.filter(|end| matches!(end, Moment::In(_))).min();
            pending.is_none_or(|end| state.rows.nodes[at(node)].bit <= end)
        })
    }),
    (NO_OTHER_BITS, |world, state| {
        live(world, state).all(|node| state.rows.is_over(node) || !state.rows.nodes[at(node)].bit.has_come())
    }),
    (RESTART, |_, state| !state.wrong.revived),
    (FENCE, |_, state| state.rows.policy == state.rows.lease),
    (ONCE, |_, state| !state.wrong.not_once),
    (COMMITTED, |_, state| {
        state.view.as_ref().is_none_or(|view| {
            let of_nodes = view.nodes.iter().zip(&state.rows.nodes).all(|(known, node)| {
                known.token <= node.token && (known.end == Moment::Never || node.end <= known.end || node.old)
            });
            of_nodes && view.min_iat <= state.rows.min_iat
        })
    }),
];

/// What must happen somewhere: in which half, with how many nodes.
pub const SOMETIMES: [(Half, usize, &str, Holds); 16] = [
    (Half::Reader, 3, "three deep", |world, state| {
        state.rows.lineage(2).count() == NODES
            && live(world, state).count() == NODES
            && state.accepts_any(world.rules, 2)
    }),
    (
        Half::Reader,
        1,
        "a lagging view accepts what has ended",
        |world, state| live(world, state).any(|node| state.rows.is_over(node) && state.accepts_any(world.rules, node)),
    ),
    (
        Half::Reader,
        3,
        "a lagging view refuses what the store accepts",
        |world, state| {
            live(world, state).any(|node| {
                let token = state.rows.nodes[at(node)].token;
                state.view.is_some()
                    && state.rows.stands(world.rules, node, token)
                    && !state.accepts(world.rules, node, token)
            })
        },
    ),
    (
        Half::Reader,
        1,
        "a view that is too old asks for what has ended",
        |world, state| {
            live(world, state).any(|node| {
                let is_news = state
                    .view
                    .as_ref()
                    .is_some_and(|view| !view.knows_over(&state.rows, node));
                state.rows.is_over(node) && state.asks_store(world.rules) && is_news
            })
        },
    ),
    (Half::Writers, 1, "two replicas hold one launch token", |_, state| {
        both(state, |a, b| a == b && matches!(a, Command::Register(_)))
    }),
    (Half::Writers, 1, "two replicas renew one token", |_, state| {
        both(state, |a, b| a == b && matches!(a, Command::Renew(..)))
    }),
    (
        Half::Reader,
        1,
        "a token and its successor are accepted",
        |world, state| {
            live(world, state).any(|node| {
                let token = state.rows.nodes[at(node)].token;
                token > 0
                    && [token, token - 1]
                        .iter()
                        .all(|token| state.accepts(world.rules, node, *token))
            })
        },
    ),
    (
        Half::Both,
        2,
        "a superseded session stands beside its successor",
        |world, state| live(world, state).any(|node| matches!(state.rows.nodes[at(node)].end, Moment::In(_))),
    ),
    (
        Half::Both,
        2,
        "a superseded session is over, its successor isn't",
        |world, state| {
            let sessions =
                live(world, state).filter(|node| matches!(state.rows.nodes[at(*node)].opened, Opened::By(_)));
            let (over, standing): (Vec<_>, Vec<_>) = sessions.partition(|node| state.rows.is_over(*node));
            !over.is_empty() && !standing.is_empty()
        },
    ),
    (Half::Both, 2, "an index is drawn again", |_, state| {
        let [first, second, third] = &state.rows.nodes;
        !first.holds_index() && [second, third].iter().any(|node| node.holds_index() && node.index == 0)
    }),
    (
        Half::Both,
        2,
        "an index is kept for an hour after the last exp",
        |world, state| {
            let kept = |node: &Node| node.holds_index() && !world.rules.is_unexpired(node);
            state.rows.nodes.iter().any(kept) && live(world, state).count() > 0
        },
    ),
    (Half::Writers, 1, "an unknown COMMIT was done", |_, state| {
        unknown(state, 1)
    }),
    (Half::Writers, 1, "an unknown COMMIT was not done", |_, state| {
        unknown(state, 0)
    }),
    (Half::Both, 1, "an old writer would undo a suspension", |_, state| {
        state.rows.policy == NEW_WRITER
    }),
    (
        Half::Reader,
        1,
        "a token is older than the epoch that is known",
        |world, state| {
            let knows = state.view.as_ref().is_some_and(|view| view.min_iat);
            live(world, state).any(|node| knows && state.rows.nodes[at(node)].old)
        },
    ),
    (
        Half::Reader,
        1,
        "a replica starts while a session has ended",
        |world, state| state.view.is_none() && live(world, state).any(|node| state.rows.is_over(node)),
    ),
];

fn live<'s>(world: &'s World, state: &'s State) -> impl Iterator<Item = u8> + 's {
    numbers::<NODES>().filter(|node| is_live(world.rules, &state.rows.nodes[at(*node)]))
}

/// For how many ticks a node has been over, by the first end on the way to it.
fn over_for(state: &State, node: u8) -> Option<u8> {
    let over = state
        .rows
        .lineage(node)
        .map(|above| &state.rows.nodes[at(above)])
        .filter(|node| node.is_over());
    over.map(|node| node.over_for).max()
}

fn both(state: &State, holds: fn(Command, Command) -> bool) -> bool {
    let [a, b] = state.work;
    let commands = a.zip(b).and_then(|(a, b)| a.command.zip(b.command));
    commands.is_some_and(|(a, b)| holds(a, b))
}

fn unknown(state: &State, written: u8) -> bool {
    let is_so = |work: &Work| work.phase == Phase::Unknown && work.written == written;
    state.work.iter().flatten().any(is_so)
}
