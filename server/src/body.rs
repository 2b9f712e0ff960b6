//! Request bodies: whole, and within the limits.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::Instant;

use crate::Connection;

/// How much of a body that is too large is read and discarded, bytes, and for how long: closing on unread bytes makes
/// the system reset the connection, and the client loses the answer.
const MAX_DISCARDED: usize = 2 * 1_048_576;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);
const DISCARD_PAUSE: Duration = Duration::from_millis(100);
/// The least that a body must bring in each such time once it takes room: 16 KiB in 5 s.
const PROGRESS_BYTES: usize = 16 * 1024;
const PROGRESS_TIME: Duration = Duration::from_secs(5);
/// What is set aside at once for an announced body; the rest when it comes.
const MAX_RESERVED: usize = 64 * 1024;
/// Bodies up to this size have all the time of their request.
const SMALL_BODY: usize = 4 * 1024;

/// Why a body could not be read. The connection has to close after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is larger than the endpoint takes.
    #[error("the request body is too large")]
    TooLarge,
    /// It broke off, came too slowly, or was malformed.
    #[error("the request body can't be read")]
    Unreadable,
    /// The source holds as much as it may.
    #[error("there is no room for the request body now")]
    NoRoom,
}

/// Reads the whole body, of at most `most` bytes, within the times and the room of its connection.
///
/// # Errors
/// What is wrong with it, after some of what is still on its way was read and discarded.
pub async fn read_body<B>(
    headers: &HeaderMap,
    mut body: B,
    most: usize,
    connection: &Connection,
) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if announced.is_some_and(|length| length > most) {
        // A client that sent `Expect: 100-continue` has not sent its body yet.
        if !headers.contains_key(header::EXPECT) {
            discard(&mut body).await;
        }
        return Err(BodyError::TooLarge);
    }
    let gathered = gather(&mut body, announced, most, connection).await;
    match gathered {
        Ok(_) => connection.body_read(),
        Err(BodyError::Unreadable) => {}
        Err(BodyError::TooLarge | BodyError::NoRoom) => discard(&mut body).await,
    }
    gathered
}

async fn gather<B>(
    body: &mut B,
    announced: Option<usize>,
    most: usize,
    connection: &Connection,
) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut whole = Whole::new(announced);
    let (mut window_end, mut window_bytes) = (connection.read_by(), 0_usize);
    loop {
        let frame = match tokio::time::timeout_at(window_end.min(connection.read_by()), body.frame()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(whole.into_bytes()),
            Err(_) => return Err(BodyError::Unreadable),
        };
        let Ok(data) = frame.map_err(|_| BodyError::Unreadable)?.into_data() else {
            continue;
        };
        let length = whole.len().saturating_add(data.len());
        if length > most {
            return Err(BodyError::TooLarge);
        }
        // A body that is longer than what was set aside is gathered in a buffer that doubles.
        let exact = announced.is_some() && length <= MAX_RESERVED;
        let held = if exact { length } else { length.saturating_mul(2) };
        if !connection.body_grew(held) {
            return Err(BodyError::NoRoom);
        }
        if length > SMALL_BODY {
            window_bytes += data.len();
            let first = whole.len() <= SMALL_BODY;
            if first || window_bytes >= PROGRESS_BYTES {
                (window_end, window_bytes) = (Instant::now() + PROGRESS_TIME, 0);
            }
        }
        whole.push(data);
    }
}

/// The frames of a body in one piece. Most bodies come in one, which is not copied.
#[derive(Default)]
struct Whole {
    announced: usize,
    first: Bytes,
    joined: BytesMut,
}

impl Whole {
    fn new(announced: Option<usize>) -> Self {
        Self {
            announced: announced.unwrap_or(0),
            ..Self::default()
        }
    }

    fn len(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    fn push(&mut self, frame: Bytes) {
        if self.len() == 0 {
            self.first = frame;
            return;
        }
        if self.joined.is_empty() {
            self.joined.reserve(self.announced.min(MAX_RESERVED));
            self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.joined.extend_from_slice(&frame);
    }

    fn into_bytes(self) -> Bytes {
        if self.joined.is_empty() {
            self.first
        } else {
            self.joined.freeze()
        }
    }
}

/// Reads what is on its way of a body that is not wanted.
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
