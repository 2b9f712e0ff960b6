//! Schemas of single values, for the `OpenAPI` document: members of wire types name them with `value_type`.
//!
//! No value of these types is ever made.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// A scope, `action:resource:identifier`. The identifier may contain anything, colons too.
#[derive(ToSchema)]
#[schema(pattern = r"^[^:]+:[^:]+:[\s\S]+$", examples("read:orders:*"))]
pub struct Scope(pub String);

/// One or more scopes.
#[derive(ToSchema)]
#[schema(min_items = 1)]
pub struct Scopes(pub Vec<Scope>);

/// A scope that a custom resource may grant: without white space, comma and bar, and not of a reserved family.
#[derive(ToSchema)]
#[schema(
    pattern = r"^(?!admin:|app:)[^:\s\u0085,|]+:[^:\s\u0085,|]+:[^\s\u0085,|]+$",
    max_length = 256,
    examples("read:orders:*")
)]
pub struct PolicyScope(pub String);

/// The scopes that a custom resource grants.
#[derive(ToSchema)]
#[schema(min_items = 1, max_items = 64)]
pub struct PolicyScopes(pub Vec<PolicyScope>);

/// A scope that a pod may ask for: without white space, comma and bar.
#[derive(ToSchema)]
#[schema(
    pattern = r"^[^:\s\u0085,|]+:[^:\s\u0085,|]+:[^\s\u0085,|]+$",
    max_length = 256,
    examples("read:orders:*")
)]
pub struct PodScope(pub String);

/// The scopes that a pod asks for. An empty list asks for all that the pod may have.
#[derive(ToSchema)]
#[schema(max_items = 64)]
pub struct PodScopes(pub Vec<PodScope>);

/// A token of the broker: a compact JWT, signed with Ed25519.
#[derive(ToSchema)]
#[schema(
    pattern = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}$",
    format = Password,
    examples(
        "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZG1pbiJ9.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    )
)]
pub struct Jwt(pub String);

/// A secret of 64 lower-case hexadecimal digits.
#[derive(ToSchema)]
#[schema(
    pattern = "^[0-9a-f]{64}$",
    format = Password,
    examples("4f2a9c071be6d8534f2a9c071be6d8534f2a9c071be6d8534f2a9c071be6d853")
)]
pub struct HexSecret(pub String);

/// 32 lower-case hexadecimal digits.
#[derive(ToSchema)]
#[schema(pattern = "^[0-9a-f]{32}$", examples("4f2a9c071be6d8534f2a9c071be6d853"))]
pub struct Hex32(pub String);

/// 64 lower-case hexadecimal digits.
#[derive(ToSchema)]
#[schema(
    pattern = "^[0-9a-f]{64}$",
    examples("4f2a9c071be6d8534f2a9c071be6d8534f2a9c071be6d8534f2a9c071be6d853")
)]
pub struct Hex64(pub String);

/// 128 lower-case hexadecimal digits.
#[derive(ToSchema)]
#[schema(
    pattern = "^[0-9a-f]{128}$",
    examples(
        "4f2a9c071be6d8534f2a9c071be6d8534f2a9c071be6d8534f2a9c071be6d8534f2a9c071be6d8534f2a9c071be6d8534f2a9c071be6d8534f2a9c071be6d853"
    )
)]
pub struct Hex128(pub String);

/// 32 bytes in base64url without padding: the thumbprint of a key (RFC 7638), or the key itself.
#[derive(ToSchema)]
#[schema(
    pattern = "^[A-Za-z0-9_-]{43}$",
    examples("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")
)]
pub struct Thumbprint(pub String);

/// A raw Ed25519 public key, in standard base64 with padding.
#[derive(ToSchema)]
#[schema(
    pattern = "^[A-Za-z0-9+/]{43}={1}$",
    content_encoding = "base64",
    examples("GX9rI+FshTLGq8g4+tRO5e+pvXe7Uo8mGPxYMwzSg0k=")
)]
pub struct PublicKey(pub String);

/// An Ed25519 signature, in standard base64 with padding.
#[derive(ToSchema)]
#[schema(
    pattern = "^[A-Za-z0-9+/]{86}={2}$",
    content_encoding = "base64",
    examples("Zm9yZ2VyeSBpcyBub3Qgc28gZWFzeQZm9yZ2VyeSBpcyBub3Qgc28gZWFzeQZm9yZ2VyeSBpcyBub3Qgc28gZW==")
)]
pub struct Signature(pub String);

/// The SPIFFE id of an agent.
#[derive(ToSchema)]
#[schema(
    pattern = r"^spiffe://[a-z0-9._-]+/agent/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+/[0-9a-f]{16}$",
    examples("spiffe://agentwrit.local/agent/orders/report-7/4f2a9c071be6d853")
)]
pub struct SpiffeId(pub String);

