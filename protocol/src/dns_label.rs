//! DNS labels (RFC 1123), as Kubernetes names objects and namespaces.

/// Longest DNS label, and so the longest name of a namespace.
pub const MAX_LABEL_BYTES: usize = 63;
/// Longest name of an `AgentApp` or a `LaunchToken`: leaves room for what is derived from it.
pub const MAX_RESOURCE_NAME_BYTES: usize = 52;

/// Whether `text` is a DNS label of at most `max` bytes.
///
/// ```
/// use agentwrit_protocol::dns_label::is_dns_label;
///
/// assert!(is_dns_label("order-reader", 52));
/// assert!(!is_dns_label("Order.Reader", 52));
/// ```
pub fn is_dns_label(text: &str, max: usize) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=max).contains(&text.len()) && text.bytes().all(legal) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_labels() {
        for (text, good) in [
            ("a", true),
            ("a-1", true),
            ("-a", false),
            ("a-", false),
            ("A", false),
            ("", false),
            ("a.b", false),
        ] {
            assert_eq!(is_dns_label(text, 52), good, "{text:?}");
        }
        assert!(is_dns_label(&"a".repeat(52), 52));
        assert!(!is_dns_label(&"a".repeat(53), 52));
    }
}
