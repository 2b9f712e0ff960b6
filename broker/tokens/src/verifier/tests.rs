use super::*;
use crate::key_set::{KeyPair, KeySnapshot};
use agentwrit_protocol::Times;
use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::session::RevocationView;
use proptest::prelude::*;

fn verifier() -> (Arc<KeySet>, Verifier) {
    let keys = Arc::new(KeySet::of_seed(&[5; 32]).unwrap());
    let view = Arc::new(SharedRevocationView::unloaded());
    view.replace(RevocationView::loaded(UnixSeconds::default(), []));
    let clock = judging(&Arc::new(ManualClock::at(1000)));
    (Arc::clone(&keys), Verifier::new(keys, view, clock, String::new()))
}

fn judging(manual: &Arc<ManualClock>) -> Arc<JudgingClock> {
    let clock = JudgingClock::new(Arc::<ManualClock>::clone(manual));
    clock.load(None);
    Arc::new(clock)
}

#[test]
fn a_cached_signature_does_not_outlive_its_token() {
    let keys = Arc::new(KeySet::of_seed(&[5; 32]).unwrap());
    let view = Arc::new(SharedRevocationView::unloaded());
    view.replace(RevocationView::loaded(UnixSeconds::default(), []));
    let clock = Arc::new(ManualClock::at(1000));
    let verifier = Verifier::new(Arc::clone(&keys), view, judging(&clock), String::new());
    let token = keys.sign(br#"{"sub":"a","jti":"b","exp":1001}"#).unwrap();
    for _ in 0..2 {
        assert!(verifier.verify(&token).is_ok());
    }
    clock.advance(2);
    assert_eq!(verifier.verify(&token).unwrap_err(), TokenError::Expired);
}

#[test]
fn an_expired_token_stays_expired_whatever_the_wall_clock_does() {
    let keys = Arc::new(KeySet::of_seed(&[5; 32]).unwrap());
    let view = Arc::new(SharedRevocationView::unloaded());
    view.replace(RevocationView::loaded(UnixSeconds::default(), []));
    let clock = Arc::new(ManualClock::at(1000));
    let verifier = Verifier::new(Arc::clone(&keys), Arc::clone(&view), judging(&clock), String::new());
    let token = |jti: &str| {
        let text = format!(r#"{{"sub":"a","jti":"{jti}","exp":1100,"iat":990,"nbf":990}}"#);
        keys.sign(text.as_bytes()).unwrap()
    };
    let (seen, unseen) = (token("seen"), token("unseen"));
    // A day forward, for a moment.
    clock.jump(86_400);
    assert_eq!(verifier.verify(&seen).unwrap_err(), TokenError::Expired);
    clock.jump(-86_400);
    assert_eq!(verifier.verify(&seen).unwrap().state, TokenState::Renewed);
    assert_eq!(verifier.verify(&unseen).unwrap().state, TokenState::Active);
    // Set back, again and again: its life lasts as long as it would have.
    for _ in 0..100 {
        assert_eq!(verifier.verify(&unseen).unwrap().state, TokenState::Active);
        clock.advance(1);
        clock.jump(-1);
    }
    assert!(verifier.verify(&unseen).is_ok(), "its last second");
    clock.advance(1);
    assert_eq!(verifier.verify(&unseen).unwrap_err(), TokenError::Expired);
    // What the mark expires anyway needs no note.
    clock.advance(1);
    assert!(verifier.verify(&token("late")).is_err());
    for piece in 0..RevocationView::PIECES {
        view.prune_piece(piece, Times::at(UnixSeconds::new(2_000).start()));
    }
    clock.jump(-50);
    assert_eq!(verifier.verify(&token("late")).unwrap_err(), TokenError::Expired);
}

#[test]
fn long_tokens_are_verified_but_not_remembered() {
    let (keys, verifier) = verifier();
    let scope = "x".repeat(MAX_CACHED_BYTES);
    let token = keys
        .sign(format!(r#"{{"sub":"a","jti":"b","exp":1001,"scope":["{scope}"]}}"#).as_bytes())
        .unwrap();
    assert!(verifier.verify(&token).is_ok());
    assert!(verifier.cache().is_empty());
}

#[test]
fn an_issued_token_is_trusted_only_byte_for_byte() {
    let (keys, verifier) = verifier();
    let foreign = KeyPair::new(&[6; 32]).unwrap();
    // The header of our key, the signature of another: good only because it is remembered as ours.
    let ours = keys.sign(br#"{"sub":"a","jti":"b","exp":1001}"#).unwrap();
    let (message, _) = ours.rsplit_once('.').unwrap();
    let token = format!("{message}.{}", foreign.sign_detached(message).unwrap());
    assert_eq!(verifier.verify(&token).unwrap_err(), TokenError::Signature);
    verifier.issued(&token);
    assert!(verifier.verify(&token).is_ok());
    let other = format!("{message}.{}", foreign.sign_detached("x").unwrap());
    assert_eq!(verifier.verify(&other).unwrap_err(), TokenError::Signature);
}

#[test]
fn tokens_of_every_published_key_are_accepted_and_of_no_other() {
    let (keys, verifier) = verifier();
    let payload = br#"{"sub":"a","jti":"b","exp":1001}"#;
    let before = keys.sign(payload).unwrap();
    verifier.verify(&before).unwrap();
    let [old, new] = [5, 6].map(|seed| Arc::new(KeyPair::new(&[seed; 32]).unwrap()));
    let held = vec![Arc::clone(&new), Arc::clone(&old)];
    let published = |pairs: &[&Arc<KeyPair>]| pairs.iter().map(|pair| pair.public().clone()).collect();
    let next = new.sign(payload).unwrap();
    assert_eq!(verifier.verify(&next).unwrap_err(), TokenError::UnknownKey);
    // Published first: another replica may sign with it already.
    keys.replace(KeySnapshot::of(
        held.clone(),
        Some(&old),
        published(&[&new, &old]),
        old.kid(),
        [],
    ));
    assert!(verifier.verify(&next).is_ok() && keys.sign(payload).unwrap() == before);
    keys.replace(KeySnapshot::of(
        held.clone(),
        Some(&new),
        published(&[&new, &old]),
        new.kid(),
        [],
    ));
    assert!(verifier.verify(&before).is_ok() && keys.sign(payload).unwrap() == next);
    // Signed by one key under the name of the other.
    let (message, _) = next.rsplit_once('.').unwrap();
    let mixed = format!("{message}.{}", old.sign_detached(message).unwrap());
    assert_eq!(verifier.verify(&mixed).unwrap_err(), TokenError::Signature);
    keys.replace(KeySnapshot::of(
        held,
        Some(&new),
        published(&[&new]),
        new.kid(),
        [old.public().clone()],
    ));
    verifier.forget();
    assert_eq!(verifier.verify(&before).unwrap_err(), TokenError::UnknownKey);
    let statement = old.sign_detached("x").unwrap();
    let check = agentwrit_protocol::audit::CheckpointKeys::check;
    let valid = agentwrit_protocol::audit::SignatureCheck::Valid;
    assert_eq!(
        check(keys.as_ref(), old.kid(), "x", &statement),
        valid,
        "for the trail it counts"
    );
}

#[test]
fn a_token_without_a_kid_is_of_the_active_key() {
    let (keys, verifier) = verifier();
    let [old, new] = [5, 6].map(|seed| Arc::new(KeyPair::new(&[seed; 32]).unwrap()));
    let public = vec![new.public().clone(), old.public().clone()];
    keys.replace(KeySnapshot::of(
        vec![Arc::clone(&new)],
        Some(&new),
        public,
        new.kid(),
        [],
    ));
    for (pair, accepted) in [(&new, true), (&old, false)] {
        let encode = |text: &[u8]| URL_SAFE_NO_PAD.encode(text);
        let header = encode(br#"{"alg":"EdDSA"}"#);
        let message = format!("{header}.{}", encode(br#"{"sub":"a","jti":"b","exp":1001}"#));
        let token = format!("{message}.{}", pair.sign_detached(&message).unwrap());
        assert_eq!(verifier.verify(&token).is_ok(), accepted);
    }
}

#[test]
fn the_payload_is_what_was_signed() {
    let (keys, verifier) = verifier();
    let payload = br#"{"sub":"a","jti":"b","exp":1001,"more":{"x":1}}"#;
    let token = keys.sign(payload).unwrap();
    let mut written = b"before ".to_vec();
    verifier.verify(&token).unwrap().write_payload(&token, &mut written);
    assert_eq!(written, [b"before ".as_slice(), payload].concat());
}

#[test]
fn a_payload_that_is_no_text_is_no_token() {
    let (keys, verifier) = verifier();
    let token = keys
        .sign(b"{\"sub\":\"a\",\"jti\":\"b\",\"exp\":1001,\"more\":\"\xd3\"}")
        .unwrap();
    assert_eq!(verifier.verify(&token).unwrap_err(), TokenError::Malformed);
}

#[test]
fn an_invalid_delegation_chain_is_refused_despite_signature() {
    let (keys, verifier) = verifier();
    let token = keys
        .sign(br#"{"sub":"a","jti":"b","exp":1001,"sid":"s","chain_hash":"x"}"#)
        .unwrap();
    assert_eq!(
        verifier.verify(&token).unwrap_err(),
        TokenError::Chain(ChainError::Incomplete)
    );
}

proptest! {
    #[test]
    fn no_text_is_a_token_of_ours(text in "[A-Za-z0-9_.=-]{0,120}") {
        prop_assert!(verifier().1.verify(&text).is_err());
    }

    #[test]
    fn no_changed_character_goes_unseen(position in 0_usize..200, letter in "[A-Za-z0-9_-]") {
        let (keys, verifier) = verifier();
        let token = keys.sign(br#"{"sub":"a","jti":"b","exp":1001,"scope":["read:data:x"]}"#).unwrap();
        let at = position % token.len();
        let mut changed = token.clone();
        changed.replace_range(at..=at, &letter);
        prop_assert_eq!(verifier.verify(&changed).is_ok(), changed == token);
    }
}
