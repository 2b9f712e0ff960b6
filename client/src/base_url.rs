//! Where a broker may be.

use http::Uri;

use crate::config::{ClientConfig, ConfigError};

/// A URL that a broker can have.
#[derive(Debug)]
pub(crate) struct Base {
    /// Without a trailing slash.
    pub(crate) url: String,
    /// `http://`.
    pub(crate) plain: bool,
    /// `http://`, and to another host than this one.
    pub(crate) clear: bool,
    /// Host without the brackets of IPv6, and port.
    pub(crate) authority: (String, u16),
}

/// The base of every request.
pub(crate) fn check_url(config: &ClientConfig) -> Result<Base, ConfigError> {
    let given = config.base_url.trim();
    let base = if given.ends_with("://") {
        given
    } else {
        given.trim_end_matches('/')
    };
    // User information may be a password: it is never shown.
    let shown = match (base.find("://"), base.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => base.get(at + 1..).unwrap_or_default(),
        _ => base,
    };
    let wrong = |reason| ConfigError::Url {
        url: shown.to_owned(),
        reason,
    };
    if base.is_empty() {
        return Err(wrong("is empty"));
    }
    if shown != base {
        return Err(wrong("holds user information, which the broker doesn't use"));
    }
    let uri: Uri = base.parse().map_err(|_| wrong("is not a URL"))?;
    let plain = match uri.scheme_str() {
        Some("https") => false,
        Some("http") => true,
        Some(_) => return Err(wrong("has a scheme other than https")),
        None => return Err(wrong("has no scheme")),
    };
    if uri.query().is_some() {
        return Err(wrong("holds a query"));
    }
    let host = uri.host().unwrap_or_default();
    if host.is_empty() {
        return Err(wrong("has no host"));
    }
    let clear = plain && !is_loopback(host);
    if clear && !config.allow_plain_http {
        return Err(ConfigError::PlainHttp(base.to_owned()));
    }
    let unbracketed = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(if plain { 80 } else { 443 });
    Ok(Base {
        url: base.to_owned(),
        plain,
        clear,
        authority: (unbracketed, port),
    })
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use crate::{BrokerClient, ClientConfig, Trust};

    fn check(url: &str) -> Result<(), String> {
        BrokerClient::new(ClientConfig::new(url))
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        for url in [
            "http://127.0.0.1:8080",
            "http://127.9.9.9",
            "http://[::1]:8080/",
            "http://LOCALHOST:1",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for url in ["http://broker:8080", "http://127.0.0.1.example.org", "http://10.0.0.1"] {
            assert!(check(url).unwrap_err().contains("in the clear"), "{url}");
        }
        let allowed = |url: &str| {
            let config = ClientConfig {
                allow_plain_http: true,
                ..ClientConfig::new(url)
            };
            BrokerClient::new(config).unwrap()
        };
        assert!(allowed("http://broker:8080").sends_in_clear());
        assert!(!allowed("http://127.0.0.1:8080").sends_in_clear());
    }

    #[test]
    fn bad_urls_are_named_and_passwords_are_not() {
        let table = [
            ("", "is empty"),
            ("broker:8443", "has no scheme"),
            ("ftp://broker", "scheme other than https"),
            ("https://", "not a URL"),
            ("https://broker/?a=b", "query"),
            ("https://user:hunter2@broker", "user information"),
            ("https://broker", "CA certificate"),
        ];
        for (url, wanted) in table {
            let message = check(url).unwrap_err();
            assert!(message.contains(wanted), "{url}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn a_ca_without_certificates_is_refused() {
        let config = ClientConfig {
            trust: Trust::Pem(b"hello".to_vec()),
            ..ClientConfig::new("https://broker")
        };
        let message = BrokerClient::new(config).unwrap_err().to_string();
        assert!(message.contains("no PEM block CERTIFICATE"), "{message}");
    }
}
