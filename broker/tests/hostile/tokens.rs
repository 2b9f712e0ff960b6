//! Forged tokens, keys that prove nothing, replays.

use agentwrit_testkit::{Harness, registration};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

#[tokio::test]
async fn no_forged_token_is_valid() {
    let harness = Harness::new().await;
    let (_, token) = harness.agent(json!({})).await;
    let parts: Vec<&str> = token.split('.').collect();
    let jwks = harness.get("/.well-known/jwks.json").await.json();
    let x = jwks["keys"][0]["x"].as_str().unwrap().to_owned();
    let kid = jwks["keys"][0]["kid"].as_str().unwrap().to_owned();
    let header = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let hs256 = |key: &[u8]| {
        let message = format!(
            "{}.{}",
            header(json!({"alg": "HS256", "typ": "JWT", "kid": kid})),
            parts[1]
        );
        let mac = sign(&Key::new(HMAC_SHA256, key), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac))
    };
    let with_header = |value: serde_json::Value, signature: &str| format!("{}.{}.{signature}", header(value), parts[1]);
    let last = |from: &str| {
        // Another last character that decodes to the same bytes, were decoding lenient.
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let (rest, end) = from.split_at(from.len() - 1);
        let at = alphabet.find(end).unwrap();
        format!("{rest}{}", &alphabet[at + 1..at + 2])
    };
    let forged = [
        with_header(json!({"alg": "none", "typ": "JWT"}), ""),
        with_header(json!({"alg": "none", "typ": "JWT", "kid": kid}), parts[2]),
        with_header(json!({"alg": "None", "typ": "JWT"}), parts[2]),
        with_header(json!({"alg": "EdDSA", "typ": "JWT", "kid": "other"}), parts[2]),
        with_header(
            json!({"alg": "EdDSA", "typ": "JWT", "kid": "../../etc/passwd"}),
            parts[2],
        ),
        with_header(
            json!({"alg": "EdDSA", "typ": "JWT", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}}),
            parts[2],
        ),
        hs256(x.as_bytes()),
        hs256(&URL_SAFE_NO_PAD.decode(&x).unwrap()),
        format!("{}.{}.{}", parts[0], parts[1], last(parts[2])),
        format!("{token}="),
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        format!("{}.{}.{}\n", parts[0], parts[1], parts[2]),
        format!(" {token}"),
        format!("{token}."),
        format!("{}..{}", parts[0], parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        "..".to_owned(),
        "\u{0}.\u{202e}.\u{ffff}".to_owned(),
        "a".repeat(500_000),
    ];
    for forged in forged {
        let answer = harness
            .post("/v1/token/validate", json!({ "token": forged }).to_string())
            .await;
        assert_eq!(answer.ok()["error"], "token is invalid or expired", "{forged:.80}");
    }
    assert!(harness.stands(&token).await);
}

#[tokio::test]
async fn keys_of_small_order_prove_nothing() {
    let harness = Harness::new().await;
    let launch_token = harness.launch(json!({"single_use": false})).await;
    // The eight points of small order and other encodings of some of them.
    let keys = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ];
    for key in keys {
        for signature in [[0_u8; 64].to_vec(), [hex::decode(key).unwrap(), vec![0; 32]].concat()] {
            let changes = json!({
                "public_key": STANDARD.encode(hex::decode(key).unwrap()),
                "signature": STANDARD.encode(signature),
            });
            let answer = harness.register(&launch_token, changes).await;
            assert_eq!(answer.status, 401, "{key}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn encodings_that_are_not_canonical_and_replays_are_refused() {
    let harness = Harness::new().await;
    let launch_token = harness.launch(json!({"single_use": false})).await;
    let good = harness.registration(&launch_token, json!({})).await;
    let text = |name: &str| good[name].as_str().unwrap().to_owned();
    for (name, value) in [
        ("public_key", text("public_key").trim_end_matches('=').to_owned()),
        ("signature", text("signature").trim_end_matches('=').to_owned()),
        ("nonce", text("nonce").to_uppercase()),
        ("nonce", format!("{} ", text("nonce"))),
        ("launch_token", launch_token.to_uppercase()),
    ] {
        let mut body = harness.registration(&launch_token, json!({})).await;
        body[name] = value.clone().into();
        let answer = harness.post("/v1/register", body.to_string()).await;
        assert_eq!(answer.status, 401, "{name} {value}: {answer:?}");
    }
    assert_eq!(harness.post("/v1/register", good.to_string()).await.status, 200);
    assert_eq!(
        harness.post("/v1/register", good.to_string()).await.status,
        401,
        "the same request again"
    );
    let replay = registration(&launch_token, &text("nonce"), json!({"task_id": "another"}));
    assert_eq!(
        harness.post("/v1/register", replay.to_string()).await.status,
        401,
        "the nonce again"
    );
}
