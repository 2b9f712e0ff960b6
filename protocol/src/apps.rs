//! Apps: programs that log in with a client id and a secret and make launch tokens for their agents
//! (`docs/wire-contract.md` §12).
//!
//! Members of requests are optional, as in [`crate::wire`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::excerpt::excerpt;
#[cfg(feature = "openapi")]
use crate::schema;
use crate::sensitive::Sensitive;
use crate::ttl::{MAX_TTL_SECONDS, MIN_POLICY_TTL_SECONDS, Ttl};

/// The scopes of an app's token, in this order.
pub const APP_SCOPES: [&str; 3] = ["app:launch-tokens:*", "app:agents:*", "app:audit:read"];
/// What comes before the app's id in the `sub` of its tokens.
pub const SUBJECT_PREFIX: &str = "app:";
/// Shortest life of an app's token that can be asked for.
pub const SHORTEST_TTL: Ttl = Ttl::seconds(MIN_POLICY_TTL_SECONDS);
/// Longest life of an app's token that can be asked for.
pub const LONGEST_TTL: Ttl = Ttl::seconds(MAX_TTL_SECONDS);

/// Bytes of the shortest and the longest name.
const NAME_LENGTH: std::ops::RangeInclusive<usize> = 2..=64;

/// Why a text is not an app's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "name {0:?} must be 2 to 64 characters of a-z, 0-9 and single inner hyphens, starting with a letter and then a \
     letter or digit, such as order-reader"
)]
pub struct AppNameError(String);

/// An app's name: `^[a-z][a-z0-9](?:-?[a-z0-9]+)*$`, 2 to 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "openapi",
    schema(pattern = "^[a-z][a-z0-9](?:-?[a-z0-9]+)*$", examples("order-service"))
)]
pub struct AppName(String);

impl AppName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What its client ids begin with: the first letters of up to three hyphenated parts, or the first two of a name
    /// without hyphens.
    pub fn abbreviation(&self) -> String {
        if self.0.contains('-') {
            self.0
                .split('-')
                .filter_map(|part| part.chars().next())
                .take(3)
                .collect()
        } else {
            self.0.chars().take(2).collect()
        }
    }
}

impl FromStr for AppName {
    type Err = AppNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let begins_well = matches!(text.as_bytes(), [first, second, ..] if first.is_ascii_lowercase() && word(second));
        let parts_are_words = text
            .split('-')
            .all(|part| !part.is_empty() && part.as_bytes().iter().all(word));
        if NAME_LENGTH.contains(&text.len()) && begins_well && parts_are_words {
            Ok(Self(text.to_owned()))
        } else {
            Err(AppNameError(excerpt(text)))
        }
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether an app may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum AppStatus {
    /// It may log in and make launch tokens.
    Active,
    /// It was deregistered, for good.
    Inactive,
}

impl AppStatus {
    /// The status on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }
}

/// The body of `POST /v1/admin/apps`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RegisterAppRequest {
    /// The name of the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = AppName, required))]
    pub name: Option<String>,
    /// Ceiling of what its agents may be allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Scopes, required))]
    pub scopes: Option<Vec<String>>,
    /// Life of its tokens, seconds, 60 to 86400; the broker's `AA_APP_TOKEN_TTL` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 60, maximum = 86400, examples(1800)))]
    pub token_ttl: Option<i64>,
}

/// The answer of `POST /v1/admin/apps`, with status 201.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterAppResponse {
    /// `app-<name>-<6 hex>`.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::AppId))]
    pub app_id: String,
    /// What the app logs in with.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::ClientId))]
    pub client_id: String,
    /// 64 lower-hex characters, told this once.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::HexSecret))]
    pub client_secret: Sensitive,
    /// Ceiling of what its agents may be allowed.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Scopes))]
    pub scopes: Vec<String>,
    /// Life of its tokens, seconds.
    #[cfg_attr(feature = "openapi", schema(value_type = i64, minimum = 1, examples(1800)))]
    pub token_ttl: Ttl,
}

/// An app as `GET` and `PUT` answer it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct App {
    /// `app-<name>-<6 hex>`.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::AppId))]
    pub app_id: String,
    /// The name of the app.
    #[cfg_attr(feature = "openapi", schema(value_type = AppName))]
    pub name: String,
    /// What the app logs in with.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::ClientId))]
    pub client_id: String,
    /// Ceiling of what its agents may be allowed.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Scopes))]
    pub scopes: Vec<String>,
    /// Life of its tokens, seconds.
    #[cfg_attr(feature = "openapi", schema(value_type = i64, minimum = 1, examples(1800)))]
    pub token_ttl: Ttl,
    /// Whether it may be used.
    pub status: AppStatus,
    /// RFC 3339, seconds, UTC.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Timestamp))]
    pub created_at: String,
    /// RFC 3339, seconds, UTC.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Timestamp))]
    pub updated_at: String,
}

/// The answer of `GET /v1/admin/apps`, with status 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AppsResponse {
    /// Newest first, deregistered ones among them.
    pub apps: Vec<App>,
    /// How many there are.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, examples(1)))]
    pub total: i64,
}

