use agentwrit_protocol::Ttl;
use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::inject::LABEL_INJECTED;

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::cluster::fake::{api_server, status};
use crate::leader::lease::Elector;
use serde_json::{Value, json};

fn uid(number: u8) -> PodUid {
    format!("00000000-0000-4000-8000-0000000000{number:02x}").into()
}

fn head(number: u8, label: &str) -> PodHead {
    let pod = json!({"metadata": {
        "uid": uid(number), "name": format!("pod-{number}"), "namespace": "shop", "labels": {LABEL_INJECTED: label},
    }});
    serde_json::from_value(pod).unwrap()
}

fn asked(at: Instant, heard: &[u8]) -> BrokersPods {
    BrokersPods {
        pods: heard.iter().map(|number| head(*number, "true").live()).collect(),
        store: "store".into(),
        lead: 1,
        asked: at,
    }
}

/// One that has seen the broker answer for long enough.
async fn silent() -> SilentPods {
    let silent = SilentPods::new(Arc::new(Metrics::new().unwrap()));
    let since = Instant::now();
    tokio::time::advance(CATCH_UP).await;
    silent.state().answers = Some((since, Instant::now()));
    silent
}

fn names(due: Vec<LivePod>) -> Vec<String> {
    due.into_iter().map(|pod| pod.name).collect()
}

