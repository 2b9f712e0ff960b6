//! What a command does to the rows: each rule in its sequential form.

use crate::fault::Fault;
use crate::rows::{Moment, Node, Opened, Rows, at, numbers};

/// What a client, a person or a controller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Command {
    /// Opens a session with a launch token.
    Register(u8),
    /// Puts the next token in place of this one of a node.
    Renew(u8, u8),
    /// Opens a delegation, by this token of a node.
    Delegate(u8, u8),
    /// The bearer of this token of a node gives it back.
    Release(u8, u8),
    /// A person revokes a node.
    Revoke(u8),
    /// A controller with this lease epoch writes the policy; it suspends when the epoch is even.
    Write(u8),
    /// A new epoch: a restore, or a person's wish.
    NewEpoch,
}

/// What comes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It was done.
    Done,
    /// The same write was done before.
    Repeated,
    /// The launch token is used up, or of another epoch.
    Used,
    /// The policy is suspended.
    Suspended,
    /// The node, or one above, has ended.
    Ended,
    /// The node, or one above, is on its way out.
    Ending,
    /// A renewal has replaced the token.
    Replaced,
    /// The token has expired.
    Expired,
    /// The writer's lease epoch is an old one.
    Stale,
}

/// The numbers behind the rules, in ticks.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Life of a token.
    pub ttl: u8,
    /// How long a superseded session and a renewed token go on.
    pub overlap: u8,
    /// How long after the last `exp` an index is free again.
    pub hour: u8,
    /// How old a view may be that answers: 0 is younger than a tick.
    pub bound: u8,
    /// Which rule is broken.
    pub fault: Fault,
}

impl Rules {
    /// Whether the current token of a node has not expired.
    pub const fn is_unexpired(self, node: &Node) -> bool {
        node.life > self.hour
    }

    /// Decides about a command and writes it. `found_unused`: what was seen of its launch token before the transaction,
    /// which only a fault looks at.
    pub fn apply<const N: usize>(self, rows: &mut Rows<N>, command: Command, found_unused: bool) -> Outcome {
        match command {
            Command::Register(launch) => self.register(rows, launch, found_unused),
            Command::Renew(node, token) => self.renew(rows, node, token),
            Command::Delegate(node, token) => self.delegate(rows, node, token),
            Command::Release(node, token) => match self.bearer(rows, node, token) {
                Ok(()) => self.end(rows, node, Moment::Come),
                Err(refusal) => refusal,
            },
            Command::Revoke(node) => {
                self.end(rows, node, Moment::Come);
                // Recorded also when it ends nothing (wire contract §12).
                Outcome::Done
            }
            Command::Write(epoch) => self.write(rows, epoch),
            Command::NewEpoch => Self::begin_epoch(rows),
        }
    }

    /// Single use is decided in the transaction, by a conditional statement (architecture §3, wire contract §8). The
    /// pod's former session is superseded in the same commit, and lives on for its overlap (kubernetes-api §4).
    fn register<const N: usize>(self, rows: &mut Rows<N>, launch: u8, found_unused: bool) -> Outcome {
        let unused = rows.used & (1 << launch) == 0;
        let usable = if self.fault == Fault::UseNotConditional {
            found_unused
        } else {
            unused
        };
        if !usable {
            return Outcome::Used;
        }
        if rows.policy > 0 && rows.policy.is_multiple_of(2) {
            return Outcome::Suspended;
        }
        rows.used |= 1 << launch;
        for node in numbers::<N>() {
            if matches!(rows.nodes[at(node)].opened, Opened::By(other) if pod(other) == pod(launch)) {
                self.end(rows, node, Moment::after(self.overlap));
            }
        }
        self.open(rows, Opened::By(launch), self.ttl + self.hour, Moment::Never);
        Outcome::Done
    }

    /// Of several renewals of one token one wins; the direct predecessor stands for an overlap, and the overlap before
    /// it is over (`protocol::session::Lineage::renew`, kubernetes-api §4).
    fn renew<const N: usize>(self, rows: &mut Rows<N>, node: u8, token: u8) -> Outcome {
        if !self.is_unexpired(&rows.nodes[at(node)]) {
            return Outcome::Expired;
        }
        if rows.is_over(node) {
            return Outcome::Ended;
        }
        if rows.lineage(node).any(|node| rows.nodes[at(node)].end != Moment::Never) {
            return Outcome::Ending;
        }
        let row = &mut rows.nodes[at(node)];
        if row.token != token && self.fault != Fault::RenewalNotConditional {
            return Outcome::Replaced;
        }
        row.token += 1;
        row.overlap = self.overlap.min(row.life - self.hour);
        // A delegated token never outlives the delegating one's exp at delegation (ADR 3): it has that one's already.
        if matches!(row.opened, Opened::By(_)) {
            row.life = self.ttl + self.hour;
        }
        Outcome::Done
    }

