//! Slow and greedy peers, on tokio's paused time: it jumps to the next deadline when nothing has anything to do.

mod deadlines;
mod memory;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::connection::serve_connection;
use crate::deadlines::{Deadlines, Phase};
use crate::pool::Pool;
use crate::service::{Connection, Service};
use crate::{BodyError, Budget, SOCKET_BUFFER, Settings, Times, read_body};

const HEALTH: &[u8] = b"GET /quick HTTP/1.1\r\nhost: b\r\n\r\n";
const MIB: usize = 1_048_576;
const BYTES_PER_CONNECTION: usize = 48 * 1024;

/// What the tests ask.
struct Echo;

impl Service for Echo {
    type Body = Full<Bytes>;

    async fn call(&self, request: Request<Incoming>, connection: Connection) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = match read_body(&parts.headers, body, MIB, &connection).await {
            Ok(body) => body,
            Err(error) => return refuse(error),
        };
        let answer = match parts.uri.path() {
            "/quick" => Bytes::from_static(b"done"),
            "/large" => Bytes::from("x".repeat(MIB)),
            "/echo" => body,
            "/headers" => Bytes::from(connection.ambiguous().unwrap_or("fine")),
            "/trust" => {
                connection.trust();
                Bytes::from_static(b"done")
            }
            _ => {
                tokio::time::sleep(Duration::from_mins(5)).await;
                Bytes::from_static(b"done")
            }
        };
        let mut response = Response::new(Full::new(answer));
        if let Some(id) = parts.headers.get("x-request-id") {
            response.headers_mut().insert("x-request-id", id.clone());
        }
        response
    }

    fn refusal(&self, status: StatusCode) -> Bytes {
        let code = status.as_u16();
        Bytes::from(format!(
            "HTTP/1.1 {code} X\r\nconnection: close\r\ncontent-length: 3\r\n\r\nno\n"
        ))
    }
}

