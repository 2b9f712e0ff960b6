//! What a client knows of what it was given.

use agentwrit_protocol::claims::Claims;
use agentwrit_protocol::status_list::StatusIndex;
use agentwrit_protocol::{Jti, SessionId, UnixSeconds};
use agentwrit_store::Session;

/// A token that was issued.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) jti: Jti,
    pub(crate) iat: UnixSeconds,
    pub(crate) exp: UnixSeconds,
}

/// A session or delegation that was opened.
#[derive(Debug)]
pub(crate) struct Known {
    /// Its id and those of all above it, the session's first.
    pub(crate) nodes: Vec<SessionId>,
    pub(crate) tokens: Vec<Token>,
    pub(crate) index: StatusIndex,
}

impl Known {
    pub(crate) fn of(session: &Session) -> Self {
        let nodes = match &session.delegated {
            None => vec![session.sid.clone()],
            Some(delegated) => std::iter::once(&delegated.root)
                .chain(&delegated.nodes)
                .cloned()
                .collect(),
        };
        Self {
            nodes,
            tokens: vec![token(session)],
            index: session.status.unwrap(),
        }
    }

    /// The claims of one of its tokens, as far as the view looks at them.
    pub(crate) fn claims(&self, token: &Token) -> Claims {
        Claims {
            sid: self.nodes.first().cloned().unwrap(),
            delegation_nodes: self.nodes.iter().skip(1).cloned().collect(),
            jti: token.jti.clone(),
            iat: token.iat,
            exp: token.exp,
            ..Claims::default()
        }
    }

    pub(crate) fn sid(&self) -> SessionId {
        self.nodes.last().unwrap().clone()
    }
}

pub(crate) fn token(session: &Session) -> Token {
    Token {
        jti: session.jti.clone(),
        iat: session.iat,
        exp: session.exp,
    }
}
