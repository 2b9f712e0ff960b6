//! HTTP/1.1 over one kept connection, with as little work as can be: the client must not be what limits.

use std::fmt::Write;
use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::failure::{Failure, Result};

const HEADERS: usize = 32;
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

/// Bytes of a request. `bearer` and `body` are left out when empty.
pub fn request(method: &str, path: &str, bearer: &str, body: &str) -> Vec<u8> {
    let mut text = String::with_capacity(160 + path.len() + bearer.len() + body.len());
    // Writing to a String can't fail.
    let _ = write!(text, "{method} {path} HTTP/1.1\r\nhost: broker\r\n");
    if !bearer.is_empty() {
        let _ = write!(text, "authorization: Bearer {bearer}\r\n");
    }
    if method != "GET" {
        let _ = write!(text, "content-length: {}\r\n", body.len());
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// One kept connection; requests go one after the other.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

struct Head {
    status: u16,
    length: usize,
    body_at: usize,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| Failure::Connection(error.to_string()))?;
        stream
            .set_nodelay(true)
            .map_err(|error| Failure::Connection(error.to_string()))?;
        Ok(Self {
            stream,
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
        let head = loop {
            self.read().await?;
            if let Some(head) = parse(&self.buffer)? {
                break head;
            }
        };
        let end = head.body_at.saturating_add(head.length);
        while self.buffer.len() < end {
            self.read().await?;
        }
        let body = self.buffer.get(head.body_at..end).unwrap_or_default();
        Ok(Answer {
            status: head.status,
            body,
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

/// The head, once it is whole. Only answers with a length are understood: the broker sends no others.
fn parse(bytes: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let body_at = match response.parse(bytes) {
        Ok(httparse::Status::Complete(body_at)) => body_at,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Failure::Connection(error.to_string())),
    };
    let status = response.code.unwrap_or_default();
    let given = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = given.and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    let bodiless = status == 204 || status == 304;
    match length {
        Some(length) => Ok(Some(Head {
            status,
            length,
            body_at,
        })),
        None if bodiless => Ok(Some(Head {
            status,
            length: 0,
            body_at,
        })),
        None => Err(Failure::Connection(format!("answer {status} without content-length"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_what_was_given_and_no_more() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(
            text(request("GET", "/a", "", "")),
            "GET /a HTTP/1.1\r\nhost: broker\r\n\r\n"
        );
        assert_eq!(
            text(request("POST", "/a", "t", "{}")),
            "POST /a HTTP/1.1\r\nhost: broker\r\nauthorization: Bearer t\r\ncontent-length: 2\r\n\r\n{}"
        );
    }

    #[test]
    fn a_head_is_read_when_it_is_whole_and_must_have_a_length() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert!(parse(&whole[..30]).unwrap().is_none());
        let head = parse(whole).unwrap().unwrap();
        assert_eq!((head.status, head.length, head.body_at), (200, 3, 38));
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap().length, 0);
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"rubbish\r\n\r\n").is_err());
    }
}