fn refuse(error: BodyError) -> Response<Full<Bytes>> {
    let status = match error {
        BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::Unreadable => StatusCode::BAD_REQUEST,
        BodyError::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = Response::new(Full::new(Bytes::from(error.to_string())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

struct Listener {
    pool: Arc<Pool>,
    settings: Arc<Settings>,
    stop: watch::Sender<()>,
}

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

impl Listener {
    fn new() -> Self {
        Self::with(64 * MIB)
    }

    fn with(bytes: usize) -> Self {
        let budget = Budget {
            bytes,
            reserve: bytes / 4,
            place: BYTES_PER_CONNECTION,
        };
        let settings = Settings {
            times: Times::API,
            budget,
            max_head: MIB,
            max_header_lines: 1000,
            keep_alive: true,
            socket_buffer: SOCKET_BUFFER,
        };
        Self {
            pool: Pool::new(budget.bytes, budget.reserve, 4 * BYTES_PER_CONNECTION),
            settings: Arc::new(settings),
            stop: watch::channel(()).0,
        }
    }

    fn connect(&self) -> DuplexStream {
        self.connect_from(ONE)
    }

    fn connect_from(&self, peer: IpAddr) -> DuplexStream {
        let (client, server) = duplex(16 * 1024);
        let (settings, stop) = (Arc::clone(&self.settings), self.stop.subscribe());
        let deadlines = Deadlines::admitted(&self.pool, peer, &settings, Phase::Idle);
        if let Some(deadlines) = deadlines {
            tokio::spawn(serve_connection(
                server,
                deadlines,
                peer,
                Arc::new(Echo),
                settings,
                stop,
            ));
        }
        client
    }
}

/// Reads one answer with a content-length.
async fn answer(client: &mut DuplexStream) -> String {
    let mut text = String::new();
    while !text.contains("\r\n\r\n") {
        text.push(char::from(client.read_u8().await.unwrap()));
    }
    let (_, length) = text.split_once("content-length: ").unwrap();
    let mut body = vec![0; length.split_once("\r\n").unwrap().0.parse().unwrap()];
    client.read_exact(&mut body).await.unwrap();
    text + &String::from_utf8(body).unwrap()
}

/// What else comes, and after how many seconds the connection ends.
async fn end(client: &mut DuplexStream) -> (String, u64) {
    let start = Instant::now();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    (String::from_utf8(rest).unwrap(), start.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order() {
    let listener = Listener::new();
    let mut client = listener.connect();
    let mut requests = Vec::new();
    for n in 0..50 {
        let head = format!("POST /echo HTTP/1.1\r\nhost: b\r\nx-request-id: r{n}\r\ncontent-length: 2\r\n\r\n{n:02}");
        requests.extend_from_slice(head.as_bytes());
    }
    client.write_all(&requests).await.unwrap();
    for n in 0..50 {
        let text = answer(&mut client).await;
        assert!(
            text.contains(&format!("x-request-id: r{n}\r\n")) && text.ends_with(&format!("{n:02}")),
            "{text}"
        );
    }
    client
        .write_all(&[HEALTH, b"broken\x01\r\n\r\n"].concat())
        .await
        .unwrap();
    assert!(answer(&mut client).await.ends_with("done"));
    assert!(
        end(&mut client).await.0.starts_with("HTTP/1.1 400 "),
        "also when it came with the one before"
    );
}

#[tokio::test(start_paused = true)]
async fn other_connections_come_before_pipelined_requests() {
    let listener = Listener::new();
    let (mut many, mut one) = (listener.connect(), listener.connect_from(TWO));
    many.write_all(&HEALTH.repeat(40)).await.unwrap();
    one.write_all(HEALTH).await.unwrap();
    answer(&mut one).await;
    let mut answered = vec![0; 16 * 1024];
    let read = many.read(&mut answered).await.unwrap();
    let answered = String::from_utf8_lossy(&answered[..read]);
    assert!(answered.matches("HTTP/1.1 200 ").count() < 5, "{answered}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_body_ends_the_connection_at_once() {
    let listener = Listener::new();
    let chunks = "10000\r\n".to_owned() + &"x".repeat(65_536) + "\r\n";
    let head = |field: &str| format!("POST /echo HTTP/1.1\r\nhost: b\r\n{field}\r\n\r\n");
    for request in [
        head("content-length: 99999999999"),
        head("content-length: 1048577") + &"x".repeat(1_048_577),
        head("transfer-encoding: chunked") + &chunks.repeat(17) + "0\r\n\r\n",
        head("transfer-encoding: chunked") + &chunks.repeat(17),
    ] {
        let (mut reader, mut writer) = tokio::io::split(listener.connect());
        let writing = async move {
            writer.write_all(request.as_bytes()).await.ok();
            writer
        };
        let start = Instant::now();
        let mut text = String::new();
        let (_writer, read) = tokio::join!(writing, reader.read_to_string(&mut text));
        read.unwrap();
        assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
        assert!(text.contains("\r\nconnection: close\r\n"), "{text}");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn heads_that_cannot_be_read_are_refused() {
    let listener = Listener::new();
    let lines = |count: usize| "x-a: y\r\n".repeat(count);
    let long = |bytes: usize| format!("x-long: {}\r\n", "y".repeat(bytes));
    let get = |rest: &str| format!("GET /quick HTTP/1.1\r\nhost: b\r\n{rest}\r\n");
    for good in [
        get(&lines(900)),
        get(&long(700 * 1024)),
        get(&long(8000).repeat(90)),
        get(&long(1_048_000)),
    ] {
        let mut client = listener.connect();
        client.write_all(good.as_bytes()).await.unwrap();
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 200 "), "{good:.60}");
    }
    for (bad, status) in [
        (get(&lines(1100)), 431),
        (get(&long(1_048_576)), 431),
        (format!("GET /{} HTTP/1.1\r\nhost: b\r\n\r\n", "y".repeat(70_000)), 414),
        ("GET /quick HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), 400),
        ("\u{16}\u{3}\u{1}\u{2}".to_owned(), 400),
        ("GET /quick HTTP/9.9\r\n\r\n".to_owned(), 400),
        (get("content-length: x\r\n"), 400),
        (get("content-length: 1\r\ncontent-length: 2\r\n"), 400),
    ] {
        let mut client = listener.connect();
        client.write_all(bad.as_bytes()).await.unwrap();
        let (text, seconds) = end(&mut client).await;
        assert!(
            text.starts_with(&format!("HTTP/1.1 {status} ")) && text.ends_with("\r\n\r\nno\n"),
            "{text}"
        );
        assert!(seconds <= 1, "{bad:.40} {seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_for_no_or_two_hosts_is_marked() {
    let listener = Listener::new();
    for (hosts, wanted) in [
        ("", "missing Host header"),
        ("host: a\r\n", "fine"),
        ("host: a\r\nhost: b\r\n", "more than one Host header"),
    ] {
        let mut client = listener.connect();
        let request = format!("GET /headers HTTP/1.1\r\n{hosts}\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        assert!(answer(&mut client).await.ends_with(wanted), "{hosts}");
    }
}

/// A request whose body of 1 MiB lacks its last byte.
fn unfinished() -> Vec<u8> {
    let head = format!("POST /echo HTTP/1.1\r\nhost: b\r\ncontent-length: {MIB}\r\n\r\n");
    [head.as_bytes(), &vec![b'x'; MIB - 1]].concat()
}

async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
