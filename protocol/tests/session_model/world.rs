//! The rules and the view as a broker puts them together, with what the account needs to know.

use std::time::Duration;

use agentwrit_protocol::claims::{Claims, DelegationRecord};
use agentwrit_protocol::judging::Times;
use agentwrit_protocol::session::*;
use agentwrit_protocol::{Jti, SessionId, Ttl, UnixMillis, UnixSeconds};

use super::{LIMITS, MAX_TTL, OVERLAP, Op};

/// A node as a store would keep it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: SessionId,
    pub(crate) parent: Option<usize>,
    pub(crate) agent: String,
    pub(crate) jti: Jti,
    pub(crate) iat: UnixSeconds,
    pub(crate) exp: UnixSeconds,
    pub(crate) last_exp: UnixSeconds,
    pub(crate) previous: Option<(Jti, UnixMillis, UnixSeconds)>,
    pub(crate) ceiling: Option<UnixSeconds>,
    pub(crate) opened_at: UnixMillis,
    pub(crate) end: Option<End>,
}

/// A token that was handed out, and what the independent account knows of it.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) row: usize,
    pub(crate) claims: Claims,
    /// Until when the last second of the token that its node was delegated by; none for sessions.
    pub(crate) inherited_exp: Option<UnixSeconds>,
    /// When a renewal made it useless.
    pub(crate) replaced_from: Option<UnixMillis>,
    pub(crate) issued_at: UnixMillis,
}

