//! What the `OpenAPI` document is made from: the attributes of the handlers, and what no type of theirs says.
//!
//! `tests/openapi` completes it with what holds for every endpoint.

use agentwrit_protocol::{Problem, schema};
use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, OpenApi, PartialSchema, ToSchema};

use super::handlers::{
    admin, app_auth, apps, audit, delegate, k8s, keys, launch, lifecycle, ops, public, register, revoke_matching,
};

/// The endpoints as their handlers describe them.
pub fn endpoints() -> utoipa::openapi::OpenApi {
    Documented::openapi().merge_from(k8s::Documented::openapi())
}

#[derive(OpenApi)]
#[openapi(
    paths(
        public::challenge, register::register, delegate::delegate,
        public::validate, lifecycle::renew, lifecycle::release, lifecycle::revoke,
        revoke_matching::revoke,
        admin::auth, launch::admin,
        apps::register, apps::list, apps::get, apps::update, apps::remove, app_auth::auth, launch::app,
        keys::list, keys::rotate, keys::retire,
        audit::events,
        public::health, public::jwks, public::discovery, public::openapi, ops::livez, ops::readyz, ops::metrics,
    ),
    components(schemas(Problem)),
    tags(
        (name = "Agents", description = "How an agent gets its first token."),
        (name = "Tokens", description = "What can be done with a token, and to it."),
        (name = "Admin", description = "Logins and launch tokens, for people."),
        (name = "Apps", description = "Programs that launch agents: their registration, login and launch tokens."),
        (name = "Keys", description = "The keys that tokens are signed with: looked at, rotated, retired."),
        (name = "Audit", description = "The hash-chained trail of everything that happened."),
        (name = "Kubernetes", description = "Policies and attestation of pods, for the controller and the sidecars."),
        (name = "Operations", description = "Keys, probes, metrics, this document."),
    ),
)]
struct Documented;

/// A JSON Web Key Set (RFC 7517).
#[derive(ToSchema)]
pub struct JsonWebKeySet {
    /// The key that signs, and others that are still good.
    #[schema(min_items = 1)]
    pub keys: Vec<JsonWebKey>,
}

/// An Ed25519 public key (RFC 8037).
#[derive(ToSchema)]
pub struct JsonWebKey {
    /// The family of the key.
    #[schema(pattern = "^OKP$", examples("OKP"))]
    pub kty: String,
    /// The curve.
    #[schema(pattern = "^Ed25519$", examples("Ed25519"))]
    pub crv: String,
    /// The key itself, in base64url.
    #[schema(
        pattern = "^[A-Za-z0-9_-]{43}$",
        examples("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    )]
    pub x: String,
    /// The thumbprint of the key (RFC 7638), as in the header of tokens.
    #[schema(
        pattern = "^[A-Za-z0-9_-]{43}$",
        examples("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")
    )]
    pub kid: String,
    /// The algorithm.
    #[schema(pattern = "^EdDSA$", examples("EdDSA"))]
    pub alg: String,
    /// What the key is used for: signatures.
    #[schema(rename = "use", pattern = "^sig$", examples("sig"))]
    pub use_: String,
}

/// What `/livez` says.
#[derive(ToSchema)]
pub struct Liveness {
    /// `alive` with status 200, `dead` with status 503.
    #[schema(pattern = "^(alive|dead)$", examples("alive"))]
    pub status: String,
}

/// The path of an app.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct AppPath {
    /// The id that registration told.
    #[param(min_length = 1, example = "app-order-service-3f9a1c")]
    pub app_id: String,
}

/// The path of a signing key.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct KeyPath {
    /// The id of the key.
    #[param(value_type = schema::Thumbprint)]
    pub kid: String,
}

/// The path of a pod.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct PodPath {
    /// metadata.uid of the pod.
    #[param(value_type = schema::Uid)]
    pub uid: String,
}

/// The path of a policy.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct PolicyPath {
    /// metadata.namespace.
    #[param(value_type = schema::Namespace)]
    pub namespace: String,
    /// metadata.name.
    #[param(value_type = schema::PolicyName)]
    pub name: String,
}

