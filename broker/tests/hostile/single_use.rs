//! What serves once, used by 64 at the same time over as many connections of the real program: one wins, also when
//! the store is slow or away.

use agentwrit_testkit::{ADMIN_SECRET, Answer, Watched, registration};
use std::path::Path;
use std::sync::Barrier;

use rusqlite::Connection;
use serde_json::{Value, json};

const CROWD: usize = 64;

/// One request: method and path, token, body.
type Call = (&'static str, String, String);

struct Program {
    watched: Watched,
    admin: String,
}

impl Program {
    fn start(folder: &Path) -> Self {
        let watched = Watched::new(crate::PROGRAM.start(folder, &[]));
        let secret = json!({ "secret": ADMIN_SECRET }).to_string();
        let admin = watched.ask("POST /v1/admin/auth", "", &secret).member("access_token");
        Self { watched, admin }
    }

    fn launch(&self, single_use: bool) -> String {
        let wish = json!({"agent_name": "a", "allowed_scope": ["read:data:*"], "ttl": 3600, "single_use": single_use});
        let reply = self
            .watched
            .ask("POST /v1/admin/launch-tokens", &self.admin, &wish.to_string());
        reply.member("launch_token")
    }

    fn nonce(&self) -> String {
        self.watched.ask("GET /v1/challenge", "", "").member("nonce")
    }

    fn agent(&self) -> String {
        let body = registration(&self.launch(true), &self.nonce(), json!({}));
        self.watched
            .ask("POST /v1/register", "", &body.to_string())
            .member("access_token")
    }

    fn stands(&self, token: &str) -> bool {
        let body = json!({ "token": token }).to_string();
        self.watched.ask("POST /v1/token/validate", "", &body).json()["valid"] == true
    }

    fn count(&self, query: &str) -> i64 {
        let line = format!("GET /v1/audit/events?{query}");
        self.watched.ask(&line, &self.admin, "").json()["total"]
            .as_i64()
            .unwrap()
    }

    /// All at once, over connections that are open before the first request leaves.
    fn crowd(&self, calls: &[Call]) -> Vec<Answer> {
        self.crowd_while(calls, || ())
    }

    /// The same; `meanwhile` runs when every request has been written.
    fn crowd_while(&self, calls: &[Call], meanwhile: impl FnOnce()) -> Vec<Answer> {
        let start = Barrier::new(calls.len());
        let sent = Barrier::new(calls.len() + 1);
        std::thread::scope(|scope| {
            let users: Vec<_> = calls
                .iter()
                .map(|(line, token, body)| {
                    let mut ready = self.watched.ready(line, token, body);
                    let (start, sent) = (&start, &sent);
                    scope.spawn(move || {
                        start.wait();
                        ready.send();
                        sent.wait();
                        ready.answer()
                    })
                })
                .collect();
            sent.wait();
            meanwhile();
            users.into_iter().map(|user| user.join().unwrap()).collect()
        })
    }
}

/// The one that won; all others heard one of these.
#[track_caller]
fn winner(replies: Vec<Answer>, won: &[u16], lost: &[(u16, &str)]) -> Answer {
    let (mut winners, losers): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| won.contains(&reply.status));
    for reply in &losers {
        let detail = reply.member("detail");
        assert!(
            lost.iter()
                .any(|(status, text)| reply.status == *status && detail.contains(text)),
            "{reply:?}"
        );
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    winners.remove(0)
}

fn registrations(bodies: impl Iterator<Item = Value>) -> Vec<Call> {
    bodies
        .map(|body| ("POST /v1/register", String::new(), body.to_string()))
        .collect()
}

fn of_one_launch_token(program: &Program) -> Vec<Call> {
    let launch_token = program.launch(true);
    registrations((0..CROWD).map(|_| registration(&launch_token, &program.nonce(), json!({}))))
}

fn of_one_nonce(program: &Program) -> Vec<Call> {
    let nonce = program.nonce();
    let launch_token = program.launch(false);
    registrations((0..CROWD).map(|_| registration(&launch_token, &nonce, json!({}))))
}

const CONSUMED: &[(u16, &str)] = &[(401, "launch token already consumed")];
const NONCE_CONSUMED: &[(u16, &str)] = &[(401, "nonce already consumed")];
const REVOKED: &[(u16, &str)] = &[(403, "token has been revoked"), (401, "token renewal failed")];

#[test]
fn one_of_64_uses_of_a_launch_token_or_nonce_wins() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path());
    let mut tokens = Vec::new();
    tokens.push(winner(program.crowd(&of_one_launch_token(&program)), &[200], CONSUMED).member("access_token"));
    tokens.push(winner(program.crowd(&of_one_nonce(&program)), &[200], NONCE_CONSUMED).member("access_token"));
    let one = registration(&program.launch(true), &program.nonce(), json!({}));
    let calls = registrations((0..CROWD).map(|_| one.clone()));
    let either = [CONSUMED, NONCE_CONSUMED].concat();
    tokens.push(winner(program.crowd(&calls), &[200], &either).member("access_token"));
    for token in &tokens {
        assert!(program.stands(token));
    }
    assert_eq!(program.count("event_type=agent_registered"), 3);
    assert_eq!(program.count("event_type=token_issued"), 3);
    assert_eq!(program.count("event_type=registration_denied"), 3 * 63);
}

