//! Bodies made up by proptest, read by the product and by the reference.

use agentwrit_protocol::go_json::to_line;
use agentwrit_protocol::k8s::{PutApp, PutLaunchToken};
use agentwrit_protocol::wire::{LaunchTokenRequest, RegisterRequest};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;

type Body = Vec<u8>;

/// What a member is to be.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Number,
    Flag,
    Texts,
    State,
    Object(&'static [(&'static str, Kind)]),
}

const LAUNCH: Kind = Kind::Object(&[
    ("agent_name", Kind::Text),
    ("allowed_scope", Kind::Texts),
    ("max_ttl", Kind::Number),
    ("single_use", Kind::Flag),
    ("ttl", Kind::Number),
]);
const REGISTER: Kind = Kind::Object(&[
    ("launch_token", Kind::Text),
    ("nonce", Kind::Text),
    ("orch_id", Kind::Text),
    ("requested_scope", Kind::Texts),
    ("requested_ttl", Kind::Number),
]);
const ORDER: Kind = Kind::Object(&[("lease_epoch", Kind::Number), ("sequence", Kind::Number)]);
const APP: Kind = Kind::Object(&[
    ("uid", Kind::Text),
    ("generation", Kind::Number),
    ("order", ORDER),
    ("state", Kind::State),
    ("reason", Kind::Text),
    (
        "spec",
        Kind::Object(&[("scopes", Kind::Texts), ("max_agent_ttl_seconds", Kind::Number)]),
    ),
]);
const LAUNCH_TOKEN: Kind = Kind::Object(&[
    ("uid", Kind::Text),
    ("generation", Kind::Number),
    ("order", ORDER),
    ("state", Kind::State),
    (
        "spec",
        Kind::Object(&[
            ("app", Kind::Text),
            ("agent_name", Kind::Text),
            ("allowed_scopes", Kind::Texts),
            ("max_ttl_seconds", Kind::Number),
            ("service_account_names", Kind::Texts),
        ]),
    ),
]);

fn words(words: &'static [&'static str]) -> BoxedStrategy<Body> {
    select(words).prop_map(|word| word.as_bytes().to_vec()).boxed()
}

/// Text between quotes, good and broken.
fn text() -> BoxedStrategy<Body> {
    const PIECES: [&[u8]; 17] = [
        b"a",
        b"read:data:x",
        "é😀".as_bytes(),
        b"\xff",
        b"\xe2\x82",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"\\udc00",
        b"\\ud83d\\ude00",
        b"\\uD83D",
        b"\\u0041",
        b"\\u0000",
        b"\\n",
        b"\\\\",
        b"\\\"",
        b"\\/",
        b"ud800",
    ];
    vec(select(&PIECES[..]), 0..5)
        .prop_map(|pieces| [b"\"", pieces.concat().as_slice(), b"\""].concat())
        .boxed()
}

fn list(item: BoxedStrategy<Body>) -> BoxedStrategy<Body> {
    vec(item, 0..4)
        .prop_map(|items| [b"[", items.join(&b" , "[..]).as_slice(), b"]"].concat())
        .boxed()
}

