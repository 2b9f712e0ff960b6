//! What the client shows of a token file.
#![allow(clippy::unwrap_used)]

use agentwrit_demo::client::{TokenFileError, read};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

#[test]
fn the_file_is_read_and_its_claims_are_shown() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let payload =
        URL_SAFE_NO_PAD.encode(r#"{"sub":"spiffe://x","jti":"ab","scope":["read:orders:*"],"iat":10,"exp":25}"#);
    std::fs::write(file.path(), format!("e30.{payload}.c2ln\n")).unwrap();
    let (token, shown) = read(file.path()).unwrap();
    assert_eq!(token, format!("e30.{payload}.c2ln"));
    assert_eq!(
        (shown.sub.as_str(), shown.jti.as_str(), shown.life),
        ("spiffe://x", "ab", 15)
    );
}

#[test]
fn a_missing_or_foreign_file_is_named_without_its_content() {
    let missing = read("/nonexistent/token".as_ref()).unwrap_err();
    assert!(missing.to_string().starts_with("/nonexistent/token: "), "{missing}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2").unwrap();
    let foreign = read(file.path()).unwrap_err();
    assert!(matches!(foreign, TokenFileError::NotAToken(_)));
    assert!(!foreign.to_string().contains("hunter2"));
}
