//! Slow peers, on tokio's paused time: it jumps to the next deadline when nobody has anything to do.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::converse;
use super::pace::{Pace, Room, Times};
use crate::http::{Call, Front};
use crate::testing;

const HEALTH: &[u8] = b"GET /quick HTTP/1.1\r\nhost: b\r\n\r\n";

struct Listener {
    front: Arc<Front>,
    room: Arc<Room>,
    stop: watch::Sender<()>,
}

impl Listener {
    async fn new() -> Self {
        let router = Router::new()
            .route("/quick", get(|| async { "done" }))
            .route("/large", get(|| async { "x".repeat(1_000_000) }))
            .route("/echo", post(|call: Call| async move { call.body }))
            .route(
                "/slow",
                get(|| async {
                    tokio::time::sleep(Duration::from_mins(5)).await;
                    "done"
                }),
            );
        let broker = testing::broker().await;
        tokio::time::pause();
        Self {
            front: Arc::new(Front::new(Arc::clone(&broker), router.with_state(broker))),
            room: Arc::new(Room::new(Times::CONTRACT, 100)),
            stop: watch::channel(()).0,
        }
    }

    fn connect(&self) -> DuplexStream {
        let (client, server) = duplex(16 * 1024);
        let (front, room, stop) = (Arc::clone(&self.front), Arc::clone(&self.room), self.stop.subscribe());
        tokio::spawn(converse(server, Ipv4Addr::LOCALHOST.into(), front, room, stop));
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

#[tokio::test]
async fn a_header_block_has_five_seconds_from_its_first_byte() {
    let listener = Listener::new().await;
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

#[tokio::test]
async fn between_requests_there_are_two_minutes() {
    let listener = Listener::new().await;
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

#[tokio::test]
async fn the_second_request_of_a_connection_has_five_seconds_too() {
    let listener = Listener::new().await;
    let mut client = listener.connect();
    client.write_all(HEALTH).await.unwrap();
    answer(&mut client).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    client.write_all(b"GET /qu").await.unwrap();
    assert_eq!(end(&mut client).await, (String::new(), 5));
}

#[tokio::test]
async fn a_request_has_fifteen_seconds_from_its_first_byte() {
    let listener = Listener::new().await;
    let mut client = listener.connect();
    let start = Instant::now();
    client.write_all(b"POST /echo HTTP/1.1\r\nhost: b\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    client.write_all(b"content-length: 5\r\n\r\nabc").await.unwrap();
    let (text, _) = end(&mut client).await;
    assert_eq!(start.elapsed().as_secs(), 15);
    assert!(
        text.starts_with("HTTP/1.1 400 ") && text.contains("\"failed to read request body\""),
        "{text}"
    );
    let mut prompt = listener.connect();
    prompt
        .write_all(b"POST /echo HTTP/1.1\r\nhost: b\r\ncontent-length: 3\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(14)).await;
    prompt.write_all(b"abc").await.unwrap();
    assert!(answer(&mut prompt).await.ends_with("\r\n\r\nabc"));
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up_after_thirty_seconds() {
    let listener = Listener::new().await;
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

#[tokio::test]
async fn a_slow_handler_is_not_a_slow_peer() {
    let listener = Listener::new().await;
    let mut client = listener.connect();
    client
        .write_all(b"GET /slow HTTP/1.1\r\nhost: b\r\n\r\n")
        .await
        .unwrap();
    assert!(answer(&mut client).await.ends_with("\r\n\r\ndone"));
    assert_eq!(end(&mut client).await.1, 120);
}

#[tokio::test]
async fn idle_connections_give_way_when_places_run_short() {
    let listener = Listener::new().await;
    let mut places = Vec::new();
    for _ in 0..80 {
        places.push(listener.room.place().await.unwrap());
    }
    let mut client = listener.connect();
    client.write_all(HEALTH).await.unwrap();
    answer(&mut client).await;
    assert_eq!(end(&mut client).await.1, 5);
    assert_eq!(end(&mut listener.connect()).await.1, 5);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let listener = Listener::new().await;
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

#[tokio::test]
async fn at_the_end_idle_connections_close_and_busy_ones_finish() {
    let listener = Listener::new().await;
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

#[tokio::test]
async fn heads_that_cannot_be_read_are_refused_in_our_words() {
    let listener = Listener::new().await;
    let lines = |count: usize| "x-a: y\r\n".repeat(count);
    let long = |bytes: usize| format!("x-long: {}\r\n", "y".repeat(bytes));
    let get = |rest: &str| format!("GET /quick HTTP/1.1\r\nhost: b\r\n{rest}\r\n");
    let many = long(8000).repeat(90);
    for good in [
        get(&lines(900)),
        get(&long(700 * 1024)),
        get(&many),
        get(&long(1_048_000)),
    ] {
        let mut client = listener.connect();
        client.write_all(good.as_bytes()).await.unwrap();
        let text = answer(&mut client).await;
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    }
    let target = format!("GET /{} HTTP/1.1\r\nhost: b\r\n\r\n", "y".repeat(70_000));
    for (bad, status, detail) in [
        (get(&lines(1100)), 431, "must not exceed 1048576 bytes or 1000 lines"),
        (
            get(&long(1_048_576)),
            431,
            "must not exceed 1048576 bytes or 1000 lines",
        ),
        (target, 414, "request target is too long"),
        (
            "GET /quick HTTP/1.1\r\nno colon\r\n\r\n".to_owned(),
            400,
            "malformed HTTP request",
        ),
        ("\u{16}\u{3}\u{1}\u{2}".to_owned(), 400, "malformed HTTP request"),
        ("GET /quick HTTP/9.9\r\n\r\n".to_owned(), 400, "malformed HTTP request"),
        (get("content-length: x\r\n"), 400, "malformed HTTP request"),
        (
            get("content-length: 1\r\ncontent-length: 2\r\n"),
            400,
            "malformed HTTP request",
        ),
    ] {
        let mut client = listener.connect();
        client.write_all(bad.as_bytes()).await.unwrap();
        let (text, seconds) = end(&mut client).await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        for header in [
            "content-type: application/problem+json",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "x-frame-options: DENY",
            "connection: close",
            "x-request-id: ",
        ] {
            assert!(head.contains(header), "{header} in {head}");
        }
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (problem["status"].as_u64(), problem["error_code"].as_str()),
            (Some(status), Some("invalid_request"))
        );
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem}");
        assert!(seconds <= 1, "{bad:.40} {seconds}");
    }
}

#[tokio::test]
async fn header_bytes_in_flight_are_bounded_in_total() {
    let room = Arc::new(Room::new(Times::CONTRACT, 100));
    let paces: Vec<Pace> = (0..64).map(|_| Pace::begun(Arc::clone(&room))).collect();
    for pace in &paces {
        assert!((0..64).all(|_| pace.received(16 * 1024)));
    }
    let one_more = Pace::begun(Arc::clone(&room));
    assert!(one_more.received(16 * 1024), "a small one is always taken");
    let refused = (0..100).position(|_| !one_more.received(16 * 1024));
    assert_eq!(
        refused,
        Some(64),
        "the last of 64 MiB; the free ones were never counted"
    );
    paces[0].called();
    paces[0].answered();
    paces[0].flushed();
    assert!(one_more.received(16 * 1024), "what is answered makes room");
}

#[tokio::test]
async fn a_refused_body_ends_the_connection_at_once() {
    let listener = Listener::new().await;
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
