//! Apps: what admins do with them, and what they do themselves.

use agentwrit_protocol::ErrorCode::{
    Conflict, Forbidden, InvalidRequest, InvalidScopeFormat, InvalidTtl, NotFound, Unauthorized, Unavailable,
};
use agentwrit_protocol::apps;
use serde_json::{Value, json};
use utoipa::openapi::schema::ObjectBuilder;

use super::super::endpoint::Endpoint;
use super::super::grammar::{
    Piece, array, constant, filled, jwt, matching, moment, number, scope, scopes, secret_hex, token,
};
use super::super::schemas::Schemas;

pub const TAG: &str = "Apps";

const APPS: &str = "/v1/admin/apps";
const APP: &str = "/v1/admin/apps/{app_id}";
const ADMIN_SCOPE: &str = "admin:launch-tokens:*";
const ID: &str = "app-order-service-3f9a1c";
const CLIENT: &str = "os-4f2a9c071be6";
const TTL: &str = "token_ttl 59 must be from 60 to 86400 seconds";
const MALFORMED: &str =
    "scope \"read:orders\" is not of the form action:resource:identifier with three non-empty parts";
const RESERVED: &str = "scope \"admin:revoke:*\" is reserved: agents can't hold admin: and app: scopes";
const LONG: &str = "scopes must be at most 32768 bytes of JSON";

pub fn endpoints(schemas: &mut Schemas) -> Vec<Endpoint> {
    let name = || matching("^[a-z][a-z0-9](?:-?[a-z0-9]+)*$", "order-service");
    let app_id = || matching("^app-[a-z0-9-]+-[0-9a-f]{6}$", ID);
    let client_id = || matching("^[a-z0-9]{2,3}-[0-9a-f]{12}$", CLIENT);
    let ttl = || number(60, Some(86_400), 1800);
    // Beside those that were asked for there is the broker's default, which may be any.
    let any_ttl = || number(1, None, 1800);
    let ceiling = || scopes(&["read:orders:*"]);
    schemas.shape::<apps::RegisterAppRequest>(|shape| {
        shape
            .member("name", name())
            .member("scopes", ceiling())
            .member("token_ttl", ttl())
            .requires(&["name", "scopes"])
    });
    schemas.shape::<apps::RegisterAppResponse>(|shape| {
        shape
            .member("app_id", app_id())
            .member("client_id", client_id())
            .member("client_secret", secret_hex(64))
            .member("scopes", ceiling())
            .member("token_ttl", any_ttl())
    });
    schemas.shape::<apps::App>(|shape| {
        shape
            .member("app_id", app_id())
            .member("name", name())
            .member("client_id", client_id())
            .member("scopes", ceiling())
            .member("token_ttl", any_ttl())
            .member("created_at", moment(0))
            .member("updated_at", moment(0))
    });
    schemas.shape::<apps::AppsResponse>(|shape| shape.member("total", number(0, None, 1)));
    let any_scopes = || array(scope("read:orders:*"), 0, None, &json!(["read:orders:*"]));
    schemas.shape::<apps::UpdateAppRequest>(|shape| shape.member("scopes", any_scopes()).member("token_ttl", ttl()));
    let given = |member: &str, values: Piece| ObjectBuilder::new().property(member, values).required(member);
    schemas.one_of(
        "UpdateAppRequest",
        [given("scopes", ceiling()), given("token_ttl", ttl())],
    );
    schemas.shape::<apps::RemoveAppResponse>(|shape| {
        shape.member("app_id", app_id()).member("deregistered_at", moment(0))
    });
    schemas.shape::<apps::AppAuthRequest>(|shape| {
        shape
            .member("client_id", filled(CLIENT))
            .member("client_secret", filled("the-client-secret"))
            .requires(&["client_id", "client_secret"])
    });
    schemas.shape::<apps::AppAuthResponse>(|shape| {
        shape
            .member("access_token", jwt())
            .member("expires_in", number(0, None, 1800))
            .member("token_type", constant("Bearer"))
            .member("scopes", scopes(&apps::APP_SCOPES))
            .requires(&["scopes"])
    });
    vec![register(), list(), get(), update(), remove(), auth(), launch_tokens()]
}

fn shown() -> Value {
    json!({
        "app_id": ID,
        "name": "order-service",
        "client_id": CLIENT,
        "scopes": ["read:orders:*"],
        "token_ttl": 1800,
        "status": "active",
        "created_at": "2026-11-21T09:30:00Z",
        "updated_at": "2026-11-21T09:30:00Z",
    })
}

fn register() -> Endpoint {
    Endpoint::post(APPS, TAG, "registerApp", "A new app, and its secret")
        .says("The name of a deregistered app is free again. `token_ttl` is `AA_APP_TOKEN_TTL` when absent.")
        .bearer_with(ADMIN_SCOPE)
        .takes(
            "RegisterAppRequest",
            json!({"name": "order-service", "scopes": ["read:orders:*"], "token_ttl": 1800}),
        )
        .answers(
            201,
            "The app. Its secret is told this once.",
            "RegisterAppResponse",
            json!({
                "app_id": ID,
                "client_id": CLIENT,
                "client_secret": "4f2a9c071be6d853".repeat(4),
                "scopes": ["read:orders:*"],
                "token_ttl": 1800,
            }),
        )
        .refuses(
            InvalidRequest,
            "name \"X\" must be 2 to 64 characters of a-z, 0-9 and single inner hyphens, starting with a letter and \
             then a letter or digit, such as order-reader",
        )
        .refuses(InvalidRequest, LONG)
        .refuses(InvalidScopeFormat, "scopes has 1001 items: at most 1000 are allowed")
        .refuses(
            InvalidScopeFormat,
            "scopes[0] is 8193 bytes long: at most 8192 are allowed",
        )
        .refuses(InvalidRequest, "scopes must not be empty")
        .refuses(InvalidRequest, "name is required")
        .refuses(InvalidTtl, TTL)
        .refuses(InvalidScopeFormat, MALFORMED)
        .refuses(Forbidden, RESERVED)
        .refuses(Conflict, "an app named \"order-service\" is registered already")
}

