//! `awrit doctor`: a healthy broker, and one ill in each way.

use agentwrit_testkit::ADMIN_SECRET;
use std::net::TcpListener;

use agentwrit_protocol::Clock;
use agentwrit_protocol::system::SystemClock;
use time::Duration;

use super::brokers::{FakeBroker, RealBroker};
use super::certificates::CaFiles;
use super::support::{Ended, awrit};

/// Status and result of each check, by name, in order.
fn checks(ended: &Ended) -> Vec<(String, String, String)> {
    let mut lines = ended.out.lines();
    assert!(
        lines.next().unwrap().starts_with("STATUS  CHECK    RESULT"),
        "{ended:?}"
    );
    lines
        .map(|line| {
            let (status, rest) = line.split_once(' ').unwrap();
            let (check, result) = rest.trim_start().split_once(' ').unwrap();
            (status.to_owned(), check.to_owned(), result.trim_start().to_owned())
        })
        .collect()
}

/// The result of a check that ended like this.
fn check(ended: &Ended, status: &str, name: &str) -> String {
    let all = checks(ended);
    let found = all.iter().find(|(_, check, _)| check == name).unwrap();
    assert_eq!(found.0, status, "{all:#?}");
    found.2.clone()
}

fn statuses(ended: &Ended) -> String {
    checks(ended)
        .into_iter()
        .map(|(status, ..)| status.replace("SKIP", "-").replace("OK", "o"))
        .collect()
}

fn doctor(url: &str, more: &[&str]) -> Ended {
    let environment = [("AACTL_BROKER_URL", url), ("AACTL_ADMIN_SECRET", ADMIN_SECRET)];
    let ended = awrit(&environment, &[&["doctor"], more].concat());
    for text in [&ended.out, &ended.err] {
        assert!(!text.contains(ADMIN_SECRET) && !text.contains("eyJ"), "{ended:?}");
    }
    ended
}

