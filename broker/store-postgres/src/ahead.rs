//! What the commands of a batch are known to ask for, asked for at once: so many round trips fewer while the lock of the
//! chain's head is held, for which all replicas wait.
//!
//! What was read under the lock is true until this transaction changes it. So a row is forgotten here before a command
//! writes it, and everything is when a command ran that foresees nothing: it may have written anything.

use std::collections::{HashMap, HashSet};

use agentwrit_protocol::{Jti, SessionId, UnixMillis};
use agentwrit_store::{Foreseen, Job, LaunchToken, LaunchTokenHash, Result, Session};

use crate::link::Link;
use crate::rows::{launch, session};
use crate::value::{Value, values};

/// Rows, as the database has them.
#[derive(Default)]
pub(crate) struct Ahead {
    launch_tokens: HashMap<String, LaunchToken>,
    sessions: HashMap<SessionId, Session>,
    /// Nonces that are in no row.
    unused: HashSet<(i64, String)>,
}

impl Ahead {
    /// What these foresee. Of a single one it is nothing: it asks for as much by itself.
    pub(crate) fn foreseen(jobs: &[Box<dyn Job>]) -> Vec<Foreseen> {
        if jobs.len() < 2 {
            return Vec::new();
        }
        jobs.iter().flat_map(|job| job.foresees()).collect()
    }

    /// Asks for these.
    pub(crate) async fn of(link: &mut Link<'_>, foreseen: Vec<Foreseen>) -> Result<Self> {
        let mut ahead = Self::default();
        let (mut hashes, mut sids, mut nonces) = (HashSet::new(), HashSet::new(), HashSet::new());
        for foreseen in foreseen {
            match foreseen {
                Foreseen::LaunchToken(hash) => drop(hashes.insert(hash.as_str().to_owned())),
                Foreseen::Session(sid) => drop(sids.insert(sid)),
                Foreseen::Nonce(nonce, until) => drop(nonces.insert((until.get(), nonce))),
            }
        }
        if !hashes.is_empty() {
            let hashes: Value = hashes.iter().map(String::as_str).collect();
            for token in launch::read_all(link, hashes).await? {
                ahead.launch_tokens.insert(token.hash.as_str().to_owned(), token);
            }
        }
        if !sids.is_empty() {
            let sids: Value = sids.iter().map(SessionId::as_str).collect();
            for session in session::read_all(link, sids).await? {
                ahead.sessions.insert(session.sid.clone(), session);
            }
        }
        if !nonces.is_empty() {
            ahead.unused = unused(link, nonces).await?;
        }
        Ok(ahead)
    }

    /// What is known of a launch token.
    pub(crate) fn launch_token(&self, hash: &LaunchTokenHash) -> Option<LaunchToken> {
        self.launch_tokens.get(hash.as_str()).cloned()
    }

    /// It is written.
    pub(crate) fn forget_launch_token(&mut self, hash: &LaunchTokenHash) {
        self.launch_tokens.remove(hash.as_str());
    }

    /// What is known of a session or delegation.
    pub(crate) fn session(&self, sid: &SessionId) -> Option<Session> {
        self.sessions.get(sid).cloned()
    }

    /// It is written; whether this was known to be its token.
    pub(crate) fn forget_session(&mut self, sid: &SessionId, jti: &Jti) -> bool {
        self.sessions.remove(sid).is_some_and(|known| known.jti == *jti)
    }

    /// Some of them are written.
    pub(crate) fn forget_sessions(&mut self) {
        self.sessions.clear();
    }

    /// A nonce is written; whether it was known to be in no row.
    pub(crate) fn forget_nonce(&mut self, nonce: &str, until: UnixMillis) -> bool {
        self.unused.remove(&(until.get(), nonce.to_owned()))
    }

    /// Anything may have been written.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Those of these nonces that are in no row.
async fn unused(link: &mut Link<'_>, mut nonces: HashSet<(i64, String)>) -> Result<HashSet<(i64, String)>> {
    let sql = "SELECT until, nonce FROM unnest($1::bigint[], $2::text[]) AS asked (until, nonce) JOIN nonces USING (until, nonce)";
    let texts: Value = nonces.iter().map(|(_, nonce)| nonce.as_str()).collect();
    let untils: Vec<i64> = nonces.iter().map(|(until, _)| *until).collect();
    let used = link.all("read_nonces", sql, values![untils, texts], |row| {
        Ok((row.whole("until")?, row.text("nonce")?))
    });
    for used in used.await? {
        nonces.remove(&used);
    }
    Ok(nonces)
}
