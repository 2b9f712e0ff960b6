//! Slow and greedy peers, on tokio's paused time: it jumps to the next deadline when nothing has anything to do.

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
async fn a_header_block_has_five_seconds_from_its_first_byte() {
    let listener = Listener::new();
    let mut client = listener.connect();
    tokio::time::sleep(Duration::from_mins(1)).await;
    client.write_all(b"GET /quick HT").await.unwrap();
    assert_eq!(end(&mut client).await, (String::new(), 5));
    let mut trickle = listener.connect();
    let start = Instant::now();
    for byte in HEALTH.iter().cycle() {
        if trickle.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert_eq!(start.elapsed().as_secs(), 5, "however the bytes are spread");
}

#[tokio::test(start_paused = true)]
async fn between_requests_there_are_two_minutes() {
    let listener = Listener::new();
    let mut client = listener.connect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(119)).await;
        client.write_all(HEALTH).await.unwrap();
        assert!(answer(&mut client).await.ends_with("\r\n\r\ndone"));
    }
    assert_eq!(end(&mut client).await, (String::new(), 120));
    assert_eq!(
        end(&mut listener.connect()).await,
        (String::new(), 120),
        "nor before the first"
    );
}

#[tokio::test(start_paused = true)]
async fn the_second_request_of_a_connection_has_five_seconds_too() {
    let listener = Listener::new();
    let mut client = listener.connect();
    client.write_all(HEALTH).await.unwrap();
    answer(&mut client).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    client.write_all(b"GET /qu").await.unwrap();
    assert_eq!(end(&mut client).await, (String::new(), 5));
}

