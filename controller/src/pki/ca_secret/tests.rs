use agentwrit_protocol::Ttl;
use time::OffsetDateTime;

use super::super::{MANAGED_BY, MANAGER, our_metadata};
use super::*;

const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);

fn make() -> Result<PemPair, PkiError> {
    made_at(NOW)
}

fn made_at(second: UnixSeconds) -> Result<PemPair, PkiError> {
    Authority::generate("a", OffsetDateTime::from_unix_timestamp(second.get()).unwrap())
}

fn cas() -> Cas {
    Cas::new(make().unwrap())
}

/// One whose CA has expired.
fn expired() -> Cas {
    Cas::new(made_at(NOW - Ttl::seconds(4000 * 86_400)).unwrap())
}

/// As the API server stores it.
fn stored(cas: &Cas) -> Secret {
    let mut secret = json!({"metadata": {"labels": {MANAGED_BY: MANAGER}}});
    json_patch::merge(&mut secret, &patch(cas, "7"));
    serde_json::from_value(secret).unwrap()
}

fn with(cas: &Cas, entries: &[(&str, &str)]) -> Secret {
    let mut secret = stored(cas);
    for (name, value) in entries {
        let value = ByteString(value.as_bytes().to_vec());
        secret.data.as_mut().unwrap().insert((*name).to_owned(), value);
    }
    secret
}

fn annotated(cas: &Cas, name: &str) -> Secret {
    let mut secret = stored(cas);
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.insert(name.to_owned(), "now".to_owned());
    secret
}

const fn recent(cas: &Cas) -> Memory<'_> {
    let is_recent = true;
    Memory { cas, is_recent }
}

const fn old(cas: &Cas) -> Memory<'_> {
    let is_recent = false;
    Memory { cas, is_recent }
}

fn repair<'a>(secret: Option<&Secret>, memory: impl Into<Option<Memory<'a>>>) -> Option<Repair> {
    Found::read(secret, NOW).repair(memory.into(), NOW, make).unwrap()
}

fn repaired<'a>(secret: Option<&Secret>, memory: impl Into<Option<Memory<'a>>>) -> (Cas, String) {
    let repair = repair(secret, memory).unwrap();
    (repair.cas, repair.told.map_or_else(String::new, |told| told.what))
}

#[test]
fn what_is_stored_reads_back_and_is_left_alone() {
    let mut cas = cas();
    for (next, previous, settled_at) in [
        (true, 0, None),
        (true, 2, Some(NOW)),
        (false, 1, Some(NOW)),
        (false, 0, None),
    ] {
        cas.next = next.then(|| make().unwrap());
        cas.previous = (0..previous).map(|_| make().unwrap().certificate).collect();
        cas.settled_at = settled_at;
        for secret in [stored(&cas), secret(&cas, our_metadata("a", "agentwrit-ca"))] {
            for memory in [None, Some(recent(&cas))] {
                assert!(repair(Some(&secret), memory).is_none());
            }
            let read = Found::read(Some(&secret), NOW).usable(None, NOW).unwrap();
            assert_eq!(read, cas);
        }
    }
}

#[test]
fn a_deleted_or_broken_ca_goes_on_and_is_followed() {
    let cas = cas();
    let other = make().unwrap();
    let broken = [
        with(&cas, &[("tls.key", "")]),
        with(&cas, &[("tls.key", other.key())]),
        with(&cas, &[("tls.crt", "garbage"), ("ca.crt", "garbage")]),
        stored(&expired()),
    ];
    for secret in std::iter::once(None).chain(broken.iter().map(Some)) {
        let (healed, told) = repaired(secret, recent(&cas));
        assert_eq!(healed.signing, cas.signing);
        assert!(healed.next.is_some(), "another one was wanted");
        assert!(told.contains("was written back"), "{told}");
        assert_eq!(
            repaired(secret, old(&cas)).0.signing,
            cas.signing,
            "nobody knows better"
        );
    }
    for (secret, wanted) in broken.iter().zip(["key", "key", "certificate"]) {
        let (anew, told) = repaired(Some(secret), None);
        assert!(anew.signing != cas.signing && anew.next.is_none());
        assert!(
            told.contains("a new one signs at once") && told.contains(wanted),
            "{told}"
        );
    }
    let (anew, _) = repaired(Some(&broken[0]), None);
    assert!(
        anew.knows(&cas.signing.certificate),
        "what it signed is trusted for a while"
    );
    let installed = repair(None, None).unwrap();
    assert!(installed.told.is_none(), "nothing was wrong");
}

