//! An Ed25519 private key in the form that every tool reads: PKCS#8 version 1 (RFC 8410 §7). OpenSSL 3.0 can't read
//! version 2.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Everything before the 32 bytes of the seed.
const PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The key of a seed as a PEM block `PRIVATE KEY`.
pub fn private_key_pem(seed: &[u8; 32]) -> String {
    let der = [PREFIX.as_slice(), seed.as_slice()].concat();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der)
    )
}
