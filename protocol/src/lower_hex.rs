//! Bytes as lower-case hexadecimal text, as every hash and id on the wire has them.

/// The text of these bytes. `hex::encode` collects it character by character, twenty instructions each.
pub fn lower_hex(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    let mut digits = vec![0; bytes.len() * 2];
    // Twice as long is what it wants, and digits are text.
    let written = hex::encode_to_slice(bytes, &mut digits);
    written
        .ok()
        .and_then(|()| String::from_utf8(digits).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_what_the_library_collects(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(lower_hex(&bytes), hex::encode(&bytes));
        }
    }
}