/// A path segment of a SPIFFE id.
#[derive(ToSchema)]
#[schema(pattern = r"^(?!\.{1,2}$)[A-Za-z0-9._-]+$", max_length = 253, examples("orders"))]
pub struct Segment(pub String);

/// A moment in UTC, to the second (RFC 3339).
#[derive(ToSchema)]
#[schema(
    pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
    format = DateTime,
    examples("2026-11-21T09:30:00Z")
)]
pub struct Timestamp(pub String);

/// A moment in UTC, with up to nine digits of a second's fraction (RFC 3339).
#[derive(ToSchema)]
#[schema(
    pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z$",
    format = DateTime,
    examples("2026-11-21T09:30:00.123456789Z")
)]
pub struct PreciseTimestamp(pub String);

/// The id of a request: the caller's own, or one that the broker made.
#[derive(ToSchema)]
#[schema(pattern = "^[A-Za-z0-9._-]{1,128}$", examples("4f2a9c071be6d853"))]
pub struct RequestId(pub String);

/// The id of an app.
#[derive(ToSchema)]
#[schema(pattern = "^app-[a-z0-9-]+-[0-9a-f]{6}$", examples("app-order-service-3f9a1c"))]
pub struct AppId(pub String);

/// What an app logs in with.
#[derive(ToSchema)]
#[schema(pattern = "^[a-z0-9]{2,3}-[0-9a-f]{12}$", examples("os-4f2a9c071be6"))]
pub struct ClientId(pub String);

/// `metadata.uid` of a Kubernetes object.
#[derive(ToSchema)]
#[schema(
    pattern = "^[A-Za-z0-9._-]+$",
    max_length = 128,
    examples("7f2c8c1e-0b7d-4f3a-9a55-2f1d0c6b8e90")
)]
pub struct Uid(pub String);

/// The namespace of a custom resource, a DNS label.
#[derive(ToSchema)]
#[schema(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length = 63, examples("shop"))]
pub struct Namespace(pub String);

/// The name of a custom resource, a DNS label.
#[derive(ToSchema)]
#[schema(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length = 52, examples("orders"))]
pub struct PolicyName(pub String);

/// The namespace of a pod.
#[derive(ToSchema)]
#[schema(pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$", max_length = 63, examples("shop"))]
pub struct PodNamespace(pub String);

/// The name of a pod.
#[derive(ToSchema)]
#[schema(
    pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$",
    max_length = 253,
    examples("reader-x7k2p")
)]
pub struct PodName(pub String);

/// The name of a ServiceAccount.
#[derive(ToSchema)]
#[schema(pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$", max_length = 253, examples("reader"))]
pub struct ServiceAccountName(pub String);

/// An audience of tokens: no white space and no control characters.
#[derive(ToSchema)]
#[schema(
    pattern = r"^[^\s\u0000-\u001f\u007f-\u009f]+$",
    max_length = 256,
    examples("https://orders.example.org")
)]
pub struct Audience(pub String);

/// The key of a label: a name, perhaps with a DNS subdomain and `/` before it.
#[derive(ToSchema)]
#[schema(
    pattern = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
    max_length = 317,
    examples("tier")
)]
pub struct LabelKey(pub String);

/// The value of a label.
#[derive(ToSchema)]
#[schema(
    pattern = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
    max_length = 63,
    examples("web")
)]
pub struct LabelValue(pub String);

/// A short text without control characters.
#[derive(ToSchema)]
#[schema(
    pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$",
    max_length = 256,
    examples("order-reader")
)]
pub struct ShortText(pub String);

/// What a revocation is aimed at.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum RevocationLevel {
    /// One token, by its jti.
    Token,
    /// A subject and all of its tokens.
    Agent,
    /// All tokens of a task.
    Task,
    /// All tokens of a delegation chain.
    Chain,
}

/// How an audited request ended.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Outcome {
    /// It did what was asked.
    Success,
    /// It was refused.
    Denied,
}

/// Always `true`.
pub struct True;

impl PartialSchema for True {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Boolean)
            .enum_values(Some([true]))
            .into()
    }
}

impl ToSchema for True {}

/// Schemas of closed vocabularies whose words a macro makes.
macro_rules! words {
    ($($name:ty: $text:literal;)*) => {$(
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some($text))
                    .enum_values(Some(Self::ALL.iter().map(|word| word.as_str())))
                    .into()
            }
        }

        impl ToSchema for $name {}
    )*};
}

words! {
    crate::ErrorCode: "The code of a refusal, for programs.";
    crate::audit::EventType: "What an event of the audit trail tells.";
}
