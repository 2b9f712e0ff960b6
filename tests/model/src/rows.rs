//! What the store holds, in small numbers.

use crate::rules::Rules;

/// Something that comes after so many ticks. The order is that of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// It has come.
    Come,
    /// It comes after so many ticks, at least one.
    In(u8),
    /// It doesn't come.
    Never,
}

impl Moment {
    /// After so many ticks.
    pub const fn after(ticks: u8) -> Self {
        if ticks == 0 { Self::Come } else { Self::In(ticks) }
    }

    /// The same, a tick later.
    #[must_use]
    pub const fn ticked(self) -> Self {
        match self {
            Self::In(ticks) => Self::after(ticks.saturating_sub(1)),
            other => other,
        }
    }

    /// Whether it has come.
    pub const fn has_come(self) -> bool {
        matches!(self, Self::Come)
    }
}

/// How a node came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opened {
    /// Not yet.
    Not,
    /// A session, by a registration with this launch token.
    By(u8),
    /// A delegation under this node.
    Under(u8),
}

/// A session or a delegation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node {
    /// How it came to be.
    pub opened: Opened,
    /// Its status index.
    pub index: u8,
    /// Ticks until its index is free; its tokens have expired when [`Rules::hour`] of them are left.
    pub life: u8,
    /// How often it was renewed: the number of its current token.
    pub token: u8,
    /// Ticks for which the token before stands.
    pub overlap: u8,
    /// Its own end.
    pub end: Moment,
    /// From when on its bit is set.
    pub bit: Moment,
    /// Whether its tokens are older than `min_iat`.
    pub old: bool,
    /// For how many ticks it has been over by itself, counted as far as the properties need it.
    pub over_for: u8,
}

impl Node {
    pub(crate) const NONE: Self = Self {
        opened: Opened::Not,
        index: 0,
        life: 0,
        token: 0,
        overlap: 0,
        end: Moment::Never,
        bit: Moment::Never,
        old: false,
        over_for: 0,
    };

    /// Whether it is over by itself, whatever is above it.
    pub const fn is_over(&self) -> bool {
        self.old || self.end.has_come()
    }

    /// Whether it holds its status index.
    pub const fn holds_index(&self) -> bool {
        self.life > 0
    }
}

/// What is committed: `N` nodes at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rows<const N: usize> {
    /// Sessions and delegations, in the order in which they were opened.
    pub nodes: [Node; N],
    /// The launch tokens that are used up, a bit each.
    pub used: u8,
    /// The highest lease epoch of a write.
    pub lease: u8,
    /// The lease epoch of the policy in force.
    pub policy: u8,
    /// Whether there was a new epoch.
    pub min_iat: bool,
}

impl<const N: usize> Default for Rows<N> {
    fn default() -> Self {
        Self {
            nodes: [Node::NONE; N],
            used: 0,
            lease: 0,
            policy: 0,
            min_iat: false,
        }
    }
}

/// The number of a node as an index.
pub fn at(node: u8) -> usize {
    usize::from(node)
}

impl<const N: usize> Rows<N> {
    /// How many nodes there are.
    pub fn opened(&self) -> usize {
        self.nodes.iter().filter(|node| node.opened != Opened::Not).count()
    }

    /// A node and all above it, upwards.
    pub fn lineage(&self, node: u8) -> impl Iterator<Item = u8> + '_ {
        std::iter::successors(Some(node), |node| match self.nodes[at(*node)].opened {
            Opened::Under(above) => Some(above),
            Opened::Not | Opened::By(_) => None,
        })
    }

    /// Whether a node or one above it is over: the end of a node is that of all below it (`protocol::session`).
    pub fn is_over(&self, node: u8) -> bool {
        self.lineage(node).any(|node| self.nodes[at(node)].is_over())
    }

    /// Whether a token of a node stands, as the store says.
    pub fn stands(&self, rules: Rules, node: u8, token: u8) -> bool {
        let row = &self.nodes[at(node)];
        let overlaps = token + 1 == row.token && row.overlap > 0;
        rules.is_unexpired(row) && !self.is_over(node) && (token == row.token || overlaps)
    }
}

/// The numbers of all nodes.
pub fn numbers<const N: usize>() -> impl Iterator<Item = u8> {
    (0_u8..).take(N)
}
