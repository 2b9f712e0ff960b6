//! The stream under hyper: tells the [`Pace`] what happens, and puts our words in the place of hyper's own refusals.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pace::{Pace, Phase};
use crate::http::Front;

/// Bytes behind an unreadable head that are read and forgotten.
const MOST_FORGOTTEN: usize = 2 * 1_048_576;

/// A connection's stream, with the byte that was read before hyper came.
pub(super) struct Paced<S> {
    stream: S,
    pace: Pace,
    front: Arc<Front>,
    first: Option<u8>,
    refusal: Bytes,
    forgotten: Option<usize>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, first: u8, pace: Pace, front: Arc<Front>) -> Self {
        Self {
            stream,
            pace,
            front,
            first: Some(first),
            refusal: Bytes::new(),
            forgotten: None,
        }
    }
}

/// The status of an answer that hyper makes by itself to a head that it can't read.
fn refused(phase: Phase, written: &[u8]) -> Option<StatusCode> {
    if !matches!(phase, Phase::Idle | Phase::Head) {
        return None;
    }
    let code = written.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    StatusCode::from_bytes(code).ok().filter(StatusCode::is_client_error)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Paced<S> {
    /// True when these bytes were hyper's own refusal, whose place ours takes.
    fn replaces(&mut self, written: &[u8]) -> bool {
        let Some(status) = refused(self.pace.phase(), written) else {
            return false;
        };
        self.pace.refused();
        self.refusal = self.front.refusal(status);
        true
    }

    /// Reads on until the peer is done, or has sent far too much.
    fn poll_forget(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 4096];
        while self.forgotten.is_some_and(|bytes| bytes < MOST_FORGOTTEN) {
            let mut buf = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    self.forgotten = self.forgotten.map(|bytes| bytes + buf.filled().len());
                }
                _ => break,
            }
        }
        Poll::Ready(())
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.refusal.has_remaining() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.refusal))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.refusal.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Some(first) = self.first.filter(|_| buf.remaining() > 0) {
            self.first = None;
            buf.put_slice(&[first]);
        } else {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        }
        let received = buf.filled().len() - before;
        if received > 0 && !self.pace.received(received) {
            return Poll::Ready(Err(io::Error::other("too many header bytes in flight")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.replaces(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(self.poll_refusal(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.first().is_some_and(|head| self.replaces(head)) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        ready!(self.poll_refusal(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.pace.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        if self.forgotten.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.forgotten = Some(0);
        }
        if self.pace.phase() == Phase::Refused {
            ready!(self.poll_forget(cx));
        }
        Poll::Ready(Ok(()))
    }
}
