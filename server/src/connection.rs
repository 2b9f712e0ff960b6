//! One connection, from its first byte to its end.

use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use http::{HeaderMap, Request, Response, Version, header};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use crate::deadline_stream::DeadlineStream;
use crate::deadlines::Deadlines;
use crate::limits::Settings;
use crate::service::{Connection, Service};

/// What a parsed header line takes beside its text, bytes.
const HEADER_LINE: usize = 160;

/// Answers the requests of one connection, until it ends, is too slow, has to make room, or `stop` changes.
pub(crate) async fn serve_connection<IO, S>(
    mut io: IO,
    deadlines: Deadlines,
    peer: IpAddr,
    service: Arc<S>,
    settings: Arc<Settings>,
    mut stop: watch::Receiver<()>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service,
{
    // A connection without a request costs no buffers.
    let first = tokio::select! {
        first = first_byte(&mut io) => first,
        _ = deadlines.expired() => None,
        _ = stop.changed() => None,
    };
    let Some(first) = first else { return };
    if !deadlines.received(1) {
        return;
    }
    let refusal = {
        let service = Arc::clone(&service);
        Box::new(move |status| service.refusal(status))
    };
    let stream = DeadlineStream::new(
        io,
        first,
        deadlines.clone(),
        refusal,
        settings.max_head.saturating_mul(2),
    );
    Box::pin(serve_http1(stream, deadlines, peer, service, settings, stop)).await;
}

async fn first_byte(io: &mut (impl AsyncRead + Unpin)) -> Option<u8> {
    let mut space = [0];
    let mut buf = ReadBuf::new(&mut space);
    let read = std::future::poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, &mut buf)).await;
    read.ok().and_then(|()| buf.filled().first().copied())
}

/// What hyper lets pass and RFC 9112 §3.2 refuses: a proxy in between may have chosen another host than we would.
fn ambiguous_host<B>(request: &Request<B>) -> Option<&'static str> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    match (request.version(), hosts) {
        (_, 2..) => Some("more than one Host header"),
        (Version::HTTP_11, 0) => Some("missing Host header"),
        _ => None,
    }
}

/// What the parsed lines of a header block take.
fn parsed_bytes(headers: &HeaderMap) -> usize {
    let text: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    text.saturating_add(headers.len().saturating_mul(HEADER_LINE))
}

/// The connection's source holds as much as it may, and others wait: the connection ends.
#[derive(Debug, thiserror::Error)]
#[error("no room for so much at once")]
struct NoRoom;

async fn serve_http1<IO, S>(
    stream: DeadlineStream<IO>,
    deadlines: Deadlines,
    peer: IpAddr,
    service: Arc<S>,
    settings: Arc<Settings>,
    mut stop: watch::Receiver<()>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service,
{
    let reporter = deadlines.clone();
    let answer = service_fn(move |request: Request<Incoming>| {
        let (service, deadlines) = (Arc::clone(&service), reporter.clone());
        async move {
            let head = deadlines.head_read(parsed_bytes(request.headers())).ok_or(NoRoom)?;
            if head.pipelined {
                // hyper would answer up to 16 of these at a stretch: other connections come first.
                tokio::task::yield_now().await;
            }
            let connection = Connection::new(peer, head.read_by, ambiguous_host(&request), deadlines.clone());
            let response: Response<S::Body> = service.call(request, connection).await;
            let hint = response.body().size_hint();
            let bytes = usize::try_from(hint.exact().unwrap_or_else(|| hint.lower())).unwrap_or(usize::MAX);
            if deadlines.answered(bytes) {
                Ok(response)
            } else {
                Err(NoRoom)
            }
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .max_headers(settings.max_header_lines)
        .max_header_size(settings.max_head)
        .max_buf_size(settings.max_head)
        .keep_alive(settings.keep_alive);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), answer));
    let mut expired = pin!(deadlines.expired());
    let mut stopping = false;
    loop {
        tokio::select! {
            // What the connection does decides when it has to be done.
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::trace!(target: "HTTP", component = "Connection", error = %error, "connection ended");
                }
                return;
            }
            phase = expired.as_mut() => {
                tracing::trace!(target: "HTTP", component = "Connection", phase = ?phase, "connection was ended");
                return;
            }
            _ = stop.changed(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Waits until the handshake is done; `None` when it failed, took too long, or had to make room.
pub(crate) async fn handshake<IO>(
    acceptor: tokio_rustls::TlsAcceptor,
    io: IO,
    deadlines: &Deadlines,
) -> Option<tokio_rustls::server::TlsStream<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let accepted = tokio::select! {
        accepted = acceptor.accept(io) => accepted.ok(),
        _ = deadlines.expired() => None,
    };
    deadlines.ready();
    accepted
}

#[cfg(test)]
mod tests;
