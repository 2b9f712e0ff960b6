//! One request over a connection of its own, for tests without a runtime.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A member of the body that must be a text.
    pub fn text(&self, name: &str) -> String {
        let text = self.json()[name].as_str().map(str::to_owned);
        text.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

/// A connection with a request that is not sent yet.
pub struct Pending {
    stream: TcpStream,
    request: Vec<u8>,
}

impl Pending {
    /// Connects; `line` is method and path.
    pub fn new(address: SocketAddr, line: &str, token: &str, body: &str) -> Self {
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: b\r\nconnection: close\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        Self {
            stream: TcpStream::connect(address).unwrap(),
            request: request.into_bytes(),
        }
    }

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
