//! What takes too long is given up.

use super::*;

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
