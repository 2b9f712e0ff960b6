//! Discovery as of `OpenID` Connect 1.0: from the issuer to its keys.

use http::Uri;
use http::uri::Scheme;
use serde::Serialize;

/// The discovery document. The broker has no authorization endpoint: it is there for those who check tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Discovery {
    /// `iss` of every token.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^https://", examples("https://broker.example.org"))
    )]
    pub issuer: String,
    /// Where the key set is.
    #[cfg_attr(
        feature = "openapi",
        schema(
            pattern = r"^https://.*/\.well-known/jwks\.json$",
            examples("https://broker.example.org/.well-known/jwks.json")
        )
    )]
    pub jwks_uri: String,
    /// Required by the specification.
    #[cfg_attr(
        feature = "openapi",
        schema(value_type = Vec<String>, pattern = "^id_token$", min_items = 1, max_items = 1, examples("id_token"))
    )]
    pub response_types_supported: [&'static str; 1],
    /// `sub` is the same for everybody.
    #[cfg_attr(
        feature = "openapi",
        schema(value_type = Vec<String>, pattern = "^public$", min_items = 1, max_items = 1, examples("public"))
    )]
    pub subject_types_supported: [&'static str; 1],
    /// What tokens are signed with.
    #[cfg_attr(
        feature = "openapi",
        schema(value_type = Vec<String>, pattern = "^EdDSA$", min_items = 1, max_items = 1, examples("EdDSA"))
    )]
    pub id_token_signing_alg_values_supported: [&'static str; 1],
}

impl Discovery {
    /// The document of an issuer; `None` unless it is an https URL without query and fragment, as an issuer must be.
    pub fn of(issuer: &str) -> Option<Self> {
        let url: Uri = issuer.parse().ok()?;
        let is_https = url.scheme() == Some(&Scheme::HTTPS) && url.host().is_some_and(|host| !host.is_empty());
        if !is_https || issuer.contains(['?', '#']) {
            return None;
        }
        Some(Self {
            issuer: issuer.to_owned(),
            jwks_uri: format!("{}/.well-known/jwks.json", issuer.trim_end_matches('/')),
            response_types_supported: ["id_token"],
            subject_types_supported: ["public"],
            id_token_signing_alg_values_supported: ["EdDSA"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_below_an_issuer_that_is_an_https_url() {
        for (issuer, keys) in [
            ("https://a.example", "https://a.example/.well-known/jwks.json"),
            (
                "https://a.example:8443/",
                "https://a.example:8443/.well-known/jwks.json",
            ),
            ("https://a.example/b/", "https://a.example/b/.well-known/jwks.json"),
        ] {
            let document = Discovery::of(issuer).unwrap();
            assert_eq!((document.issuer.as_str(), document.jwks_uri.as_str()), (issuer, keys));
        }
        for issuer in [
            "",
            "agentwrit",
            "http://a.example",
            "https://",
            "https:/a",
            "https://a.example?b",
            "https://a.example/#b",
            "https://a b",
        ] {
            assert_eq!(Discovery::of(issuer), None, "{issuer}");
        }
    }
}