/// At `at`, when the broker has been answering all the time.
fn due(silent: &SilentPods, at: Instant, heard: &[u8]) -> Vec<String> {
    let (since, _) = silent.state().answers.unwrap();
    silent.state().answers = Some((since, at));
    names(silent.due(&asked(at, heard)))
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_due_after_a_minute_unless_it_was_heard() {
    let (silent, now) = (silent().await, Instant::now());
    for number in 1..=3 {
        silent.observe(&Event::Apply(head(number, "true")), now);
    }
    silent.observe(&Event::Apply(head(4, "no")), now);
    silent.settle(&uid(2));
    assert_eq!(due(&silent, now + Duration::from_secs(59), &[3]), [""; 0]);
    assert_eq!(due(&silent, now + REPORT_AFTER, &[]), ["pod-1"]);
    // Another event of the watch doesn't begin anew with those that were heard.
    silent.observe(&Event::Apply(head(2, "true")), now);
    silent.observe(&Event::Delete(head(1, "true")), now);
    assert_eq!(due(&silent, now + 2 * REPORT_AFTER, &[]), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_hasnt_started_is_looked_at_ever_more_rarely() {
    let (silent, mut now) = (silent().await, Instant::now());
    silent.observe(&Event::Apply(head(1, "true")), now);
    now += REPORT_AFTER;
    let mut pauses = Vec::new();
    for _ in 0..5 {
        silent.later(&uid(1), None, now);
        let mut pause = Duration::ZERO;
        while due(&silent, now + pause, &[]).is_empty() {
            pause += Duration::from_secs(30);
        }
        pauses.push(pause.as_secs());
        now += pause;
    }
    assert_eq!(pauses, [120, 240, 480, 600, 600]);
    silent.later(&uid(1), Some(Duration::from_secs(7)), now);
    assert_eq!(due(&silent, now + Duration::from_secs(7), &[]), ["pod-1"]);
}

#[tokio::test(start_paused = true)]
async fn pods_missing_from_a_new_list_are_forgotten() {
    let (silent, now) = (silent().await, Instant::now());
    for number in 1..=2 {
        silent.observe(&Event::Apply(head(number, "true")), now);
    }
    silent.observe(&Event::Init, now);
    silent.observe(&Event::InitApply(head(2, "true")), now);
    silent.observe(&Event::InitDone, now);
    assert_eq!(due(&silent, now + REPORT_AFTER, &[]), ["pod-2"]);
}

#[tokio::test(start_paused = true)]
async fn sidecars_have_time_after_the_broker_was_away() {
    let (silent, mut now) = (silent().await, Instant::now());
    silent.observe(&Event::Apply(head(1, "true")), now);
    now += BROKER_AWAY_AFTER + Duration::from_secs(61);
    for second in (0..100).step_by(10) {
        let at = now + Duration::from_secs(second);
        assert_eq!(
            names(silent.due(&asked(at, &[]))),
            [""; 0],
            "{second} s after it came back"
        );
    }
    assert_eq!(names(silent.due(&asked(now + CATCH_UP, &[]))), ["pod-1"]);
}

#[tokio::test(start_paused = true)]
async fn pods_that_never_start_dont_hide_those_of_others() {
    let (silent, now) = (silent().await, Instant::now());
    let crowd = |number: usize| -> PodHead {
        let uid = format!("00000000-0000-4000-8000-0001{number:08x}");
        let pod = json!({"metadata": {
            "uid": uid, "name": "never", "namespace": "crowd", "labels": {LABEL_INJECTED: "true"},
        }});
        serde_json::from_value(pod).unwrap()
    };
    for number in 0..MAX_PODS + 3 {
        silent.observe(&Event::Apply(crowd(number)), now + Duration::from_secs(1));
    }
    assert_eq!(silent.metrics.silent_pods_dropped.get(), 3);
    silent.observe(&Event::Apply(head(1, "true")), now);
    assert_eq!(due(&silent, now + REPORT_AFTER, &[]), ["pod-1"]);
    assert_eq!(silent.metrics.silent_pods_dropped.get(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_fails_to_write_is_tried_at_the_next_look() {
    let refusing = Arc::new(AtomicBool::new(true));
    let is_refused = Arc::clone(&refusing);
    let (client, _) = api_server(move |path| {
        if path.contains("/events") {
            if is_refused.load(Ordering::SeqCst) {
                return status(403, "Forbidden");
            }
            return (200, json!({"metadata": {}, "eventTime": "2026-01-01T00:00:00.000000Z"}));
        }
        let sidecar = json!({
            "name": CONTAINER_NAME, "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        });
        (
            200,
            json!({"metadata": {"uid": uid(1)}, "status": {"initContainerStatuses": [sidecar]}}),
        )
    });
    let (clock, metrics) = (
        Arc::new(ManualClock::at(1_767_230_000)),
        Arc::new(Metrics::new().unwrap()),
    );
    let reporter = Reporter::new(client.clone(), "system", "controller-0", Arc::clone(&metrics));
    let (_, leadership) = Elector::new(client.clone(), "system", "c", clock.clone(), reporter.clone(), metrics);
    let reporter = SilentPodReporter {
        client,
        leadership,
        silent: Arc::new(silent().await),
        reporter,
        clock,
        broker_url: "https://broker:8443".into(),
    };
    reporter.silent.observe(&Event::Apply(head(1, "true")), Instant::now());
    tokio::time::advance(REPORT_AFTER).await;
    for _ in 0..2 {
        let is_due = due(&reporter.silent, Instant::now(), &[]);
        assert_eq!(is_due, ["pod-1"], "it has not been told of");
        reporter.check(&head(1, "true").live()).await;
        tokio::time::advance(Duration::from_secs(10)).await;
        refusing.store(false, Ordering::SeqCst);
    }
    assert_eq!(due(&reporter.silent, Instant::now(), &[]), [""; 0]);
}

#[test]
fn only_a_sidecar_that_has_run_for_a_minute_is_silent() {
    let pod =
        |status: Value| -> Pod { serde_json::from_value(json!({"metadata": {"uid": "u"}, "status": status})).unwrap() };
    let running = |name: &str| {
        pod(json!({"phase": "Pending", "initContainerStatuses": [{
            "name": name, "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        }]}))
    };
    let start = UnixSeconds::new(1_767_225_600);
    let table = vec![
        (None, "u", 0, Seen::Gone),
        (Some(running(CONTAINER_NAME)), "other", 60, Seen::Gone),
        (Some(pod(json!({"phase": "Failed"}))), "u", 60, Seen::Gone),
        (Some(pod(json!({"phase": "Pending"}))), "u", 60, Seen::NotYet(None)),
        (Some(running("setup")), "u", 60, Seen::NotYet(None)),
        (
            Some(running(CONTAINER_NAME)),
            "u",
            18,
            Seen::NotYet(Some(Duration::from_secs(42))),
        ),
        (Some(running(CONTAINER_NAME)), "u", 60, Seen::Silent),
        (Some(running(CONTAINER_NAME)), "u", -5, Seen::NotYet(Some(REPORT_AFTER))),
        (
            Some(running(CONTAINER_NAME)),
            "u",
            i64::MIN,
            Seen::NotYet(Some(REPORT_AFTER)),
        ),
        (Some(running(CONTAINER_NAME)), "u", i64::MAX, Seen::Silent),
    ];
    for (pod, uid, seconds, wanted) in table {
        assert_eq!(
            seen(&uid.into(), pod.as_ref(), start + Ttl::seconds(seconds)),
            wanted,
            "{pod:?} after {seconds} s"
        );
    }
}

#[test]
fn the_note_fits_into_an_event() {
    let long = LivePod {
        uid: uid(1),
        namespace: "n".repeat(63),
        name: "p".repeat(63),
    };
    let note = note(&long, "https://agentwrit-broker.agentwrit-system.svc:8443");
    assert!(note.len() <= 1000, "{}", note.len());
    for part in [
        "DNS",
        "NetworkPolicy",
        "agentwrit-ca",
        "audience",
        "-c agentwrit-sidecar",
    ] {
        assert!(note.contains(part), "{note}");
    }
}
