//! HTTP/1.1 over one kept connection, with as little work as can be: the client must not be what limits.

use std::net::{Ipv4Addr, SocketAddr};

use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::failure::{Failure, Result};
use crate::http;

const FIRST_BUFFER: usize = 16 * 1024;
/// How much of an unexpected body an error shows, bytes.
const SHOWN: usize = 300;

/// An answer, until the next request of the connection.
#[derive(Debug)]
pub struct Answer<'a> {
    /// HTTP status.
    pub status: u16,
    /// The whole body.
    pub body: &'a [u8],
    /// Whether it says when to try again.
    pub retry_after: bool,
    /// Whether it says that its body is a problem (RFC 9457).
    pub problem: bool,
}

impl Answer<'_> {
    /// The body, if the status is this one.
    ///
    /// # Errors
    /// When the status is another, or the body is not what `T` says.
    pub fn expect<T: DeserializeOwned>(&self, what: &'static str, status: u16) -> Result<T> {
        if self.status != status {
            return Err(self.unexpected(what));
        }
        serde_json::from_slice(self.body).map_err(|_| self.unexpected(what))
    }

    /// An error that shows this answer.
    pub fn unexpected(&self, what: &'static str) -> Failure {
        let shown = self.body.get(..SHOWN).unwrap_or(self.body);
        Failure::Answer {
            what,
            status: self.status,
            body: String::from_utf8_lossy(shown).trim().to_owned(),
        }
    }
}

/// See [`Answer::retry_after`] and [`Answer::problem`].
fn marks(headers: &[httparse::Header<'_>]) -> (bool, bool) {
    let is = |header: &httparse::Header<'_>, name: &str| header.name.eq_ignore_ascii_case(name);
    (
        headers.iter().any(|header| is(header, "retry-after")),
        headers
            .iter()
            .any(|header| is(header, "content-type") && header.value == b"application/problem+json"),
    )
}

/// Bytes of a request. `bearer` and `body` are left out when empty.
pub fn request(method: &str, path: &str, bearer: &str, body: &str) -> Vec<u8> {
    let authorization = format!("Bearer {bearer}");
    let headers = [("authorization", authorization.as_str())];
    let headers = if bearer.is_empty() { &[] } else { headers.as_slice() };
    http::request(method, path, headers, body.as_bytes())
}

/// One kept connection; requests go one after the other.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        Self::over(TcpStream::connect(address).await)
    }

    /// Connects as another caller than the other programs here: from an address of its own, such as one of 127.0.0.0/8.
    ///
    /// # Errors
    /// When the address is not of this machine, or nobody listens.
    pub async fn open_from(own: Ipv4Addr, address: SocketAddr) -> Result<Self> {
        let connect = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind((own, 0).into())?;
            socket.connect(address).await
        };
        Self::over(connect.await)
    }

    fn over(connected: std::io::Result<TcpStream>) -> Result<Self> {
        let ready = connected.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        Ok(Self {
            stream: ready.map_err(|error| Failure::Connection(error.to_string()))?,
            buffer: Vec::with_capacity(FIRST_BUFFER),
        })
    }

    /// Sends bytes of [`request`] and reads the answer.
    ///
    /// # Errors
    /// When the connection ends before the whole answer was there.
    pub async fn send(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.buffer.clear();
        let written = self.stream.write_all(request).await;
        written.map_err(|error| Failure::Connection(error.to_string()))?;
        let (head, (retry_after, problem)) = loop {
            self.read().await?;
            // Of a HEAD it would wait for the body: nobody here asks so.
            if let Some(parsed) = http::parse("GET", &self.buffer, marks).map_err(Failure::Connection)? {
                break parsed;
            }
        };
        while self.buffer.len() < head.end {
            self.read().await?;
        }
        let body = self.buffer.get(head.body_at..head.end).unwrap_or_default();
        Ok(Answer {
            status: head.status,
            body,
            retry_after,
            problem,
        })
    }

    async fn read(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(Failure::Connection("closed by the broker".into())),
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::Connection(error.to_string())),
        }
    }
}
