//! Request bodies: whole, and within the limits.

use std::sync::Arc;
use std::time::Duration;

use agentwrit_protocol::ErrorCode;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::error::ApiError;

/// Largest body, bytes.
const MAX_BODY: usize = 1_048_576;
/// Bodies in flight, all requests together, bytes.
const BODIES_IN_FLIGHT: usize = 64 * 1_048_576;
/// How much of a body that is too large is read and forgotten, bytes, and for how long: closing on unread bytes makes
/// the system reset the connection, and the client loses the answer.
const MAX_DISCARDED: usize = 2 * MAX_BODY;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
const DISCARD_PAUSE: Duration = Duration::from_millis(100);

/// What all requests of a listener share for their bodies.
pub(super) struct Bodies {
    in_flight: Arc<Semaphore>,
}

impl Bodies {
    pub(super) fn new() -> Self {
        Self {
            in_flight: Arc::new(Semaphore::new(BODIES_IN_FLIGHT)),
        }
    }

    /// The whole body, which has to be there by `read_by`. The permit is for as long as it is held.
    pub(super) async fn gather(
        &self,
        headers: &HeaderMap,
        mut body: impl Body<Data = Bytes> + Unpin,
        read_by: Instant,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > MAX_BODY)) {
            // Whoever waits to be told to go on has sent nothing.
            if !headers.contains_key(header::EXPECT) {
                discard(&mut body).await;
            }
            return Err(too_large());
        }
        let reading = self.read(&mut body);
        let gathered = tokio::time::timeout_at(read_by, reading)
            .await
            .map_err(|_| unreadable())?;
        if gathered.is_err() {
            discard(&mut body).await;
        }
        gathered
    }

    async fn read(
        &self,
        body: &mut (impl Body<Data = Bytes> + Unpin),
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
        let mut whole = Whole::default();
        let mut held: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| unreadable())?.into_data() else {
                continue;
            };
            if whole.len().saturating_add(data.len()) > MAX_BODY {
                return Err(too_large());
            }
            let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let permit = Arc::clone(&self.in_flight).try_acquire_many_owned(size).map_err(|_| {
                ApiError::new(ErrorCode::Unavailable, "too many request bodies in flight")
                    .retry_after(1)
                    .closing()
            })?;
            match held.as_mut() {
                Some(held) => held.merge(permit),
                None => held = Some(permit),
            }
            whole.push(data);
        }
        Ok((whole.into_bytes(), held))
    }
}

/// The frames of a body in one piece. Most bodies come in one, which is not copied.
#[derive(Default)]
struct Whole {
    first: Bytes,
    joined: BytesMut,
}

impl Whole {
    fn len(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    fn push(&mut self, frame: Bytes) {
        if self.len() == 0 {
            self.first = frame;
        } else {
            if self.joined.is_empty() {
                self.joined.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.joined.extend_from_slice(&frame);
        }
    }

    fn into_bytes(self) -> Bytes {
        if self.joined.is_empty() {
            self.first
        } else {
            self.joined.freeze()
        }
    }
}

/// Reads what is on its way of a body that nobody wants.
async fn discard(body: &mut (impl Body<Data = Bytes> + Unpin)) {
    let reading = async {
        let mut seen = 0;
        while seen < MAX_DISCARDED {
            match tokio::time::timeout(DISCARD_PAUSE, body.frame()).await {
                Ok(Some(Ok(frame))) => seen += frame.data_ref().map_or(0, Bytes::len),
                _ => break,
            }
        }
    };
    // However far it came.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, reading).await;
}

fn too_large() -> ApiError {
    ApiError::new(ErrorCode::PayloadTooLarge, "request body must not exceed 1 MB").closing()
}

fn unreadable() -> ApiError {
    ApiError::invalid("failed to read request body").closing()
}