#[test]
fn one_of_64_renewals_or_releases_of_a_token_wins() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path());
    let calls = |token: &str, lines: [&'static str; 2]| -> Vec<Call> {
        let both = lines.into_iter().cycle().take(CROWD);
        both.map(|line| (line, token.to_owned(), String::new())).collect()
    };
    let (renew, release) = ("POST /v1/token/renew", "POST /v1/token/release");

    let token = program.agent();
    let renewed = winner(program.crowd(&calls(&token, [renew, renew])), &[200], REVOKED).member("access_token");
    assert!(program.stands(&renewed) && !program.stands(&token));
    assert_eq!(program.count("event_type=token_renewed"), 1);

    let released = program.agent();
    winner(program.crowd(&calls(&released, [release, release])), &[204], REVOKED);
    assert!(!program.stands(&released));
    assert_eq!(program.count("event_type=token_released"), 1);

    // Renewed or released, never both: the old token is dead either way, the new one lives only in the first case.
    let token = program.agent();
    let won = winner(program.crowd(&calls(&token, [renew, release])), &[200, 204], REVOKED);
    assert!(!program.stands(&token));
    assert_eq!(
        program.count("event_type=token_renewed") + program.count("event_type=token_released"),
        3
    );
    if won.status == 200 {
        assert!(program.stands(&won.member("access_token")));
    }
}

#[test]
fn one_of_64_apps_gets_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path());
    let body = json!({"name": "shop", "scopes": ["read:data:*"]}).to_string();
    let calls: Vec<Call> = (0..CROWD)
        .map(|_| ("POST /v1/admin/apps", program.admin.clone(), body.clone()))
        .collect();
    winner(program.crowd(&calls), &[201], &[(409, "shop")]);
    let apps = program.watched.ask("GET /v1/admin/apps", &program.admin, "").json();
    assert_eq!(apps["total"], 1);
    assert_eq!(program.count("event_type=app_registered"), 1);
}

/// Asks again for those who heard that the store is away, as clients do, until nobody did.
fn persist(program: &Program, calls: &[Call], replies: Vec<Answer>) -> Vec<Answer> {
    let mut heard: Vec<(Call, Answer)> = calls.iter().cloned().zip(replies).collect();
    loop {
        let (away, mut settled): (Vec<_>, Vec<_>) = heard.into_iter().partition(|(_, reply)| reply.status == 503);
        if away.is_empty() {
            return settled.into_iter().map(|(_, reply)| reply).collect();
        }
        let again: Vec<Call> = away.into_iter().map(|(call, _)| call).collect();
        let replies = program.crowd(&again);
        settled.extend(again.into_iter().zip(replies));
        heard = settled;
    }
}

#[test]
fn a_store_locked_by_another_process_makes_no_second_winner() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path());
    let token = program.agent();
    let renewals: Vec<Call> = (0..CROWD)
        .map(|_| ("POST /v1/token/renew", token.clone(), String::new()))
        .collect();
    let other = Connection::open(folder.path().join("data.db")).unwrap();
    for (calls, lost) in [
        (of_one_launch_token(&program), CONSUMED),
        (of_one_nonce(&program), NONCE_CONSUMED),
        (renewals, REVOKED),
    ] {
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let replies = program.crowd_while(&calls, || other.execute_batch("ROLLBACK").unwrap());
        winner(persist(&program, &calls, replies), &[200], lost);
    }
    assert!(!program.stands(&token));
    assert_eq!(program.count("event_type=agent_registered"), 3);
    assert_eq!(program.count("event_type=token_renewed"), 1);
}

#[test]
fn a_store_without_writes_uses_up_nothing_and_then_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path());
    let launch = of_one_launch_token(&program);
    let nonce = of_one_nonce(&program);
    let other = Connection::open(folder.path().join("data.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for calls in [&launch, &nonce] {
        for reply in program.crowd(calls) {
            assert_eq!(
                (reply.status, reply.member("error_code").as_str()),
                (503, "unavailable")
            );
        }
    }
    other.execute_batch("ROLLBACK").unwrap();
    while program.watched.ask("GET /readyz", "", "").status != 200 {}
    winner(program.crowd(&launch), &[200], CONSUMED);
    winner(program.crowd(&nonce), &[200], NONCE_CONSUMED);
    assert_eq!(program.count("event_type=agent_registered"), 2);
}