fn list() -> Endpoint {
    Endpoint::get(APPS, TAG, "listApps", "Every app, newest first")
        .says("Deregistered ones are among them.")
        .bearer_with(ADMIN_SCOPE)
        .answers(
            200,
            "All of them.",
            "AppsResponse",
            json!({"apps": [shown()], "total": 1}),
        )
}

fn one(endpoint: Endpoint) -> Endpoint {
    endpoint
        .bearer_with(ADMIN_SCOPE)
        .in_path("app_id", "As registration told it.", filled(ID))
        .refuses(NotFound, "app not found")
}

fn get() -> Endpoint {
    one(Endpoint::get(APP, TAG, "getApp", "One app")).answers(200, "The app.", "App", shown())
}

fn update() -> Endpoint {
    one(Endpoint::put(APP, TAG, "updateApp", "Changes an app"))
        .says(
            "All that the body names, or nothing. An empty `scopes` counts as absent. What the app and its agents hold \
             already stays.",
        )
        .takes(
            "UpdateAppRequest",
            json!({"scopes": ["read:orders:*"], "token_ttl": 900}),
        )
        .answers(200, "The app as it is now.", "App", shown())
        .refuses(InvalidRequest, LONG)
        .refuses(InvalidScopeFormat, "scopes has 1001 items: at most 1000 are allowed")
        .refuses(
            InvalidScopeFormat,
            "scopes[0] is 8193 bytes long: at most 8192 are allowed",
        )
        .refuses(InvalidRequest, "scopes or token_ttl is required")
        .refuses(InvalidTtl, TTL)
        .refuses(InvalidScopeFormat, MALFORMED)
        .refuses(Forbidden, RESERVED)
}

fn remove() -> Endpoint {
    one(Endpoint::delete(APP, TAG, "removeApp", "Deregisters an app for good"))
        .says("Its tokens are revoked at once. Again it answers the same.")
        .answers(
            200,
            "It is inactive.",
            "RemoveAppResponse",
            json!({"app_id": ID, "status": "inactive", "deregistered_at": "2026-11-21T09:30:00Z"}),
        )
}

fn auth() -> Endpoint {
    Endpoint::post("/v1/app/auth", TAG, "appAuth", "An app's credentials against a token")
        .says(
            "10 a minute and at most 3 at once for each client id, or for each address when the body names none; 10 a \
             second and at most 50 at once for each address. Counted before anything else.",
        )
        .takes(
            "AppAuthRequest",
            json!({"client_id": CLIENT, "client_secret": "4f2a9c071be6d853".repeat(4)}),
        )
        .answers(
            200,
            "A token that lives as long as the app's `token_ttl` says.",
            "AppAuthResponse",
            json!({
                "access_token": token(),
                "expires_in": 1800,
                "token_type": "Bearer",
                "scopes": apps::APP_SCOPES,
            }),
        )
        .limited()
        .refuses(InvalidRequest, "client_id and client_secret are required")
        .refuses(Unauthorized, "Authentication failed")
        .stores()
        .refuses(Unavailable, "too many logins wait; nothing was changed")
}

fn launch_tokens() -> Endpoint {
    Endpoint::post(
        "/v1/app/launch-tokens",
        TAG,
        "createAppLaunchToken",
        "A launch token for one agent of the app",
    )
    .says("As `POST /v1/admin/launch-tokens`, and never for more than the app's scopes.")
    .bearer_with("app:launch-tokens:*")
    .takes(
        "LaunchTokenRequest",
        json!({"agent_name": "orders/report-7", "allowed_scope": ["read:orders:17"], "max_ttl": 300}),
    )
    .answers(
        201,
        "The launch token, told this once.",
        "LaunchTokenResponse",
        json!({
            "launch_token": "4f2a9c071be6d853".repeat(4),
            "expires_at": "2026-11-21T09:30:00Z",
            "policy": {"allowed_scope": ["read:orders:17"], "max_ttl": 300},
        }),
    )
    .refuses(InvalidRequest, "allowed_scope must be at most 32768 bytes of JSON")
    .refuses(
        InvalidScopeFormat,
        "allowed_scope has 1001 items: at most 1000 are allowed",
    )
    .refuses(
        InvalidScopeFormat,
        "allowed_scope[0] is 8193 bytes long: at most 8192 are allowed",
    )
    .refuses(InvalidRequest, "agent_name is required")
    .refuses(
        InvalidRequest,
        "agent_name of 20000 characters is too long: it must be at most 16384",
    )
    .refuses(InvalidRequest, "allowed_scope must not be empty")
    .refuses(InvalidTtl, "ttl must be at most 86400 seconds")
    .refuses(Forbidden, "app not found")
    .refuses(
        Forbidden,
        "allowed_scope exceeds the app's scope ceiling; allowed scopes: read:orders:*",
    )
}
