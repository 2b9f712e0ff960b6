//! From the start of the process to its first token.

use std::time::Duration;

use agentwrit_client::Class;
use agentwrit_protocol::ErrorCode;

use super::pod::{AWAY, Pod, denied};
use agentwrit_sidecar::{Event, Found};

#[test]
fn a_pod_registers_writes_and_is_ready_only_then() {
    let mut pod = Pod::new();
    assert_eq!(pod.start(Found::Nothing), ["register"]);
    assert!(!pod.agent.is_ready());
    assert_eq!(pod.registered("a", 300), ["say Registered", "write a"]);
    assert!(!pod.agent.is_ready(), "before the file is there");
    pod.written();
    assert!(pod.agent.is_ready());
}

#[test]
fn a_broker_away_at_start_is_retried_with_growing_pauses() {
    let mut pod = Pod::new();
    pod.start(Found::Nothing);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        assert_eq!(pod.not_registered(AWAY), ["say Trouble"]);
        let (wanted, seconds) = pod.next();
        assert_eq!(wanted, ["register"]);
        pauses.push(seconds);
    }
    assert!(pauses.windows(2).take(5).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
    assert!(pauses[0] <= 1 && pauses[4] >= 8 && pauses[4] <= 16, "{pauses:?}");
    assert!(pauses[7..].iter().all(|pause| (40..=80).contains(pause)), "{pauses:?}");
}

#[test]
fn a_refused_launch_is_logged_and_retried_within_a_minute() {
    let mut pod = Pod::new();
    pod.start(Found::Nothing);
    let mut longest = 0;
    for _ in 0..9 {
        assert_eq!(
            pod.not_registered(denied(ErrorCode::LaunchTokenNotFound)),
            ["say Refused"]
        );
        let (wanted, seconds) = pod.next();
        assert_eq!(wanted, ["register"]);
        longest = seconds.max(longest);
    }
    assert!((30..=60).contains(&longest), "{longest}");
    assert_eq!(pod.registered("a", 300), ["say Registered", "write a"]);
}

#[test]
fn a_rate_limit_is_waited_for_as_long_as_asked() {
    let mut pod = Pod::new();
    pod.start(Found::Nothing);
    pod.not_registered(Class::RateLimited(Some(Duration::from_secs(17))));
    let (wanted, seconds) = pod.next();
    assert_eq!((wanted, seconds), (vec!["register".to_owned()], 17));
}

#[test]
fn a_pod_that_is_quarantined_from_the_start_asks_once_a_minute() {
    let mut pod = Pod::new();
    pod.start(Found::Nothing);
    assert_eq!(pod.not_registered(denied(ErrorCode::Revoked)), ["say Quarantined"]);
    assert!(pod.next().1 >= 50);
}

#[test]
fn a_file_that_cannot_be_written_is_tried_again_and_not_ready() {
    let mut pod = Pod::new();
    pod.start(Found::Nothing);
    pod.registered("a", 300);
    assert_eq!(pod.happens(Event::Written(Err("no space".into()))), ["say WriteFailed"]);
    assert!(!pod.agent.is_ready());
    assert_eq!(pod.next().0, ["write a"]);
    pod.written();
    assert!(pod.agent.is_ready());
}
