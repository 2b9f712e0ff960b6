//! What `/v1/admin/keys` says and takes (`docs/keys.md`). Members of requests are optional, as in [`crate::wire`].

use serde::{Deserialize, Serialize};

use super::KeyState;
#[cfg(feature = "openapi")]
use crate::schema;

/// A signing key, as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = SigningKey))]
pub struct SigningKeyView {
    /// RFC 7638 thumbprint, the `kid` of its tokens.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Thumbprint))]
    pub kid: String,
    /// `x` of its JSON Web Key (RFC 8037).
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Thumbprint))]
    pub x: String,
    /// `next`, `active`, `previous` or `retired`.
    #[cfg_attr(
        feature = "openapi",
        schema(value_type = String, pattern = "^(next|active|previous|retired)$", examples("active"))
    )]
    pub state: KeyState,
    /// Whether this replica can sign with it.
    #[cfg_attr(feature = "openapi", schema(examples(true)))]
    pub held: bool,
    /// From when on tokens of it are accepted: RFC 3339, seconds, UTC.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Timestamp))]
    pub published_at: String,
    /// From when on it signs, unless a later key does: RFC 3339, seconds, UTC.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Timestamp))]
    pub signs_from: String,
    /// When its last token has expired, once that is known: RFC 3339, seconds, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Timestamp))]
    pub retires_at: Option<String>,
    /// Since when no token of it is accepted: RFC 3339, seconds, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Timestamp))]
    pub retired_at: Option<String>,
    /// Whether it was retired because it had leaked.
    #[cfg_attr(feature = "openapi", schema(examples(false)))]
    pub leaked: bool,
}

/// The answer of `GET /v1/admin/keys` and `GET /v1/k8s/signing-keys`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SigningKeysResponse {
    /// In the order in which they were published, retired ones among them.
    pub keys: Vec<SigningKeyView>,
    /// When another key was asked for that isn't there yet: RFC 3339, seconds, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Timestamp))]
    pub rotation_requested_at: Option<String>,
}

/// The answer of `POST /v1/admin/keys/rotate`, with status 202.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RotateKeyResponse {
    /// When it was asked for, while there is no new key yet: RFC 3339, seconds, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Timestamp))]
    pub rotation_requested_at: Option<String>,
    /// The new key, when it is published already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<SigningKeyView>,
}

/// The body of `POST /v1/admin/keys/{kid}/retire`; it may be absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RetireKeyRequest {
    /// The key has leaked: every token that there is is refused from now on, and agents register again.
    #[cfg_attr(feature = "openapi", schema(examples(true)))]
    pub now: bool,
}

/// The answer of `POST /v1/admin/keys/{kid}/retire`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RetireKeyResponse {
    /// As asked.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Thumbprint))]
    pub kid: String,
    /// Since when no token of it is accepted: RFC 3339, seconds, UTC.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Timestamp))]
    pub retired_at: String,
    /// Whether it was retired because it had leaked.
    #[cfg_attr(feature = "openapi", schema(examples(false)))]
    pub leaked: bool,
    /// The epoch that began with it, when it had leaked: all tokens of before are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Hex32))]
    pub epoch: Option<String>,
}