#[tokio::test(start_paused = true)]
async fn a_request_has_fifteen_seconds_from_its_first_byte() {
    let listener = Listener::new();
    let mut client = listener.connect();
    let start = Instant::now();
    client.write_all(b"POST /echo HTTP/1.1\r\nhost: b\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    client.write_all(b"content-length: 5\r\n\r\nabc").await.unwrap();
    let (text, _) = end(&mut client).await;
    assert_eq!(start.elapsed().as_secs(), 15);
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    let mut prompt = listener.connect();
    prompt
        .write_all(b"POST /echo HTTP/1.1\r\nhost: b\r\ncontent-length: 3\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(14)).await;
    prompt.write_all(b"abc").await.unwrap();
    assert!(answer(&mut prompt).await.ends_with("\r\n\r\nabc"));
}

#[tokio::test(start_paused = true)]
async fn an_unread_answer_is_given_up_after_thirty_seconds() {
    let listener = Listener::new();
    let mut client = listener.connect();
    client
        .write_all(b"GET /large HTTP/1.1\r\nhost: b\r\n\r\n")
        .await
        .unwrap();
    // No byte is read, so that the connection is dropped with most of the answer.
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!(listener.stop.receiver_count(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(listener.stop.receiver_count(), 0);
    let (text, _) = end(&mut client).await;
    assert!(text.len() < 100_000, "{}", text.len());
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_is_not_a_slow_peer() {
    let listener = Listener::new();
    let mut client = listener.connect();
    client
        .write_all(b"GET /slow HTTP/1.1\r\nhost: b\r\n\r\n")
        .await
        .unwrap();
    assert!(answer(&mut client).await.ends_with("\r\n\r\ndone"));
    assert_eq!(end(&mut client).await.1, 120);
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
async fn at_the_end_idle_connections_close_and_busy_ones_finish() {
    let listener = Listener::new();
    let (mut fresh, mut idle, mut busy) = (listener.connect(), listener.connect(), listener.connect());
    idle.write_all(HEALTH).await.unwrap();
    answer(&mut idle).await;
    busy.write_all(b"POST /echo HTTP/1.1\r\nhost: b\r\ncontent-length: 3\r\n\r\na")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    listener.stop.send(()).unwrap();
    assert_eq!(end(&mut fresh).await.1, 0);
    assert_eq!(end(&mut idle).await.1, 0);
    busy.write_all(b"bc").await.unwrap();
    let (text, seconds) = end(&mut busy).await;
    assert!(text.ends_with("\r\n\r\nabc") && seconds == 0, "{text}");
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

#[tokio::test(start_paused = true)]
async fn a_stalled_large_body_has_five_seconds() {
    let listener = Listener::new();
    let mut client = listener.connect();
    client.write_all(&unfinished()).await.unwrap();
    let (text, seconds) = end(&mut client).await;
    assert!(text.starts_with("HTTP/1.1 400 ") && seconds <= 5, "{seconds} {text}");
}

#[tokio::test(start_paused = true)]
async fn a_trickled_large_body_ends_too() {
    let listener = Listener::new();
    let (mut reader, mut writer) = tokio::io::split(listener.connect());
    let head = format!("POST /echo HTTP/1.1\r\nhost: b\r\ncontent-length: {MIB}\r\n\r\n");
    let start = Instant::now();
    let sending = async move {
        writer.write_all(head.as_bytes()).await.ok();
        writer.write_all(&[b'x'; 8 * 1024]).await.ok();
        // 2 KiB a second is less than the least.
        while writer.write_all(&[b'x'; 1024]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let mut text = String::new();
    let (read, ()) = tokio::join!(reader.read_to_string(&mut text), sending);
    // What the peer still sends may cut the answer short.
    let _ = read;
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn stalled_bodies_make_room_for_others() {
    let listener = Listener::with(8 * MIB);
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let mut client = listener.connect_from(ONE);
        client.write_all(&unfinished()).await.ok();
        stalled.push(client);
    }
    settle().await;
    assert!(listener.pool.occupancy().bytes <= 8 * MIB);
    let mut honest = listener.connect_from(TWO);
    let head = format!("POST /echo HTTP/1.1\r\nhost: b\r\ncontent-length: {MIB}\r\n\r\n");
    let (mut reader, mut writer) = tokio::io::split(&mut honest);
    let sending = async {
        writer
            .write_all(&[head.as_bytes(), &vec![b'y'; MIB]].concat())
            .await
            .unwrap();
    };
    let reading = async {
        let mut text = vec![0; 20];
        reader.read_exact(&mut text).await.unwrap();
        String::from_utf8(text).unwrap()
    };
    let ((), text) = tokio::join!(sending, reading);
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert!(listener.pool.occupancy().evictions > 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_pool_takes_every_new_connection() {
    let listener = Listener::with(64 * BYTES_PER_CONNECTION);
    let mut silent: Vec<DuplexStream> = (0..200).map(|_| listener.connect_from(ONE)).collect();
    settle().await;
    assert_eq!(listener.pool.occupancy().connections, 64);
    for peer in [TWO, ONE] {
        let mut client = listener.connect_from(peer);
        client.write_all(HEALTH).await.unwrap();
        assert!(answer(&mut client).await.ends_with("done"), "{peer}");
        // It stays usable although its source's place is one among many.
        client.write_all(HEALTH).await.unwrap();
        assert!(answer(&mut client).await.ends_with("done"), "{peer}");
    }
    assert_eq!(end(&mut silent[0]).await, (String::new(), 0), "the idlest went");
}

#[tokio::test(start_paused = true)]
async fn header_lines_count_with_what_they_take() {
    let listener = Listener::new();
    let mut plain = listener.connect();
    plain.write_all(HEALTH).await.unwrap();
    answer(&mut plain).await;
    assert_eq!(
        listener.pool.occupancy().bytes,
        BYTES_PER_CONNECTION,
        "a small request costs no more than its place"
    );
    let mut client = listener.connect();
    let lines = "a:b\r\n".repeat(900);
    let request = format!("POST /echo HTTP/1.1\r\nhost: b\r\n{lines}content-length: 9\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    settle().await;
    let counted = listener.pool.occupancy().bytes - 2 * BYTES_PER_CONNECTION;
    assert!(counted > 900 * 128, "{counted}");
}

#[tokio::test(start_paused = true)]
async fn an_unread_answer_counts_until_its_connection_ends() {
    let listener = Listener::with(8 * MIB);
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut client = listener.connect_from(ONE);
        client
            .write_all(b"GET /large HTTP/1.1\r\nhost: b\r\n\r\n")
            .await
            .unwrap();
        slow.push(client);
        settle().await;
    }
    let held = listener.pool.occupancy();
    assert!(held.bytes <= 8 * MIB && held.bytes > 6 * MIB, "{held:?}");
    assert!(held.connections <= 8, "those that read nothing made room: {held:?}");
    drop(slow);
    settle().await;
    assert_eq!(listener.pool.occupancy().bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_kernel_may_keep_of_small_answers_counts() {
    let listener = Listener::new();
    let mut client = listener.connect();
    let request = format!(
        "POST /echo HTTP/1.1\r\nhost: b\r\ncontent-length: 4000\r\n\r\n{}",
        "x".repeat(4000)
    );
    let mut counted = Vec::new();
    for _ in 0..30 {
        client.write_all(request.as_bytes()).await.unwrap();
        answer(&mut client).await;
        counted.push(listener.pool.occupancy().bytes - BYTES_PER_CONNECTION);
    }
    assert_eq!((counted[0], counted[3]), (0, 0), "the place pays for the first ones");
    assert_eq!(counted[29], 48 * 1024, "then the whole buffer counts, and no more");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_counts_with_what_it_may_keep() {
    let listener = Listener::new();
    let deadlines = Deadlines::admitted(&listener.pool, ONE, &listener.settings, Phase::Handshake).unwrap();
    assert_eq!(listener.pool.occupancy().bytes, BYTES_PER_CONNECTION + 64 * 1024);
    deadlines.ready();
    assert_eq!(listener.pool.occupancy().bytes, BYTES_PER_CONNECTION);
}

#[tokio::test(start_paused = true)]
async fn a_trusted_source_keeps_its_connections() {
    let listener = Listener::with(8 * BYTES_PER_CONNECTION);
    let mut trusted = listener.connect_from(TWO);
    trusted
        .write_all(b"GET /trust HTTP/1.1\r\nhost: b\r\n\r\n")
        .await
        .unwrap();
    answer(&mut trusted).await;
    let mut more: Vec<DuplexStream> = (0..3).map(|_| listener.connect_from(TWO)).collect();
    let strangers: Vec<DuplexStream> = (0..50).map(|_| listener.connect_from(ONE)).collect();
    settle().await;
    for client in more.iter_mut().chain([&mut trusted]) {
        client.write_all(HEALTH).await.unwrap();
        assert!(answer(client).await.ends_with("done"));
    }
    drop(strangers);
}

#[tokio::test(start_paused = true)]
async fn a_large_body_counts_only_while_it_is_here() {
    let listener = Listener::new();
    let mut client = listener.connect();
    let request = format!(
        "POST /quick HTTP/1.1\r\nhost: b\r\ncontent-length: {MIB}\r\n\r\n{}",
        "x".repeat(MIB)
    );
    client.write_all(request.as_bytes()).await.unwrap();
    answer(&mut client).await;
    settle().await;
    let counted = listener.pool.occupancy().bytes - BYTES_PER_CONNECTION;
    assert!(counted <= 80 * 1024, "only what the read buffer may keep: {counted}");
}
