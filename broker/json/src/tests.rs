//! What is read of a body, by tables and against the reference.

use agentwrit_protocol::k8s::PutApp;
use agentwrit_protocol::wire::LaunchTokenRequest;

use super::raw::MOST_ITEMS;
use super::*;
use serde::de::DeserializeOwned;

fn parsed(body: &[u8]) -> Option<LaunchTokenRequest> {
    read(body, Trailing::Ignored).ok()
}

fn refusal<T: DeserializeOwned>(body: &str) -> String {
    match read::<T>(body.as_bytes(), Trailing::Refused) {
        Ok(_) => panic!("it can be read: {body}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn values_other_than_objects_are_malformed_and_null_is_empty() {
    for bad in [
        "",
        "{",
        "not-json",
        "[]",
        "\"x\"",
        "5",
        "nullx",
        "null\0",
        "\u{feff}{}",
        "{\"agent_name\":\"a\u{1}\"}",
        "{\"ttl\":\"30\"}",
        "{\"x\":01}",
        "{\"x\":\"\\x\"}",
        "{\"agent_name\":\"\\u12é\"}",
        "[\"a\",[\"read:data:x\"],null,null,null]",
    ] {
        assert!(parsed(bad.as_bytes()).is_none(), "{bad:?}");
    }
    for empty in ["null", " null \n", "null{", "{\"agent_name\":null,\"x\":1}"] {
        let request = parsed(empty.as_bytes()).unwrap();
        assert!(request.agent_name.is_none(), "{empty}");
    }
}

#[test]
fn integers_as_floats_and_out_of_range_are_malformed() {
    for bad in [
        "30.0",
        "3e1",
        "1.5",
        "9223372036854775808",
        "-9223372036854775809",
        "-0.0",
        "1e400",
        "true",
        "[]",
    ] {
        assert!(parsed(format!("{{\"ttl\":{bad}}}").as_bytes()).is_none(), "{bad}");
    }
    for (good, wanted) in [
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
        ("-0", 0),
    ] {
        let request = parsed(format!("{{\"ttl\":{good}}}").as_bytes()).unwrap();
        assert_eq!(request.ttl, Some(wanted));
    }
}

#[test]
fn the_last_of_several_members_counts_whatever_the_others_are() {
    for (body, wanted) in [
        ("{\"ttl\":1,\"ttl\":2}", Some(2)),
        ("{\"ttl\":\"x\",\"ttl\":2}", Some(2)),
        ("{\"ttl\":1,\"tt\\u006c\":2}", Some(2)),
        ("{\"ttl\":1,\"ttl\":null}", None),
        ("{\"TTL\":1,\"ttl \":2,\"tt\":3}", None),
    ] {
        assert_eq!(parsed(body.as_bytes()).unwrap().ttl, wanted, "{body}");
    }
    assert!(parsed(b"{\"ttl\":1,\"ttl\":\"x\"}").is_none());
}

#[test]
fn unknown_members_are_ignored_whatever_their_value() {
    let deep = format!("{}1{}", "[".repeat(9000), "]".repeat(9000));
    for ignored in [
        "1e999",
        "\"\\ud800\\u0000\"",
        "{\"ttl\":[null,{\"ttl\":\"x\"}]}",
        "123456789012345678901234567890",
        &deep,
    ] {
        let request = parsed(format!("{{\"x\":{ignored},\"ttl\":7,\"y\":{ignored}}}").as_bytes());
        assert_eq!(request.unwrap().ttl, Some(7), "{}", &ignored[..10.min(ignored.len())]);
    }
    assert_eq!(parsed(b"{\"\xff\":\"\xff\",\"ttl\":7}").unwrap().ttl, Some(7));
}

#[test]
fn deep_nesting_is_malformed_not_a_crash() {
    for depth in [10_001, 20_000, 300_000] {
        for name in ["x", "agent_name", "allowed_scope"] {
            let body = format!("{{\"{name}\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
            assert!(parsed(body.as_bytes()).is_none());
        }
    }
}

#[test]
fn trailing_bytes_count_only_where_they_must() {
    let reads = |body: &[u8], trailing| read::<LaunchTokenRequest>(body, trailing).is_ok();
    for body in ["{} x", "{}{}", "{}}", "null,", "{}\0"] {
        assert!(reads(body.as_bytes(), Trailing::Ignored), "{body:?}");
        assert!(!reads(body.as_bytes(), Trailing::Refused), "{body:?}");
    }
    assert!(reads(b"{} \r\n\t", Trailing::Refused) && reads(b"null ", Trailing::Refused));
}

#[test]
fn a_list_of_too_many_items_is_refused_by_name() {
    let list = |count: usize| vec!["\"a:b:c\""; count].join(",");
    let body = |count: usize| format!("{{\"allowed_scope\":[{}]}}", list(count));
    let scopes = parsed(body(MOST_ITEMS).as_bytes()).unwrap().allowed_scope.unwrap();
    assert_eq!(scopes.len(), MOST_ITEMS);
    let error = read::<LaunchTokenRequest>(body(MOST_ITEMS + 1).as_bytes(), Trailing::Ignored).unwrap_err();
    assert_eq!(error.brief(), "allowed_scope must have at most 4096 items");
    // No list of scopes that an endpoint accepts, 32 KiB of JSON, is that long.
    assert!(format!("[{}]", list(MOST_ITEMS)).len() > 32 * 1024);
}

#[test]
fn a_member_of_the_wrong_type_is_named() {
    let good = r#"{"uid":"u","generation":1,"order":{"lease_epoch":1,"sequence":2},"state":"ready","spec":{"scopes":["a:b:c"],"max_agent_ttl_seconds":60}}"#;
    assert!(read::<PutApp>(good.as_bytes(), Trailing::Refused).is_ok());
    for (from, to, problem) in [
        ("\"u\"", "5", "uid must be a string, not a number"),
        ("\"u\"", "null", "uid is required"),
        (
            "\"generation\":1",
            "\"generation\":1.5",
            "generation must be a whole number, not a number with a fraction or an exponent",
        ),
        (
            "\"generation\":1",
            "\"generation\":99999999999999999999",
            "generation must be a whole number from -2^63 to 2^63-1",
        ),
        ("\"sequence\":2", "\"x\":2", "order.sequence is required"),
        ("\"sequence\":2", "\"sequence\":null", "order.sequence is required"),
        (
            "\"sequence\":2",
            "\"sequence\":\"2\"",
            "order.sequence must be a whole number, not a string",
        ),
        (
            "\"ready\"",
            "\"maybe\"",
            "state must be ready or not_ready or suspended, not \"maybe\"",
        ),
        ("\"ready\"", "{}", "state must be a string, not an object"),
        ("[\"a:b:c\"]", "\"a:b:c\"", "spec.scopes must be an array, not a string"),
        (
            "[\"a:b:c\"]",
            "[\"a:b:c\",true]",
            "spec.scopes[1] must be a string, not true",
        ),
        (
            "{\"lease_epoch\":1,\"sequence\":2}",
            "[1,2]",
            "order must be an object, not an array",
        ),
    ] {
        let body = good.replace(from, to);
        assert_ne!(body, good);
        assert_eq!(refusal::<PutApp>(&body), format!("malformed body: {problem}"));
    }
    assert_eq!(refusal::<PutApp>("[]"), "malformed JSON body");
}

/// Serde reads these into a tree of its own before it knows what they are.
#[test]
fn a_type_that_would_keep_a_tree_is_never_read() {
    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    enum Either {
        #[allow(dead_code, reason = "only read")]
        Text(String),
    }
    #[derive(Debug, Deserialize)]
    struct Flat {
        #[allow(dead_code, reason = "only read")]
        #[serde(flatten)]
        inner: Inner,
    }
    #[derive(Debug, Deserialize)]
    struct Inner {}
    let body = Raw::new(b"{\"a\":\"b\"}");
    assert!(Raw::new(b"\"a\"").read::<Either>().is_err());
    assert!(body.read::<Flat>().is_err());
    assert!(body.read::<serde_json::Value>().is_err());
    assert!(body.read::<std::collections::HashMap<String, String>>().is_err());
}