/// The body of `PUT /v1/admin/apps/{id}`: at least one member.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct UpdateAppRequest {
    /// The new ceiling.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<schema::Scope>>))]
    pub scopes: Option<Vec<String>>,
    /// The new life of its tokens, seconds, 60 to 86400.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 60, maximum = 86400, examples(1800)))]
    pub token_ttl: Option<i64>,
}

/// The answer of `DELETE /v1/admin/apps/{id}`, with status 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RemoveAppResponse {
    /// As asked.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::AppId))]
    pub app_id: String,
    /// Always inactive.
    #[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^inactive$", examples("inactive")))]
    pub status: AppStatus,
    /// When it was deregistered first: RFC 3339, seconds, UTC.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Timestamp))]
    pub deregistered_at: String,
}

/// The body of `POST /v1/app/auth`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct AppAuthRequest {
    /// As registration told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, required, min_length = 1, examples("os-4f2a9c071be6")))]
    pub client_id: Option<String>,
    /// As registration told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, required, min_length = 1, examples("the-client-secret")))]
    pub client_secret: Option<Sensitive>,
}

/// The answer of `POST /v1/app/auth`, with status 200.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AppAuthResponse {
    /// The app's token.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Jwt))]
    pub access_token: Sensitive,
    /// Seconds.
    #[cfg_attr(feature = "openapi", schema(value_type = i64, minimum = 0, examples(1800)))]
    pub expires_in: Ttl,
    /// `Bearer`.
    #[cfg_attr(feature = "openapi", schema(pattern = "^Bearer$", examples("Bearer")))]
    pub token_type: String,
    /// The scopes of every token of an app.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(
        value_type = Vec<schema::Scope>, required, min_items = 1, example = json!(APP_SCOPES)
    ))]
    pub scopes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_follow_the_contract() {
        let longest = "a".repeat(64);
        for good in ["ab", "a1", "a1-b", "order-reader", "ab-1-2-3", "x9y-z", &longest] {
            assert_eq!(good.parse::<AppName>().unwrap().as_str(), good);
        }
        let too_long = "a".repeat(65);
        for bad in [
            "", "a", "a-b", "-x", "x-", "xy-", "x--y", "xy--z", "Ab", "aB", "a_b", "ab c", " ab", "ab\n", "1a", "é1",
            "aé", &too_long,
        ] {
            assert!(bad.parse::<AppName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn client_ids_begin_with_the_abbreviation() {
        let table = [
            ("payments", "pa"),
            ("a1", "a1"),
            ("order-reader", "or"),
            ("ab-9x", "a9"),
            ("one-two-three", "ott"),
            ("one-two-three-four", "ott"),
        ];
        for (name, wanted) in table {
            assert_eq!(name.parse::<AppName>().unwrap().abbreviation(), wanted, "{name}");
        }
    }

    #[test]
    fn a_refused_name_is_shown_but_not_at_length() {
        let error = "X".repeat(1000).parse::<AppName>().unwrap_err().to_string();
        assert!(error.contains("XXX…") && error.len() < 500, "{error}");
    }

    #[test]
    fn keys_come_in_the_contracts_order() {
        let app = App {
            app_id: "i".into(),
            name: "n".into(),
            client_id: "c".into(),
            scopes: vec!["read:data:*".into()],
            token_ttl: Ttl::seconds(60),
            status: AppStatus::Inactive,
            created_at: "x".into(),
            updated_at: "y".into(),
        };
        assert_eq!(
            serde_json::to_string(&app).unwrap(),
            r#"{"app_id":"i","name":"n","client_id":"c","scopes":["read:data:*"],"token_ttl":60,"status":"inactive","created_at":"x","updated_at":"y"}"#
        );
    }

    /// The contract's expression, taken literally: every way to read `(?:-?[a-z0-9]+)*`.
    fn literally(text: &str) -> bool {
        fn rest(text: &[u8]) -> bool {
            let after_hyphen = text.strip_prefix(b"-").unwrap_or(text);
            text.is_empty()
                || (1..=after_hyphen.len()).any(|n| {
                    let (group, more) = after_hyphen.split_at(n);
                    group.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) && rest(more)
                })
        }
        let bytes = text.as_bytes();
        (2..=64).contains(&bytes.len())
            && bytes[0].is_ascii_lowercase()
            && (bytes[1].is_ascii_lowercase() || bytes[1].is_ascii_digit())
            && rest(&bytes[2..])
    }

    proptest! {
        #[test]
        fn the_check_is_the_contracts_expression(text in "[a-c1A_é-]{0,9}") {
            prop_assert_eq!(text.parse::<AppName>().is_ok(), literally(&text), "{:?}", text);
        }

        #[test]
        fn whatever_is_a_name_prints_back_and_has_an_abbreviation(text in "[a-z][a-z0-9](-?[a-z0-9]{1,4}){0,12}") {
            let name: AppName = text.parse().unwrap();
            prop_assert_eq!(name.to_string(), text);
            let short = name.abbreviation();
            prop_assert!((2..=3).contains(&short.len()), "{}", short);
            prop_assert!(short.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        }
    }
}
