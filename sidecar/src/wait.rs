//! `agentwrit-sidecar wait`, the hook after the container's start: it ends when there is a token, or says why there is none.
//!
//! While it runs, the kubelet shows no state and no logs of the pod and doesn't end it: it is bounded.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use agentwrit_protocol::Clock;
use agentwrit_protocol::inject::{HEALTH_PORT, HEALTH_STARTUP_PATH};
use agentwrit_protocol::system::SystemClock;

/// How long it waits.
pub const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Between two looks: a token is there 60 ms after the sidecar's start.
const PAUSE: Duration = Duration::from_millis(5);
/// For one answer of the sidecar beside it.
const ANSWER: Duration = Duration::from_secs(2);
/// No answer of ours is longer.
const MAX_ANSWER: u64 = 4 * 1024;
const NOT_LISTENING: &str =
    "there is no token now: the sidecar doesn't listen yet; the log of this container says more";

/// Waits for the token of the sidecar in this pod.
///
/// # Errors
/// Why there is none after [`LONGEST_WAIT`]: a sentence for the Event of the kubelet.
pub fn wait() -> Result<(), String> {
    // A node without IPv4 has no 127.0.0.1 either.
    let addresses = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].map(|ip| SocketAddr::new(ip, HEALTH_PORT));
    wait_for(&addresses, &SystemClock, sleep)
}

fn wait_for(addresses: &[SocketAddr], clock: &dyn Clock, pause: impl Fn(Duration)) -> Result<(), String> {
    let begun = clock.monotonic();
    loop {
        let answered = addresses.iter().find_map(|address| ask(*address));
        let why = match answered {
            Some(Ok(())) => return Ok(()),
            Some(Err(why)) => why,
            None => NOT_LISTENING.to_owned(),
        };
        if clock.monotonic().saturating_sub(begun) >= LONGEST_WAIT {
            let seconds = LONGEST_WAIT.as_secs();
            return Err(format!(
                "{why} (waited {seconds} s; agentwrit.io/start-gate: probe waits as long as it takes)"
            ));
        }
        pause(PAUSE);
    }
}

/// What the startup probe would hear; `None` when nobody answers.
fn ask(address: SocketAddr) -> Option<Result<(), String>> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER).ok()?;
    stream.set_read_timeout(Some(ANSWER)).ok()?;
    stream.set_write_timeout(Some(ANSWER)).ok()?;
    let request = format!("GET {HEALTH_STARTUP_PATH} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?;
    Some(if status == "200" {
        Ok(())
    } else {
        Err(body.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use agentwrit_protocol::clock::ManualClock;

    use super::*;

    /// Answers one connection after the other with these statuses, the last one again and again.
    fn sidecar(statuses: &'static [u16]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for number in 0.. {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                let read = stream.read(&mut request).unwrap();
                assert!(request[..read].starts_with(b"GET /startup HTTP/1.1\r\n"));
                let status = statuses[number.min(statuses.len() - 1)];
                // Who asked may be gone.
                let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 8\r\n\r\nbecause\n");
            }
        });
        address
    }

    fn waited(address: SocketAddr) -> (Result<(), String>, usize) {
        let (clock, pauses) = (ManualClock::at(1_000), AtomicUsize::new(0));
        let waited = wait_for(&[address], &clock, |_| {
            pauses.fetch_add(1, Ordering::SeqCst);
            clock.advance(5);
        });
        (waited, pauses.load(Ordering::SeqCst))
    }

    #[test]
    fn it_ends_with_the_token() {
        assert_eq!(waited(sidecar(&[200])), (Ok(()), 0));
        assert_eq!(waited(sidecar(&[503, 503, 200])), (Ok(()), 2));
    }

    #[test]
    fn it_gives_up_with_the_reason_of_the_probe() {
        let (refused, pauses) = waited(sidecar(&[503]));
        let says = "because (waited 20 s; agentwrit.io/start-gate: probe waits as long as it takes)";
        assert_eq!((refused.unwrap_err().as_str(), pauses), (says, 4));
    }

    #[test]
    fn a_sidecar_that_does_not_listen_yet_is_waited_for() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (refused, pauses) = waited(address);
        assert!(refused.unwrap_err().starts_with(NOT_LISTENING));
        assert_eq!(pauses, 4);
    }
}
