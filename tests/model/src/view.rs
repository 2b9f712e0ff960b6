//! What a replica knows of the rows (`protocol::session::RevocationView`).

use crate::fault::Fault;
use crate::rows::{Moment, Node, Rows, at};
use crate::rules::Rules;
use crate::world::NODES;

/// What a replica knows of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Known {
    /// Its end.
    pub end: Moment,
    /// The number of its current token; 0 when no renewal is known.
    pub token: u8,
    /// Ticks for which the token before stands.
    pub overlap: u8,
}

impl Known {
    pub(crate) const NOTHING: Self = Self {
        end: Moment::Never,
        token: 0,
        overlap: 0,
    };

    pub(crate) const fn of(node: &Node) -> Self {
        Self {
            end: node.end,
            token: node.token,
            overlap: node.overlap,
        }
    }
}

/// A replica's revocation view (`protocol::session::RevocationView`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct View {
    /// What is known of each node.
    pub nodes: [Known; NODES],
    /// Whether it has heard of the new epoch.
    pub min_iat: bool,
}

impl View {
    pub(crate) const EMPTY: Self = Self {
        nodes: [Known::NOTHING; NODES],
        min_iat: false,
    };

    /// What the store says now.
    pub(crate) fn loaded(rows: &Rows<NODES>) -> Self {
        Self {
            nodes: rows.nodes.each_ref().map(Known::of),
            min_iat: rows.min_iat,
        }
    }

    /// Takes in what a commit changed; a new epoch replaces all that was known.
    pub(crate) fn follow(&mut self, before: &Rows<NODES>, after: &Rows<NODES>) {
        if before.min_iat != after.min_iat {
            *self = Self::loaded(after);
        }
        for (known, (old, new)) in self.nodes.iter_mut().zip(before.nodes.iter().zip(&after.nodes)) {
            if Known::of(old) != Known::of(new) {
                *known = Known::of(new);
            }
        }
    }

    /// Whether it says of this very node that it is over.
    pub fn knows_over(&self, rows: &Rows<NODES>, node: u8) -> bool {
        self.nodes[at(node)].end.has_come() || (self.min_iat && rows.nodes[at(node)].old)
    }

    pub(crate) fn stands(&self, rules: Rules, rows: &Rows<NODES>, node: u8, token: u8) -> bool {
        let known = &self.nodes[at(node)];
        let is_current = known.token == 0 || known.token == token;
        let overlaps = token + 1 == known.token && known.overlap > 0;
        let is_over = if rules.fault == Fault::AncestorsNotChecked {
            self.knows_over(rows, node)
        } else {
            rows.lineage(node).any(|node| self.knows_over(rows, node))
        };
        !is_over && (is_current || overlaps)
    }
}