#[test]
fn a_key_that_works_is_never_given_up() {
    let mut cas = cas();
    cas.previous = vec![make().unwrap().certificate];
    let secret = with(&cas, &[("tls.crt", "garbage")]);
    for memory in [None, Some(recent(&cas))] {
        let (healed, told) = repaired(Some(&secret), memory);
        assert_eq!(healed.signing, cas.signing, "its certificate stands in ca.crt, too");
        assert!(healed.next.is_none() && told.contains("tls.crt"), "{told}");
        assert_eq!(healed.previous, cas.previous);
    }
}

#[test]
fn what_else_is_broken_comes_from_memory_or_what_is_trusted() {
    let mut cas = cas();
    cas.next = Some(make().unwrap());
    cas.previous = vec![make().unwrap().certificate];
    cas.settled_at = Some(NOW);
    let secret = with(&cas, &[("next.key", "garbage"), ("previous.crt", "garbage")]);
    let (healed, told) = repaired(Some(&secret), recent(&cas));
    assert!(told.contains("next.key") && told.contains("previous.crt"), "{told}");
    assert_eq!(healed.settled_at, None, "others may have lost it, too");
    assert_eq!((&healed.next, &healed.previous), (&cas.next, &cas.previous));
    let (healed, _) = repaired(Some(&secret), None);
    assert!(healed.next.is_none() && healed.knows(&cas.previous[0]));
    assert_eq!(healed.signing, cas.signing);
}

#[test]
fn an_expired_ca_isnt_restored_from_memory() {
    let old = expired();
    let (healed, _) = repaired(None, recent(&old));
    assert!(healed.signing != old.signing && !healed.knows(&old.signing.certificate));
    assert!(repair(Some(&stored(&old)), recent(&old)).is_none(), "another step's");
}

#[test]
fn one_put_there_by_hand_is_announced_before_it_signs() {
    let (used, new) = (cas(), make().unwrap());
    let by_hand = with(&used, &[("tls.crt", new.certificate()), ("tls.key", new.key())]);
    let restored = stored(&Cas::new(new.clone()));
    for secret in [&by_hand, &restored] {
        let (healed, told) = repaired(Some(secret), recent(&used));
        assert_eq!((&healed.signing, healed.next.as_ref()), (&used.signing, Some(&new)));
        assert!(told.contains("by hand"), "{told}");
    }
    // Who has slept can't tell a CA that was put there from one that has followed since.
    assert!(repair(Some(&restored), old(&used)).is_none());
    assert_eq!(repaired(Some(&by_hand), old(&used)).0.signing, used.signing);
    // A replica that doesn't write waits for the leader.
    let read = |secret, memory| Found::read(Some(secret), NOW).usable(memory, NOW);
    assert!(read(&by_hand, Some(recent(&used))).is_none() && read(&restored, Some(recent(&used))).is_some());
    assert!(read(&stored(&expired()), None).is_none());
    // Nobody has anything in use.
    let (first, told) = repaired(Some(&by_hand), None);
    assert_eq!((first.signing, told), (new, String::new()));
}

#[test]
fn a_wish_is_met_once() {
    let cas = cas();
    let Found::Usable(found) = Found::read(Some(&annotated(&cas, ROTATE)), NOW) else {
        panic!("usable")
    };
    assert!(found.asked.another && !found.asked.at_once);
    let mut announced = cas.clone();
    announced.next = Some(make().unwrap());
    assert_eq!(
        patch(&announced, "8")["metadata"]["annotations"].get(ROTATE),
        Some(&Value::Null)
    );
    assert!(
        repair(Some(&annotated(&announced, PROMOTE)), None).is_none(),
        "it is due"
    );
    let stray = annotated(&cas, PROMOTE);
    let (cleared, told) = repaired(Some(&stray), None);
    assert_eq!((&cleared, told), (&cas, String::new()));
    assert_eq!(
        patch(&cleared, "8")["metadata"]["annotations"].get(PROMOTE),
        Some(&Value::Null)
    );
}

#[test]
fn one_of_a_version_before_gets_what_it_lacks() {
    let cas = cas();
    let mut secret = stored(&cas);
    secret.metadata.annotations = None;
    secret.data.as_mut().unwrap().remove(BUNDLE);
    let (completed, told) = repaired(Some(&secret), None);
    assert_eq!((&completed, told), (&cas, String::new()));
    assert!(repair(Some(&stored(&completed)), None).is_none());
}

#[test]
fn no_more_is_trusted_than_two_that_signed_before() {
    let cas = cas();
    let many: String = (0..5).map(|_| make().unwrap().certificate).collect();
    let gone = expired().signing.certificate;
    let read = |text: &str| Found::read(Some(&with(&cas, &[("previous.crt", text)])), NOW);
    assert_eq!(read(&many).usable(None, NOW).unwrap().previous.len(), MAX_PREVIOUS);
    assert!(
        read(&gone).usable(None, NOW).unwrap().previous.is_empty(),
        "it has expired"
    );
}
