//! What connections take of the budget, and who makes room.

use super::*;

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
async fn kernel_buffers_of_small_answers_count() {
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
