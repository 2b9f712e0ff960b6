//! Whole requests: methods, paths, queries, headers, bodies.

use std::net::IpAddr;

use crate::answer::{Request, statuses};
use crate::world;

/// A request as text: `METHOD target [peer]`, header lines, an empty line, the body. In all of it the names of
/// `template` may stand. The peer 127.0.0.1, which it is unless given, is a trusted proxy.
pub fn run(input: &[u8]) {
    world::with(|world| {
        let filled = world.fill_bytes(input);
        let Some(request) = parse(&filled) else { return };
        if request.build().is_none() {
            return;
        }
        // A fragment is no part of a request's target, and is not looked at.
        let path = request.target.split(['?', '#']).next().unwrap_or_default().to_owned();
        let method = if request.method == "HEAD" {
            "GET".to_owned()
        } else {
            request.method.clone()
        };
        let answer = world.send(&request);
        if let Some(documented) = statuses(&method, &path) {
            // A path that looks like one of ours may have to be cleaned first.
            assert!(
                documented.contains(&answer.status) || answer.status == 307,
                "{method} {path}: not documented: {answer:?}"
            );
        }
        world.check_trail();
    });
}

fn parse(text: &[u8]) -> Option<Request> {
    let (head, body) = match text.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&text[..at], &text[at + 2..]),
        None => (text, &b""[..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let mut words = first.split(' ');
    let mut request = Request::new(words.next()?, words.next()?).body(body);
    if let Some(peer) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) {
        request.peer = peer;
    }
    for line in lines.take(100) {
        let at = line.iter().position(|byte| *byte == b':')?;
        request.append(&line[..at], line[at + 1..].trim_ascii());
    }
    Some(request)
}