/// The rules and the view, put together as a broker does it; and beside them the account.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) now: UnixMillis,
    pub(crate) made: usize,
    pub(crate) rows: Vec<Row>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) view: RevocationView,
    /// Account: rows killed, with the moment, in the order of events.
    pub(crate) killed: Vec<(usize, UnixMillis)>,
    /// Account: agents whose session was superseded or whose pod ended, with the moment.
    pub(crate) gone: Vec<(String, UnixMillis)>,
    /// Account: what people revoked, and until when it hits tokens that are issued.
    pub(crate) revoked: Vec<(RevocationLevel, String, UnixMillis)>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now: UnixMillis::new(1_000_000),
            view: RevocationView::loaded(UnixSeconds::new(0), []),
            ..Self::default()
        }
    }

    pub(crate) fn name(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}{}", self.made)
    }

    pub(crate) fn path(&self, row: usize) -> Vec<usize> {
        let mut path = vec![row];
        while let Some(parent) = self.rows[path[0]].parent {
            path.insert(0, parent);
        }
        path
    }

    pub(crate) fn lineage(&self, row: usize) -> Lineage<'_> {
        let node = |row: usize| {
            let row = &self.rows[row];
            Node {
                jti: &row.jti,
                iat: row.iat,
                exp: row.exp,
                previous: row.previous.as_ref().map(|(jti, until, exp)| Previous {
                    jti,
                    until: *until,
                    exp: *exp,
                    key: None,
                }),
                ceiling: row.ceiling,
                opened_at: row.opened_at,
                end: row.end,
            }
        };
        let mut nodes: Vec<_> = self.path(row).into_iter().map(node).collect();
        let last = nodes.pop().unwrap();
        Lineage::new(nodes, last)
    }

    pub(crate) fn open(
        &mut self,
        parent: Option<usize>,
        agent: String,
        iat: UnixSeconds,
        exp: UnixSeconds,
        ceiling: Option<UnixSeconds>,
    ) -> usize {
        let row = Row {
            id: self.name("node").into(),
            parent,
            agent,
            jti: self.name("jti").into(),
            iat,
            exp,
            last_exp: exp,
            previous: None,
            ceiling,
            opened_at: self.now,
            end: None,
        };
        self.rows.push(row);
        self.rows.len() - 1
    }

    /// The current token of a row.
    pub(crate) fn issue(&mut self, row: usize, inherited_exp: Option<UnixSeconds>) {
        let path = self.path(row);
        let record = |row: &usize| DelegationRecord {
            agent: self.rows[*row].agent.clone(),
            ..DelegationRecord::default()
        };
        let current = &self.rows[row];
        let claims = Claims {
            sub: current.agent.clone(),
            jti: current.jti.clone(),
            iat: current.iat,
            exp: current.exp,
            sid: self.rows[path[0]].id.clone(),
            task_id: format!("task-{}", path[0] % 3).into(),
            delegation_chain: path[..path.len() - 1].iter().map(record).collect(),
            delegation_nodes: path[1..].iter().map(|row| self.rows[*row].id.clone()).collect(),
            ..Claims::default()
        };
        self.tokens.push(Token {
            row,
            claims,
            inherited_exp,
            replaced_from: None,
            issued_at: self.now,
        });
        // Born under a revocation that will be forgotten before the token expires: ended for good.
        let claims = &self.tokens[self.tokens.len() - 1].claims;
        if let TokenState::Ended(reason) = self.view.state(claims, Times::at(self.now)) {
            self.end(row, reason, self.now);
        }
    }

    /// Whether a bearer passes: times and view, as at every use.
    pub(crate) fn passes(&self, token: &Token) -> bool {
        self.now < token.claims.exp.end() && self.view.state(&token.claims, Times::at(self.now)) == TokenState::Active
    }

    pub(crate) fn end(&mut self, row: usize, reason: EndReason, at: UnixMillis) {
        self.end_row(row, reason, at);
        self.killed.push((row, at));
    }

    /// The session of a root ends, and with it what was delegated to its agent.
    pub(crate) fn end_holder(&mut self, root: usize, reason: EndReason, at: UnixMillis) {
        let agent = self.rows[root].agent.clone();
        for row in 0..self.rows.len() {
            if self.rows[row].agent == agent {
                self.end_row(row, reason, at);
            }
        }
        self.gone.push((agent, at));
    }

    /// As the broker does it.
    pub(crate) fn end_row(&mut self, row: usize, reason: EndReason, at: UnixMillis) {
        let known = self.rows[row].end;
        if known.is_none_or(|end| at < end.at) {
            self.rows[row].end = Some(End { reason, at });
            self.view.apply(ViewChange::SessionEnded {
                sid: self.rows[row].id.clone(),
                reason,
                overlap_until: (at > self.now).then_some(at),
                until: self.rows[row].last_exp.end(),
            });
        }
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        let chosen = |number: &usize| (!self.tokens.is_empty()).then(|| number % self.tokens.len());
        match op {
            Op::Register => {
                let agent = self.name("agent");
                let iat = self.now.second();
                let row = self.open(None, agent, iat, iat + Ttl::seconds(20), None);
                self.issue(row, None);
            }
            Op::Renew { token, overlap } => {
                let Some(index) = chosen(token) else { return };
                self.renew(index, if *overlap { OVERLAP } else { Duration::ZERO });
            }
            Op::Delegate { token, to, ttl } => {
                let Some((index, to)) = chosen(token).zip(chosen(to)) else {
                    return;
                };
                self.delegate(index, to, *ttl);
            }
            Op::Release { token } => {
                let Some(index) = chosen(token) else { return };
                let token = self.tokens[index].clone();
                if self.passes(&token) {
                    let release = self.lineage(token.row).release(&token.claims.jti, self.now);
                    assert_eq!(release, ReleaseDecision::Done, "what passes can be given back");
                    self.end(token.row, EndReason::Released, self.now);
                }
            }
            Op::Revoke { level, token } => {
                let Some(index) = chosen(token) else { return };
                self.revoke(*level, index);
            }
            Op::Supersede { token } => {
                let Some(index) = chosen(token) else { return };
                let root = self.path(self.tokens[index].row)[0];
                self.end_holder(root, EndReason::Superseded, self.now + Duration::from_secs(10));
            }
            Op::EndPod { token } => {
                let Some(index) = chosen(token) else { return };
                let root = self.path(self.tokens[index].row)[0];
                self.end_holder(root, EndReason::PodEnded, self.now);
            }
            Op::Pass { time } => self.now = self.now + *time,
            Op::Prune => self.view.prune(Times::at(self.now)),
        }
    }

    pub(crate) fn renew(&mut self, index: usize, overlap: Duration) {
        let token = self.tokens[index].clone();
        if !self.passes(&token) {
            return;
        }
        let wish = RenewWish {
            overlap,
            ..RenewWish::default()
        };
        match self.lineage(token.row).renew(&token.claims.jti, self.now, wish, LIMITS) {
            RenewalDecision::Granted(granted) => {
                assert_eq!(
                    self.rows[token.row].jti, token.claims.jti,
                    "only the current token is renewed"
                );
                let jti = Jti::from(self.name("jti"));
                // Only the direct predecessor stands in overlap.
                if let Some((older, until, _)) = self.rows[token.row].previous.clone()
                    && until > self.now
                {
                    let now = self.now;
                    let older = self.tokens.iter_mut().find(|token| token.claims.jti == older);
                    older.unwrap().replaced_from = Some(now);
                }
                let row = &mut self.rows[token.row];
                let before = (row.jti.clone(), granted.predecessor_until, row.exp);
                self.view.apply(ViewChange::Renewed {
                    node: row.id.clone(),
                    jti: jti.clone(),
                    previous: before.0.clone(),
                    overlap_until: (before.1 > self.now).then_some(before.1),
                    until: row.last_exp.max(granted.exp).end(),
                });
                (row.jti, row.iat, row.exp) = (jti, granted.iat, granted.exp);
                row.last_exp = row.last_exp.max(granted.exp);
                row.previous = Some(before);
                self.tokens[index].replaced_from = Some(granted.predecessor_until);
                self.issue(token.row, token.inherited_exp);
            }
            RenewalDecision::Again => panic!("without a key nothing is repeated"),
            RenewalDecision::Refused(RenewRefusal::Ending(_)) => {
                let path = self.path(token.row);
                assert!(path.iter().any(|row| self.rows[*row].end.is_some()));
            }
            RenewalDecision::Refused(RenewRefusal::Replaced) => assert!(token.replaced_from.is_some(), "in overlap"),
            RenewalDecision::Refused(refusal) => panic!("{refusal:?} of a token that passes"),
        }
    }

    pub(crate) fn delegate(&mut self, index: usize, to: usize, ttl: Ttl) {
        let token = self.tokens[index].clone();
        let delegate = self.tokens[to].claims.sub.clone();
        let barred = self
            .revoked
            .iter()
            .any(|(level, target, _)| *level == RevocationLevel::Agent && *target == delegate);
        let holder = self
            .rows
            .iter()
            .find(|row| row.parent.is_none() && row.agent == delegate);
        let ending = holder.and_then(|holder| holder.end);
        if !self.passes(&token) || barred || ending.is_some_and(|end| end.at <= self.now) {
            return;
        }
        let lineage = self.lineage(token.row);
        match lineage.delegate(&token.claims.jti, token.claims.exp, self.now, ttl, MAX_TTL) {
            Ok(made) => {
                assert!(lineage.depth() < MAX_DEPTH);
                let row = self.open(Some(token.row), delegate, made.iat, made.exp, Some(made.ceiling));
                self.issue(row, Some(token.claims.exp));
                if let Some(end) = ending {
                    self.end_row(row, end.reason, end.at);
                }
            }
            Err(refusal) => {
                assert_eq!(refusal, DelegationRefusal::TooDeep, "of a token that passes");
                assert_eq!(lineage.depth(), MAX_DEPTH);
            }
        }
    }

    pub(crate) fn revoke(&mut self, level: RevocationLevel, index: usize) {
        let claims = self.tokens[index].claims.clone();
        let target = match level {
            RevocationLevel::Token => claims.jti.into(),
            RevocationLevel::Agent => claims.sub,
            RevocationLevel::Task => claims.task_id.into(),
            RevocationLevel::Chain => claims
                .delegation_chain
                .first()
                .map_or(claims.sub, |root| root.agent.clone()),
        };
        // As the store finds them: by current token or overlap, by agent, by task, by the chain's root.
        let hit: Vec<usize> = (0..self.rows.len())
            .filter(|row| match level {
                RevocationLevel::Token => {
                    let row = &self.rows[*row];
                    let overlapping =
                        |(jti, until, _): &(Jti, UnixMillis, UnixSeconds)| jti.as_str() == target && self.now < *until;
                    row.jti.as_str() == target || row.previous.as_ref().is_some_and(overlapping)
                }
                RevocationLevel::Agent => self.rows[*row].agent == target,
                RevocationLevel::Task => format!("task-{}", self.path(*row)[0] % 3) == target,
                RevocationLevel::Chain => {
                    let path = self.path(*row);
                    path.len() == 2 && self.rows[path[0]].agent == target
                }
            })
            .collect();
        for row in hit {
            self.end(row, EndReason::Revoked, self.now);
        }
        let until = (self.now.second() + MAX_TTL).end();
        self.view.apply(ViewChange::Revoked(Revocation {
            level,
            target: target.clone(),
            until: Some(until),
        }));
        self.revoked.push((level, target, until));
    }
}
