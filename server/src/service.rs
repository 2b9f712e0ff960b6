//! What answers requests, and what it knows of the connection that they come on.

use std::future::Future;
use std::net::IpAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

use crate::deadlines::Deadlines;

/// Answers the requests of a listener.
pub trait Service: Send + Sync + 'static {
    /// Body of the answers.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static;

    /// Answers one request.
    fn call(
        &self,
        request: Request<Incoming>,
        connection: Connection,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// The whole answer, as bytes, to a head that can't be read, with `connection: close`. hyper decides the status.
    fn refusal(&self, status: StatusCode) -> Bytes;
}

/// The connection that a request came on.
#[derive(Clone)]
pub struct Connection {
    peer: IpAddr,
    read_by: Instant,
    ambiguous: Option<&'static str>,
    deadlines: Option<Deadlines>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) fn new(peer: IpAddr, read_by: Instant, ambiguous: Option<&'static str>, deadlines: Deadlines) -> Self {
        Self {
            peer,
            read_by,
            ambiguous,
            deadlines: Some(deadlines),
        }
    }

    /// For a request that came on no listener (tests): its body has until `read_by`, and nothing is counted.
    pub fn detached(peer: IpAddr, read_by: Instant) -> Self {
        Self {
            peer,
            read_by,
            ambiguous: None,
            deadlines: None,
        }
    }

    /// Address of the peer.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// When the request has to be read.
    pub fn read_by(&self) -> Instant {
        self.read_by
    }

    /// What is wrong with the request's head, although it could be read.
    pub fn ambiguous(&self) -> Option<&'static str> {
        self.ambiguous
    }

    /// Treats the peer's source as trusted for a minute: its connections don't end for others, and may use the
    /// listener's reserve.
    pub fn trust(&self) {
        if let Some(deadlines) = &self.deadlines {
            deadlines.trust();
        }
    }

    pub(crate) fn body_grew(&self, bytes: usize) -> bool {
        self.deadlines
            .as_ref()
            .is_none_or(|deadlines| deadlines.body_grew(bytes))
    }

    pub(crate) fn body_read(&self) {
        if let Some(deadlines) = &self.deadlines {
            deadlines.body_read();
        }
    }
}
