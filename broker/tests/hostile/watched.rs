//! The real program under a test that lets it go only when nothing in it has panicked.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::process::Process;

/// An answer of the program.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self, name: &str) -> String {
        let text = self.json()[name].as_str().map(str::to_owned);
        text.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

/// A connection with a request that is not sent yet.
pub struct Ready {
    stream: TcpStream,
    request: Vec<u8>,
}

impl Ready {
    pub fn send(&mut self) {
        self.stream.write_all(&self.request).unwrap();
    }

    pub fn reply(mut self) -> Reply {
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Reply {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            body: body.to_owned(),
        }
    }
}

/// A running broker over plain HTTP.
pub struct Watched(Option<Process>);

impl Watched {
    pub fn with(folder: &Path, settings: &[(&str, &str)]) -> Self {
        Self(Some(Process::with(folder, settings)))
    }

    fn process(&self) -> &Process {
        self.0.as_ref().unwrap()
    }

    pub fn pid(&self) -> Pid {
        self.process().pid()
    }

    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(self.process().address).unwrap()
    }

    /// A connection of its own and what will be asked there; `line` is method and path.
    pub fn ready(&self, line: &str, token: &str, body: &str) -> Ready {
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: b\r\nconnection: close\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        Ready {
            stream: self.connect(),
            request: request.into_bytes(),
        }
    }

    pub fn ask(&self, line: &str, token: &str, body: &str) -> Reply {
        let mut ready = self.ready(line, token, body);
        ready.send();
        ready.reply()
    }

    /// Ends it in good order: the rest of standard output, and standard error.
    pub fn end(mut self) -> (String, String) {
        self.finish().unwrap()
    }

    fn finish(&mut self) -> Option<(String, String)> {
        self.0.as_ref()?;
        let metrics = self.ask("GET /v1/metrics", "", "").body;
        assert!(
            metrics.contains("\nagentwrit_handler_panics_total 0\n"),
            "handlers panicked: {metrics}"
        );
        let process = self.0.take()?;
        process.signal(Signal::TERM);
        let (code, out, err) = process.end();
        assert_eq!(code, Some(0), "{err}");
        // Outside of handlers nothing counts them, but the hook tells of every one.
        assert!(!err.contains("panicked"), "{err}");
        Some((out, err))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // A test that fails already has its reason.
        if !std::thread::panicking() {
            self.finish();
        }
    }
}
