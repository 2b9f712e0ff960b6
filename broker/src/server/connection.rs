//! One connection, from its first byte to its end.

use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use axum::response::Response;
use http::{Request, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use super::pace::{Pace, Room};
use super::stream::Paced;
use crate::http::{Front, MAX_HEAD, MAX_HEADERS, Unfit};

/// Answers the requests of one connection, until it ends, is too slow, or `stop` changes.
pub(super) async fn converse<S>(
    mut stream: S,
    peer: IpAddr,
    front: Arc<Front>,
    room: Arc<Room>,
    mut stop: watch::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // A connection without a request costs no buffers.
    let first = tokio::select! {
        first = first_byte(&mut stream) => first,
        () = tokio::time::sleep(room.idle()) => None,
        _ = stop.changed() => None,
    };
    if let Some(first) = first {
        let pace = Pace::begun(room);
        let stream = Paced::new(stream, first, pace.clone(), Arc::clone(&front));
        Box::pin(answer(stream, pace, peer, front, stop)).await;
    }
}

/// What hyper lets pass and RFC 9112 §3.2 has refused: behind a proxy that chose another host than we would.
fn unfit<B>(request: &Request<B>) -> Option<Unfit> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    match (request.version(), hosts) {
        (_, 2..) => Some(Unfit("more than one Host header")),
        (Version::HTTP_11, 0) => Some(Unfit("missing Host header")),
        _ => None,
    }
}

async fn first_byte(stream: &mut (impl AsyncRead + Unpin)) -> Option<u8> {
    let mut space = [0];
    let mut buf = ReadBuf::new(&mut space);
    let read = std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buf)).await;
    read.ok().and_then(|()| buf.filled().first().copied())
}

async fn answer<S>(stream: Paced<S>, pace: Pace, peer: IpAddr, front: Arc<Front>, mut stop: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let told = pace.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (front, pace) = (Arc::clone(&front), told.clone());
        async move {
            let read_by = pace.called();
            if let Some(unfit) = unfit(&request) {
                request.extensions_mut().insert(unfit);
            }
            let response = front.serve_until(request, peer, read_by).await;
            pace.answered();
            Ok::<Response, std::convert::Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_HEAD);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut expired = pin!(pace.expired());
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
                tracing::trace!(target: "HTTP", component = "Connection", phase = ?phase, "connection took too long");
                return;
            }
            _ = stop.changed(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