#[test]
fn a_healthy_broker_passes_every_check() {
    let broker = RealBroker::new();
    let ended = doctor(&broker.url, &[]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    let names: Vec<String> = checks(&ended).into_iter().map(|(_, check, _)| check).collect();
    let wanted = [
        "url", "dns", "tcp", "tls", "http", "clock", "version", "store", "keys", "login", "audit",
    ];
    assert_eq!(names, wanted);
    assert_eq!(statuses(&ended), "ooo-ooooooo", "{ended:?}");
    let version = env!("CARGO_PKG_VERSION");
    let told = check(&ended, "OK", "version");
    assert_eq!(told, format!("awrit {version}, broker {version}, contract 2.0.0"));
    assert!(
        check(&ended, "OK", "audit").starts_with("intact from evt-000001 to "),
        "{ended:?}"
    );
    assert_eq!(doctor(&broker.url, &["--full"]).code, 0);

    let json = doctor(&broker.url, &["--json"]).json();
    assert_eq!((&json["ok"], &json["checks"][0]["name"]), (&true.into(), &"url".into()));
    assert_eq!(json["checks"][3]["status"], "skip");
}

#[test]
fn a_url_that_cannot_work_is_the_first_check_that_fails() {
    for (url, problem) in [
        ("127.0.0.1:8080", "has no scheme"),
        ("http://broker.invalid:8080/?a=b", "holds a query"),
    ] {
        let ended = doctor(url, &[]);
        assert_eq!(ended.error(), "Error: 1 of 11 checks failed");
        assert_eq!(statuses(&ended), "FAIL----------", "{ended:?}");
        let told = check(&ended, "FAIL", "url");
        assert!(
            told.contains(problem) && told.ends_with("-> correct AACTL_BROKER_URL"),
            "{told}"
        );
    }
}

#[test]
fn plain_http_to_another_host_is_a_warning_and_not_the_end() {
    let ended = doctor("http://broker.invalid:8080", &[]);
    assert_eq!(statuses(&ended), "WARNFAIL---------", "{ended:?}");
    assert!(check(&ended, "WARN", "url").contains("-> use https://"), "{ended:?}");
}

#[test]
fn without_a_secret_login_and_trail_are_skipped() {
    let broker = RealBroker::new();
    let ended = awrit(&[("AACTL_BROKER_URL", &broker.url)], &["doctor"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(statuses(&ended), "ooo-ooooo--", "{ended:?}");
    awrit(&[], &["doctor"]).failed("AACTL_BROKER_URL is not set");
}

#[test]
fn a_wrong_secret_and_a_store_in_memory_are_named() {
    let settings = [("AA_ADMIN_SECRET", "a-secret-of-the-brokers"), ("AA_DB_PATH", "")];
    let broker = RealBroker::with(&settings);
    let ended = doctor(&broker.url, &[]);
    assert_eq!(ended.error(), "Error: 1 of 11 checks failed");
    assert_eq!(statuses(&ended), "ooo-oooWARNoFAIL-", "{ended:?}");
    assert!(check(&ended, "FAIL", "login").ends_with("-> AACTL_ADMIN_SECRET is not the broker's secret"));
    assert!(check(&ended, "WARN", "store").starts_with("in memory only -> "));
}

#[test]
fn each_step_of_the_connection_is_told_apart() {
    let ended = doctor("https://broker.invalid", &[]);
    assert_eq!(
        (ended.code, statuses(&ended)),
        (1, "oFAIL---------".to_owned()),
        "{ended:?}"
    );
    assert!(check(&ended, "FAIL", "dns").starts_with("broker.invalid can't be resolved: "));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let ended = doctor(&format!("http://{address}"), &[]);
    assert_eq!(
        (ended.code, statuses(&ended)),
        (1, "ooFAIL--------".to_owned()),
        "{ended:?}"
    );
    assert!(
        check(&ended, "FAIL", "tcp").contains("nothing listens there"),
        "{ended:?}"
    );
    assert_eq!(check(&ended, "OK", "dns"), "127.0.0.1 is an address");

    // Something that takes connections and says nothing, for plain HTTP and for TLS.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ended = doctor(&format!("http://{address}"), &["--timeout", "1"]);
    assert_eq!(
        (ended.code, statuses(&ended)),
        (1, "ooo-FAIL------".to_owned()),
        "{ended:?}"
    );
    let ended = doctor(&format!("https://{address}"), &["--timeout", "1"]);
    assert_eq!(
        (ended.code, statuses(&ended)),
        (1, "oooFAIL-------".to_owned()),
        "{ended:?}"
    );

    let broker = FakeBroker::plain(|_, _, _| (200, "<html>".to_owned()));
    let ended = doctor(&broker.url, &[]);
    assert!(
        check(&ended, "FAIL", "http").ends_with("is AACTL_BROKER_URL the URL of a broker?"),
        "{ended:?}"
    );
}

#[test]
fn a_clock_that_is_off_is_measured() {
    for (date, status, result) in [
        (
            "Sat, 21 Nov 2020 07:00:00 GMT",
            "FAIL",
            " s ahead of the broker -> set both by NTP",
        ),
        (
            "Thu, 21 Nov 2120 07:00:00 GMT",
            "FAIL",
            " s behind the broker -> set both by NTP",
        ),
        ("not a date", "SKIP", "the broker sends no Date header"),
    ] {
        let broker = FakeBroker::dated(date, |call, _, _| match call {
            "GET /v1/health" => {
                let text =
                    r#"{"status":"ok","version":"3.0.0","uptime":1,"db_connected":false,"audit_events_count":0}"#;
                (200, text.to_owned())
            }
            "GET /readyz" => {
                let text =
                    r#"{"status":"unready","version":"9.9.9","failing":[{"dependency":"store","reason":"read_only"}]}"#;
                (503, text.to_owned())
            }
            "GET /.well-known/jwks.json" => (200, r#"{"keys":[]}"#.to_owned()),
            other => panic!("{other}"),
        });
        let ended = doctor(&broker.url, &[]);
        assert!(check(&ended, status, "clock").contains(result), "{ended:?}");
        assert!(
            check(&ended, "FAIL", "store").contains("store (read_only)"),
            "{ended:?}"
        );
        let version = check(&ended, "FAIL", "version");
        assert!(version.contains("broker 9.9.9, contract 3.0.0"), "{ended:?}");
        assert!(
            check(&ended, "FAIL", "keys").starts_with("no key is published"),
            "{ended:?}"
        );
        assert!(check(&ended, "SKIP", "audit").contains("no keys"), "{ended:?}");
    }
}

#[test]
fn a_broken_trail_is_named() {
    let broker = FakeBroker::plain(|call, _, _| match call.split('?').next().unwrap() {
        "GET /v1/health" => {
            let text = r#"{"status":"ok","version":"2.0.0","uptime":1,"db_connected":true,"audit_events_count":0}"#;
            (200, text.to_owned())
        }
        "GET /.well-known/jwks.json" => {
            let text = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA","kid":"k1"}]}"#;
            (200, text.to_owned())
        }
        "GET /v1/audit/events" if call.contains("event_type") => {
            (200, r#"{"events":[],"total":0,"offset":0,"limit":1}"#.to_owned())
        }
        "GET /v1/audit/events" => {
            let text = r#"{"events":[{"id":"evt-000002"}],"total":1,"offset":0,"limit":1000}"#;
            (200, text.to_owned())
        }
        _ => (404, String::new()),
    });
    let ended = doctor(&broker.url, &[]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        check(&ended, "FAIL", "audit").starts_with("broken at evt-000001: "),
        "{ended:?}"
    );
    let version = env!("CARGO_PKG_VERSION");
    let told = format!("awrit {version}, broker of a version that it doesn't show here, contract 2.0.0");
    assert_eq!(check(&ended, "OK", "version"), told);
}

#[test]
fn certificates_are_judged() {
    let folder = tempfile::tempdir().unwrap();
    let authority = CaFiles::new(folder.path(), "ca");
    let ca = authority.file();
    let in_three_days = SystemClock.now() + Duration::days(3);
    let (certificate, key) = authority.issue_with("localhost", |params| params.not_after = in_three_days);
    let settings = [
        ("AA_TLS_MODE", "mtls"),
        ("AA_TLS_CERT", &certificate),
        ("AA_TLS_KEY", &key),
        ("AA_TLS_CLIENT_CA", &ca),
    ];
    let (own, own_key) = authority.issue("operator");
    let other = CaFiles::new(folder.path(), "other").file();
    let broker = RealBroker::in_folder(folder, &settings);
    let own = ["--ca-cert", &ca, "--client-cert", &own, "--client-key", &own_key];
    let ended = doctor(&broker.url, &own);
    assert_eq!(
        (ended.code, statuses(&ended)),
        (0, "oooWARNooooooo".to_owned()),
        "{ended:?}"
    );
    let tls = check(&ended, "WARN", "tls");
    assert!(
        tls.starts_with("TLS 1.3, the certificate is trusted until ") && tls.contains("(2 days)"),
        "{tls}"
    );

    let ended = doctor(&broker.url, &["--ca-cert", &other]);
    let tls = check(&ended, "FAIL", "tls");
    assert!(
        tls.contains("an authority that isn't trusted -> give the CA of this installation"),
        "{tls}"
    );
    // In TLS 1.3 the refusal of a client comes after the handshake.
    let ended = doctor(&broker.url, &["--ca-cert", &ca]);
    let http = check(&ended, "FAIL", "http");
    assert!(http.ends_with("--client-cert and --client-key"), "{http}");
    let address = broker.url.replace("localhost", "127.0.0.1");
    let ended = doctor(&address, &own);
    let tls = check(&ended, "FAIL", "tls");
    assert!(
        tls.starts_with("the broker's certificate is not for \"127.0.0.1\" but for localhost"),
        "{tls}"
    );
}
