//! The independent account: which tokens must be valid, told from the history alone.

use super::*;

impl World {
    /// Whether this token must be valid.
    fn stands(&self, token: &Token) -> bool {
        let path = self.path(token.row);
        let alive = self.now < token.claims.exp.end();
        let replaced = token.replaced_from.is_some_and(|from| from <= self.now);
        let killed = self
            .killed
            .iter()
            .any(|(row, at)| path.contains(row) && *at <= self.now);
        let revoked = self.revoked.iter().any(|(level, target, until)| {
            let names = match level {
                RevocationLevel::Token => token.claims.jti.as_str() == target,
                RevocationLevel::Agent => path.iter().any(|row| self.rows[*row].agent == *target),
                RevocationLevel::Task => token.claims.task_id.as_str() == target,
                RevocationLevel::Chain => path.len() > 1 && self.rows[path[0]].agent == *target,
            };
            names && token.issued_at < *until
        });
        let gone = self
            .gone
            .iter()
            .any(|(agent, at)| *at <= self.now && path.iter().any(|row| self.rows[*row].agent == *agent));
        alive && !replaced && !killed && !gone && !revoked
    }

    pub(super) fn check(&self) {
        for token in &self.tokens {
            assert_eq!(self.passes(token), self.stands(token), "at {}: {token:#?}", self.now);
            if let Some(inherited) = token.inherited_exp {
                assert!(
                    token.claims.exp <= inherited,
                    "outlives its delegator's token: {token:#?}"
                );
            }
            assert!(token.claims.delegation_chain.len() <= MAX_DEPTH);
        }
        for row in 0..self.rows.len() {
            let current = |token: &&Token| token.row == row && token.replaced_from.is_none();
            assert_eq!(
                self.tokens.iter().filter(current).count(),
                1,
                "one current token a node"
            );
        }
    }
}
