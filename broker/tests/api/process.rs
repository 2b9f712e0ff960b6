//! The real program in a folder of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

pub const GOOD: (&str, &str) = ("AA_ADMIN_SECRET", "a-good-admin-secret");

/// The program with nothing in its environment but a home.
pub fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentwrit-broker"));
    command
        .env_clear()
        .current_dir(folder)
        .env("HOME", folder)
        .stdin(Stdio::null());
    command
}

/// A running broker, ended with the value.
pub struct Process {
    child: Child,
    out: BufReader<ChildStdout>,
    err: ChildStderr,
    pub address: SocketAddr,
    /// Standard output up to the banner.
    pub start: Vec<String>,
}

impl Process {
    /// Starts it and waits for its banner.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut err = child.stderr.take().unwrap();
        let mut start = Vec::new();
        let address = loop {
            let mut line = String::new();
            if out.read_line(&mut line).unwrap() == 0 {
                let mut text = String::new();
                err.read_to_string(&mut text).unwrap();
                panic!("it ended: {text}");
            }
            let line = line.trim_end().to_owned();
            start.push(line.clone());
            if let Some((_, rest)) = line.split_once("AgentWrit broker v2.0.0 listening on ") {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        Self {
            child,
            out,
            err,
            address,
            start,
        }
    }

    /// With these settings on a port of its own.
    pub fn with(folder: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start(
            program(folder)
                .envs([GOOD, ("AA_PORT", "0")])
                .envs(settings.iter().copied()),
        )
    }

    /// The next line of standard output that has this in it.
    pub fn line_with(&mut self, wanted: &str) -> String {
        let lines = self.out.by_ref().lines().map(Result::unwrap);
        let mut seen = Vec::new();
        for line in lines {
            if line.contains(wanted) {
                return line;
            }
            seen.push(line);
        }
        panic!("no line with {wanted:?} in {seen:#?}");
    }

    /// One request on a connection of its own: status and body.
    pub fn ask(&self, line: &str, token: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: b\r\nconnection: close\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for its end: code, the rest of standard output, all of standard error.
    pub fn end(mut self) -> (Option<i32>, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).unwrap();
        self.err.read_to_string(&mut err).unwrap();
        (self.child.wait().unwrap().code(), out, err)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended long ago.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
