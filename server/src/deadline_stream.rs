//! The stream under hyper: reports to the [`Deadlines`] what happens, and replaces hyper's own refusals by ours.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::deadlines::{Deadlines, Phase};

/// Makes the whole answer, as bytes, to a head that can't be read.
pub(crate) type Refuse = Box<dyn Fn(StatusCode) -> Bytes + Send>;

/// A connection's stream, with the byte that was read before hyper came.
pub(crate) struct DeadlineStream<S> {
    stream: S,
    deadlines: Deadlines,
    refuse: Refuse,
    first: Option<u8>,
    refusal: Bytes,
    discarded: Option<usize>,
    /// Bytes behind an unreadable head that are read and discarded.
    max_discarded: usize,
}

impl<S> DeadlineStream<S> {
    pub(crate) fn new(stream: S, first: u8, deadlines: Deadlines, refuse: Refuse, max_discarded: usize) -> Self {
        Self {
            stream,
            deadlines,
            refuse,
            first: Some(first),
            refusal: Bytes::new(),
            discarded: None,
            max_discarded,
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

impl<S: AsyncRead + AsyncWrite + Unpin> DeadlineStream<S> {
    /// True when these bytes were hyper's own refusal, which ours replaces.
    fn replaces(&mut self, written: &[u8]) -> bool {
        let Some(status) = refused(self.deadlines.phase(), written) else {
            return false;
        };
        self.deadlines.refused();
        self.refusal = (self.refuse)(status);
        true
    }

    /// Reads on until the peer is done, or has sent far too much.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 4096];
        while self.discarded.is_some_and(|bytes| bytes < self.max_discarded) {
            let mut buf = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    self.discarded = self.discarded.map(|bytes| bytes + buf.filled().len());
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

impl<S: AsyncRead + Unpin> AsyncRead for DeadlineStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Some(first) = self.first.filter(|_| buf.remaining() > 0) {
            self.first = None;
            buf.put_slice(&[first]);
        } else {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        }
        let received = buf.filled().len() - before;
        if received > 0 && !self.deadlines.received(received) {
            return Poll::Ready(Err(io::Error::other("no room for so large a header block")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for DeadlineStream<S> {
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
        self.deadlines.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        if self.discarded.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.discarded = Some(0);
        }
        if self.deadlines.phase() == Phase::Refused {
            ready!(self.poll_discard(cx));
        }
        Poll::Ready(Ok(()))
    }
}