/// The query of the removal of a policy.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RemovalQuery {
    /// metadata.uid of what is removed.
    #[param(value_type = schema::Uid)]
    pub uid: String,
    /// As in the `order` of a write.
    #[param(minimum = 0, example = 3)]
    pub lease_epoch: i64,
    /// As in the `order` of a write.
    #[param(minimum = 0, example = 19)]
    pub sequence: i64,
    /// Whether the sessions of the policy end: `true` or `false`.
    #[param(pattern = "^(true|false)$", example = "true")]
    pub revoke: String,
}

/// The query of the recent refusals.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DenialsQuery {
    /// `next` of the answer before.
    #[param(minimum = 0, example = 8)]
    pub after: Option<i64>,
}

/// The headers of a renewal.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct RenewHeaders {
    /// Makes a retry safe: the same bearer with the same key gets the same token for 60 s.
    #[param(
        rename = "Idempotency-Key",
        nullable = false,
        pattern = "^[!-~]{1,128}$",
        example = "renewal-17"
    )]
    pub idempotency_key: Option<String>,
    /// Proves that the caller holds the key of the session. A repeated renewal brings a fresh one.
    #[param(
        rename = "Agentwrit-Proof",
        nullable = false,
        pattern = "^v1;t=(0|[1-9][0-9]{0,11});sig=[A-Za-z0-9_-]{85}[AQgw]$",
        example = "v1;t=1800000000;sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    )]
    pub agentwrit_proof: Option<String>,
}

/// The query of the audit trail.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only events of this type, such as `token_issued`.
    pub event_type: Option<String>,
    /// Only events with this outcome, `success` or `denied`.
    pub outcome: Option<String>,
    /// Only events with exactly this value.
    pub agent_id: Option<String>,
    /// Only events with exactly this value.
    pub task_id: Option<String>,
    /// Only events with exactly this value.
    pub actor: Option<String>,
    /// Only events with exactly this value.
    pub source: Option<String>,
    /// Only events with exactly this value.
    pub correlation_id: Option<String>,
    /// Only events with exactly this value.
    pub policy_uid: Option<String>,
    /// Only events with exactly this value.
    pub pod_uid: Option<String>,
    /// Only events with exactly this value.
    pub error_kind: Option<String>,
    /// Not before this RFC 3339 moment; write `+` as `%2B`.
    #[param(value_type = MomentOrEmpty, inline, required = false)]
    pub since: Option<String>,
    /// Not after this RFC 3339 moment.
    #[param(value_type = MomentOrEmpty, inline, required = false)]
    pub until: Option<String>,
    /// Most events on the page; 100 unless given, and never over 1000.
    #[param(value_type = LimitOrEmpty, inline, required = false)]
    pub limit: Option<i64>,
    /// How many matches to skip; not together with `cursor`.
    #[param(value_type = OffsetOrEmpty, inline, required = false)]
    pub offset: Option<i64>,
    /// Only events after the one with this id: `next_cursor` of the page before, or `evt-000000` to begin with. Pages by
    /// cursor neither repeat nor miss events of a trail that grows.
    #[param(pattern = "^(evt-([0-9]{6}|[1-9][0-9]{6,17}))?$", example = "evt-000123")]
    pub cursor: Option<String>,
}

/// Values of which an empty one counts as absent.
macro_rules! or_empty {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {$(
        $(#[$doc])*
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let empty = ObjectBuilder::new().schema_type(Type::String).max_length(Some(0));
                AnyOfBuilder::new().item($value).item(empty).into()
            }
        }

        impl ToSchema for $name {}
    )*};
}

or_empty! {
    /// A moment of RFC 3339, or nothing.
    MomentOrEmpty = of(Type::String, KnownFormat::DateTime).examples(["2026-11-21T00:00:00Z"]);
    /// A number of at least 1, or nothing.
    LimitOrEmpty = of(Type::Integer, KnownFormat::Int64).minimum(Some(1.0)).examples([100]);
    /// A number of at least 0, or nothing.
    OffsetOrEmpty = of(Type::Integer, KnownFormat::Int64).minimum(Some(0.0)).examples([0]);
}

fn of(kind: Type, format: KnownFormat) -> ObjectBuilder {
    let value = ObjectBuilder::new().schema_type(kind);
    value.format(Some(SchemaFormat::KnownFormat(format)))
}