fn object(members: impl Strategy<Value = Vec<(&'static str, Body)>> + 'static) -> BoxedStrategy<Body> {
    members
        .prop_map(|members| {
            let members: Vec<Body> = members
                .iter()
                .map(|(name, value)| [b"\"", name.as_bytes(), b"\" : ", value].concat())
                .collect();
            [b"{", members.join(&b",\n"[..]).as_slice(), b"}"].concat()
        })
        .boxed()
}

/// Any JSON; no number that only the reference refuses.
fn anything() -> BoxedStrategy<Body> {
    const SCALARS: &[&str] = &[
        "null",
        "true",
        "0",
        "1.5",
        "3e1",
        "9223372036854775808",
        "-9223372036854775809",
    ];
    prop_oneof![words(SCALARS), text()]
        .prop_recursive(3, 12, 3, |inner| {
            let inner = inner.boxed();
            let names = select(&["uid", "ttl", "x", "", "\\ud800"][..]);
            prop_oneof![list(inner.clone()), object(vec((names, inner), 0..3))]
        })
        .boxed()
}

/// A value of this kind, most of the time.
fn value(kind: Kind) -> BoxedStrategy<Body> {
    const NUMBERS: &[&str] = &["0", "1", "-7", "300", "9223372036854775807", "-9223372036854775808"];
    let fitting = match kind {
        Kind::Text => text(),
        Kind::Number => words(NUMBERS),
        Kind::Flag => words(&["true", "false"]),
        Kind::Texts => list(text()),
        Kind::State => words(&["\"ready\"", "\"not_ready\"", "\"suspende\\u0064\""]),
        Kind::Object(members) => return object(all(members)),
    };
    prop_oneof![40 => fitting, 1 => words(&["null"]), 1 => anything()].boxed()
}

/// The members in any order, some twice or with an escape in the name, and others between them.
fn all(members: &'static [(&'static str, Kind)]) -> BoxedStrategy<Vec<(&'static str, Body)>> {
    let mut some: BoxedStrategy<Vec<(&'static str, Body)>> = Just(Vec::new()).boxed();
    for (name, kind) in members {
        let times = |times: usize| vec(value(*kind), times);
        let values = prop_oneof![1 => times(0), 12 => times(1), 1 => times(2)];
        some = (some, values)
            .prop_map(move |(mut some, values)| {
                some.extend(values.into_iter().map(|value| (*name, value)));
                some
            })
            .boxed();
    }
    let other = select(&["x", "tt\\u006c", "ui\\u0064", "TTL", "", "\\ud800", "spec "][..]);
    (some, vec((other, anything()), 0..3))
        .prop_map(|(mut some, others)| {
            some.extend(others);
            some
        })
        .prop_shuffle()
        .boxed()
}

/// The body, and what may follow it.
fn body(kind: Kind) -> impl Strategy<Value = Body> {
    let ends: &[&[u8]] = &[b"", b"", b" \r\n", b" x", b"}", b",", b"null", b"\xff"];
    (value(kind), select(ends)).prop_map(|(body, end)| [body.as_slice(), end].concat())
}

/// One byte of it changed, left out or added.
fn broken(kind: Kind) -> impl Strategy<Value = Body> {
    let byte = select(&b"\"\\{}[],: 1u\x01\xff\xe2a\n"[..]);
    (body(kind), any::<prop::sample::Index>(), 0..3, byte).prop_map(|(mut body, at, change, byte)| {
        let at = at.index(body.len());
        match change {
            0 => body[at] = byte,
            1 => drop(body.remove(at)),
            _ => body.insert(at, byte),
        }
        body
    })
}

fn read_alike<T: DeserializeOwned + Serialize>(body: &[u8]) -> Result<(), TestCaseError> {
    for trailing in [Trailing::Ignored, Trailing::Refused] {
        let product = read::<T>(body, trailing).ok().map(|value| to_line(&value));
        let wanted = reference::read::<T>(body, trailing).map(|value| to_line(&value));
        prop_assert_eq!(product, wanted, "{:?}: {}", trailing, body.escape_ascii());
    }
    Ok(())
}

proptest! {
    #[test]
    fn bodies_are_read_as_the_reference_reads_them(
        launch in body(LAUNCH), register in body(REGISTER), app in body(APP), launch_token in body(LAUNCH_TOKEN)
    ) {
        read_alike::<LaunchTokenRequest>(&launch)?;
        read_alike::<RegisterRequest>(&register)?;
        read_alike::<PutApp>(&app)?;
        read_alike::<PutLaunchToken>(&launch_token)?;
    }

    #[test]
    fn broken_bodies_are_broken_for_the_reference_too(launch in broken(LAUNCH), app in broken(APP)) {
        read_alike::<LaunchTokenRequest>(&launch)?;
        read_alike::<PutApp>(&app)?;
    }

    #[test]
    fn any_json_is_read_as_the_reference_reads_it(anything in anything()) {
        read_alike::<LaunchTokenRequest>(&anything)?;
    }

    #[test]
    fn texts_in_place_are_the_texts_that_are_copied(body in body(REGISTER)) {
        #[derive(Deserialize, Serialize)]
        struct InPlace<'a> {
            nonce: Option<&'a str>,
        }
        if let Ok(place) = read::<InPlace<'_>>(&body, Trailing::Ignored) {
            let value = reference::read::<serde_json::Map<String, serde_json::Value>>(&body, Trailing::Ignored).unwrap();
            prop_assert_eq!(place.nonce, value.get("nonce").and_then(serde_json::Value::as_str));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body in vec(any::<u8>(), 0..200)) {
        let _ = read::<LaunchTokenRequest>(&body, Trailing::Ignored);
    }

    #[test]
    fn mending_leaves_good_json_as_it_is(text in r#"(\\\\u?|[ud]|[0-9a-fA-F]|"|é|😀|x){0,40}"#) {
        let body = format!("{{\"a\":\"{text}\"}}");
        if let Ok(before) = serde_json::from_str::<serde_json::Value>(&body) {
            let after: serde_json::Value = serde_json::from_str(&reference::mend_surrogates(&body)).unwrap();
            prop_assert_eq!(before, after);
        }
    }
}

/// Bodies that nothing can be read of would be alike too.
#[test]
fn many_of_the_bodies_that_are_compared_can_be_read() {
    fn readable<T: DeserializeOwned>(kind: Kind) -> usize {
        let mut runner = TestRunner::deterministic();
        let body = body(kind);
        let made = (0..200).map(|_| body.new_tree(&mut runner).unwrap().current());
        made.filter(|body| read::<T>(body, Trailing::Ignored).is_ok()).count()
    }
    assert!(readable::<LaunchTokenRequest>(LAUNCH) > 100);
    assert!(readable::<RegisterRequest>(REGISTER) > 100);
    assert!(readable::<PutApp>(APP) > 20);
    assert!(readable::<PutLaunchToken>(LAUNCH_TOKEN) > 20);
}