    /// A child under the bearer's node, which ends with it and no later (ADR 3). Under something that is to end, its bit
    /// gets that moment (ADR 15).
    fn delegate<const N: usize>(self, rows: &mut Rows<N>, node: u8, token: u8) -> Outcome {
        if let Err(refusal) = self.bearer(rows, node, token) {
            return refusal;
        }
        let above = rows.nodes[at(node)];
        let life = above.life.min(self.ttl + self.hour);
        self.open(rows, Opened::Under(node), life, above.bit);
        Outcome::Done
    }

    /// Why a bearer's token is refused in the transaction.
    fn bearer<const N: usize>(self, rows: &Rows<N>, node: u8, token: u8) -> Result<(), Outcome> {
        if !self.is_unexpired(&rows.nodes[at(node)]) {
            Err(Outcome::Expired)
        } else if rows.is_over(node) {
            Err(Outcome::Ended)
        } else if !rows.stands(self, node, token) {
            Err(Outcome::Replaced)
        } else {
            Ok(())
        }
    }

    /// A new node takes the lowest free index: which of the free ones it is makes no difference. An index is free an
    /// hour after the last `exp` (ADR 15).
    fn open<const N: usize>(self, rows: &mut Rows<N>, opened: Opened, life: u8, bit: Moment) {
        let early = self.fault == Fault::IndexReusedEarly;
        let holds = |node: &Node| node.holds_index() && !(early && node.is_over());
        let is_free = |index: &u8| !rows.nodes.iter().any(|node| holds(node) && node.index == *index);
        let index = numbers::<N>().find(is_free).unwrap_or_default();
        let place = rows.opened();
        if let Some(node) = rows.nodes.get_mut(place) {
            *node = Node {
                opened,
                index,
                life,
                bit,
                ..Node::NONE
            };
        }
    }

    /// Ends a node, and sets its bit and those of all below whose tokens may live, in the same transaction and from the
    /// same moment on; an earlier one stays (ADR 15).
    fn end<const N: usize>(self, rows: &mut Rows<N>, node: u8, moment: Moment) -> Outcome {
        let row = rows.nodes[at(node)];
        if row.is_over() || row.end <= moment {
            return Outcome::Ended;
        }
        if !self.is_unexpired(&row) {
            return Outcome::Expired;
        }
        rows.nodes[at(node)].end = moment;
        let superseded = moment != Moment::Come;
        let bit = match self.fault {
            Fault::SupersededBitForgotten if superseded => Moment::Never,
            Fault::SupersededBitEarly if superseded => Moment::Come,
            _ => moment,
        };
        for below in numbers::<N>() {
            let is_hit = if self.fault == Fault::BitsBelowForgotten {
                below == node
            } else {
                rows.lineage(below).any(|above| above == node)
            };
            if is_hit && self.is_unexpired(&rows.nodes[at(below)]) {
                rows.nodes[at(below)].bit = rows.nodes[at(below)].bit.min(bit);
            }
        }
        Outcome::Done
    }

    /// Fenced by the lease epoch; a policy that suspends ends its sessions at once (kubernetes-api §1, §4).
    fn write<const N: usize>(self, rows: &mut Rows<N>, epoch: u8) -> Outcome {
        if epoch < rows.lease && self.fault != Fault::NoFence {
            return Outcome::Stale;
        }
        if epoch == rows.policy {
            return Outcome::Repeated;
        }
        rows.lease = rows.lease.max(epoch);
        rows.policy = epoch;
        if epoch.is_multiple_of(2) {
            for node in numbers::<N>() {
                if matches!(rows.nodes[at(node)].opened, Opened::By(_)) {
                    self.end(rows, node, Moment::Come);
                }
            }
        }
        Outcome::Done
    }

    /// All tokens and launch tokens of before are refused (architecture §3, issue 12.5). What the rows say of them may be
    /// what a copy said: the ends are taken out, so that `min_iat` alone stands between them and a second life. All bits
    /// are set (ADR 15).
    fn begin_epoch<const N: usize>(rows: &mut Rows<N>) -> Outcome {
        for node in rows.nodes.iter_mut().filter(|node| node.opened != Opened::Not) {
            (node.end, node.bit, node.old) = (Moment::Never, Moment::Come, true);
        }
        rows.used = u8::MAX;
        rows.min_iat = true;
        Outcome::Done
    }

    /// A tick passes. What makes no difference any more is forgotten, as the store and the views do.
    pub fn tick<const N: usize>(self, rows: &mut Rows<N>) {
        for node in &mut rows.nodes {
            if node.is_over() {
                node.over_for = node.over_for.saturating_add(1).min(self.bound + 1);
            }
            node.life = node.life.saturating_sub(1);
            node.overlap = node.overlap.saturating_sub(1);
            (node.end, node.bit) = (node.end.ticked(), node.bit.ticked());
            if !self.is_unexpired(node) {
                *node = Node {
                    opened: node.opened,
                    index: if node.holds_index() { node.index } else { 0 },
                    life: node.life,
                    ..Node::NONE
                };
            }
        }
    }
}

/// Two launch tokens are for one pod.
pub const fn pod(launch: u8) -> u8 {
    launch / 2
}
