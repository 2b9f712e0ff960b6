//! A broker as a child process in a folder of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::blocking::Pending;
use crate::{ADMIN_SECRET, registration};

/// The broker's program: `Program(env!("CARGO_BIN_EXE_agentwrit-broker"))` in its own tests.
#[derive(Debug, Clone, Copy)]
pub struct Program(pub &'static str);

impl Program {
    /// With nothing in its environment but a home, and a database where brokers have one.
    pub fn command(self, folder: &Path) -> Command {
        let mut command = Command::new(self.0);
        command
            .env_clear()
            .current_dir(folder)
            .env("HOME", folder)
            .stdin(Stdio::null());
        // Its own default, so that what a test says about the file stands alone.
        #[cfg(feature = "broker")]
        command.envs(
            crate::stores::settings(folder)
                .into_iter()
                .filter(|(name, _)| *name != "AA_DB_PATH"),
        );
        command
    }

    /// Starts it with these settings on a port of its own, and waits until it listens.
    pub fn start(self, folder: &Path, settings: &[(&str, &str)]) -> Process {
        Process::start(
            self.command(folder)
                .envs([("AA_ADMIN_SECRET", ADMIN_SECRET), ("AA_PORT", "0")])
                .envs(settings.iter().copied()),
        )
    }
}

/// A running broker; killed when dropped.
pub struct Process {
    child: Child,
    /// Lines of standard output, which a thread reads so that the broker never waits for the test.
    out: Receiver<String>,
    err: Option<JoinHandle<String>>,
    pub address: SocketAddr,
    /// Standard output up to the line that says where it listens.
    pub start: Vec<String>,
}

impl Process {
    /// Starts it and waits until it says where it listens.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = text(child.stderr.take().unwrap());
        let mut start = Vec::new();
        let address = loop {
            let Ok(line) = out.recv() else {
                panic!("the broker ended: {}", err.join().unwrap());
            };
            let line = line.trim_end().to_owned();
            start.push(line.clone());
            if let Some((_, rest)) = line.split_once("AgentWrit broker v2.0.0 listening on ") {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        Self {
            child,
            out,
            err: Some(err),
            address,
            start,
        }
    }

    /// The next line of standard output that has this in it.
    pub fn line_with(&mut self, wanted: &str) -> String {
        let mut seen = Vec::new();
        for line in &self.out {
            if line.contains(wanted) {
                return line.trim_end().to_owned();
            }
            seen.push(line);
        }
        panic!("no line with {wanted:?} in {seen:#?}");
    }

    /// A connection of its own and what will be asked there; `line` is method and path.
    pub fn ready(&self, line: &str, token: &str, body: &str) -> Pending {
        Pending::new(self.address, line, token, body)
    }

    /// One request on a connection of its own.
    pub fn ask(&self, line: &str, token: &str, body: &str) -> Answer {
        let mut pending = self.ready(line, token, body);
        pending.send();
        pending.answer()
    }

    /// A person's token.
    pub fn admin(&self) -> String {
        let login = json!({"secret": ADMIN_SECRET}).to_string();
        let ask = || self.ask("POST /v1/admin/auth", "", &login);
        // Logins have a rate.
        let reply = std::iter::repeat_with(ask).find(|reply| reply.status != 429).unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.member("access_token")
    }

    /// A new agent's token.
    pub fn agent(&self) -> String {
        let launch = json!({"agent_name": "a", "allowed_scope": ["read:data:*"]}).to_string();
        let launch = self.ask("POST /v1/admin/launch-tokens", &self.admin(), &launch);
        let nonce = self.ask("GET /v1/challenge", "", "").member("nonce");
        let body = registration(&launch.member("launch_token"), &nonce, json!({}));
        self.ask("POST /v1/register", "", &body.to_string())
            .member("access_token")
    }

    /// Whether it calls a token valid.
    pub fn stands(&self, token: &str) -> bool {
        let answer = self.ask("POST /v1/token/validate", "", &json!({"token": token}).to_string());
        answer.body["valid"].as_bool().unwrap()
    }

    /// The audit events that a query finds.
    pub fn events(&self, query: &str) -> Vec<Value> {
        let answer = self.ask(&format!("GET /v1/audit/events?{query}"), &self.admin(), "");
        answer.body["events"].as_array().unwrap().clone()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end: code, the rest of standard output, all of standard error.
    pub fn end(mut self) -> (Option<i32>, String, String) {
        let out = self.out.iter().collect();
        let err = self.err.take().unwrap().join().unwrap();
        (self.child.wait().unwrap().code(), out, err)
    }
}

/// The lines of a stream, each with its end.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).unwrap() > 0 {
            // The test may have let the broker go.
            send.send(std::mem::take(&mut line)).ok();
        }
    });
    receive
}

fn text(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended long ago.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
