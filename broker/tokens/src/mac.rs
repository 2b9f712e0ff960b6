//! HMAC-SHA-256 (RFC 2104) as the key set and the nonces use it.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};

/// The first `N` bytes, at most 32, of the HMAC of a message.
pub(crate) fn mac<const N: usize>(key: &[u8; 32], message: &[u8]) -> [u8; N] {
    let tag = sign(&Key::new(HMAC_SHA256, key), message);
    let mut bytes = [0; N];
    for (byte, from) in bytes.iter_mut().zip(tag.as_ref()) {
        *byte = *from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_are_those_of_the_whole() {
        let whole: [u8; 32] = mac(&[1; 32], b"epoch");
        // Computed with Python's hmac.
        let wanted = "32ef588e4e1fb9d37728cc2b08f45985ab0d2681b1d5929328185e31d7e4fa10";
        assert_eq!(hex::encode(whole), wanted);
        assert_eq!(mac::<16>(&[1; 32], b"epoch"), whole[..16]);
    }
}
