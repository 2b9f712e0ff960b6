//! One request over a connection of its own, for tests without a runtime.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::answer::Answer;
use crate::http::request;

/// A connection with a request that is not sent yet.
pub struct Pending {
    stream: TcpStream,
    method: String,
    request: Vec<u8>,
}

impl Pending {
    /// Connects; `line` is method and path.
    pub fn new(address: SocketAddr, line: &str, token: &str, body: &str) -> Self {
        let (method, path) = line.split_once(' ').unwrap();
        let authorization = format!("Bearer {token}");
        let headers = [("connection", "close"), ("authorization", authorization.as_str())];
        Self {
            stream: TcpStream::connect(address).unwrap(),
            method: method.to_owned(),
            request: request(method, path, &headers, body.as_bytes()),
        }
    }

    pub fn send(&mut self) {
        self.stream.write_all(&self.request).unwrap();
    }

    pub fn answer(mut self) -> Answer {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).unwrap();
        Answer::parse(&self.method, &bytes).unwrap()
    }
}
