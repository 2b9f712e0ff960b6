//! Where bodies are read, and what of them.

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub enum Caller {
    Nobody,
    Admin,
    App,
    Agent,
    /// The agent of a pod.
    Attested,
    Controller,
    Pod,
}

pub struct Endpoint {
    pub method: &'static str,
    pub path: &'static str,
    pub caller: Caller,
    /// The members of a body that is accepted; names in braces are filled in by [`crate::world::World::fill`].
    pub good: &'static str,
    /// Members that take the place of one of those, with `@` where the hostile value stands.
    pub hostile: &'static [&'static str],
}

/// A member that no endpoint knows.
pub const UNKNOWN: &str = "\"x\":@";
/// The value as the whole body.
pub const WHOLE: &str = "@";

impl Endpoint {
    /// A good body, but for this member.
    pub fn body_with(&self, member: &str) -> String {
        match (member, self.good) {
            (WHOLE, _) => WHOLE.to_owned(),
            (_, "") => format!("{{{member}}}"),
            (_, good) => format!("{{{good},{member}}}"),
        }
    }
}

macro_rules! endpoints {
    ($($method:ident $path:literal $caller:ident { $($good:literal)? } [$($hostile:literal)*];)*) => {
        &[$(Endpoint {
            method: stringify!($method),
            path: $path,
            caller: Caller::$caller,
            good: concat!($($good)?),
            hostile: &[UNKNOWN, $($hostile),*],
        }),*]
    };
}

pub const ENDPOINTS: &[Endpoint] = endpoints! {
    POST "/v1/token/validate" Nobody { "\"token\":\"x\"" } ["@" "\"token\":@"];
    POST "/v1/register" Nobody {
        r#""launch_token":"{launch}","nonce":"{nonce}","public_key":"{public_key}","signature":"{signature}",
        "orch_id":"o","task_id":"t","requested_scope":["read:data:x"],"requested_ttl":60"#
    } [
        "\"launch_token\":@" "\"nonce\":@" "\"public_key\":@" "\"signature\":@" "\"orch_id\":@" "\"task_id\":@"
        "\"requested_scope\":@" "\"requested_ttl\":@"
    ];
    POST "/v1/admin/auth" Nobody { "\"secret\":\"a-wrong-secret-of-an-admin\"" } [
        "\"secret\":@" "\"client_id\":@" "\"client_secret\":@"
    ];
    POST "/v1/app/auth" Nobody { "\"client_id\":\"x\",\"client_secret\":\"y\"" } [
        "\"client_id\":@" "\"client_secret\":@"
    ];
    GET "/v1/challenge" Nobody {} [];
    POST "/v1/token/renew" Agent {} [];
    POST "/v1/token/renew" Attested { "\"overlap_seconds\":1" } ["\"overlap_seconds\":@"];
    POST "/v1/token/release" Agent {} [];
    POST "/v1/delegate" Agent { "\"delegate_to\":\"{agent_id}\",\"scope\":[\"read:data:x\"],\"ttl\":60" } [
        "\"delegate_to\":@" "\"scope\":@" "\"ttl\":@"
    ];
    POST "/v1/revoke" Admin { "\"level\":\"task\",\"target\":\"nothing\"" } ["\"level\":@" "\"target\":@"];
    POST "/v1/admin/revoke-matching" Admin { "\"namespace\":\"nothing\",\"dry_run\":false" } [
        "\"namespace\":@" "\"app\":@" "\"policy\":@" "\"node\":@" "\"service_account\":@" "\"all\":@"
        "\"installation\":@" "\"dry_run\":@"
    ];
    POST "/v1/admin/launch-tokens" Admin {
        "\"agent_name\":\"a\",\"allowed_scope\":[\"read:data:x\"],\"max_ttl\":60,\"single_use\":true,\"ttl\":60"
    } [
        "\"agent_name\":@" "\"allowed_scope\":@" "\"max_ttl\":@" "\"single_use\":@" "\"ttl\":@"
    ];
    POST "/v1/app/launch-tokens" App { "\"agent_name\":\"a\",\"allowed_scope\":[\"read:data:x\"]" } [
        "\"agent_name\":@" "\"allowed_scope\":@"
    ];
    POST "/v1/admin/apps" Admin { "\"name\":\"{new_app}\",\"scopes\":[\"read:data:x\"],\"token_ttl\":60" } [
        "\"name\":@" "\"scopes\":@" "\"token_ttl\":@"
    ];
    PUT "/v1/admin/apps/{app_id}" Admin { "\"scopes\":[\"read:data:*\"],\"token_ttl\":60" } [
        "\"scopes\":@" "\"token_ttl\":@"
    ];
    POST "/v1/admin/keys/x/retire" Admin { "\"now\":false" } [
        "\"now\":@"
    ];
    PUT "/v1/k8s/policies" Controller { "\"items\":[]" } [
        "\"items\":@" "\"items\":[@]" "\"items\":[{\"kind\":@,\"namespace\":\"shop\",\"name\":\"orders\"}]"
        "\"items\":[{\"kind\":\"app\",\"namespace\":\"shop\",\"name\":@}]"
        "\"items\":[{\"kind\":\"app\",\"namespace\":\"shop\",\"name\":\"orders\",{app},\"spec\":{\"scopes\":@}}]"
    ];
    PUT "/v1/k8s/policies/apps/shop/orders" Controller { "{app}" } [
        "\"uid\":@" "\"generation\":@" "\"order\":@" "\"order\":{\"lease_epoch\":1,\"sequence\":@}" "\"state\":@"
        "\"state\":\"suspended\",\"reason\":@" "\"spec\":@" "\"spec\":{\"scopes\":@,\"max_agent_ttl_seconds\":60}"
        "\"spec\":{\"scopes\":[\"read:data:x\"],\"max_agent_ttl_seconds\":@}"
    ];
    PUT "/v1/k8s/policies/launch-tokens/shop/reader" Controller { "{launch_token}" } [
        "\"spec\":{\"app\":@,\"agent_name\":\"a\",\"allowed_scopes\":[\"read:data:x\"],\"max_ttl_seconds\":60,\"service_account_names\":[\"reader\"]}"
        "\"spec\":{\"app\":\"orders\",\"agent_name\":@,\"allowed_scopes\":[\"read:data:x\"],\"max_ttl_seconds\":60,\"service_account_names\":[\"reader\"]}"
        "\"spec\":{\"app\":\"orders\",\"agent_name\":\"a\",\"allowed_scopes\":@,\"max_ttl_seconds\":60,\"service_account_names\":[\"reader\"]}"
        "\"spec\":{\"app\":\"orders\",\"agent_name\":\"a\",\"allowed_scopes\":[\"read:data:x\"],\"max_ttl_seconds\":60,\"service_account_names\":@}"
    ];
    POST "/v1/k8s/launch-tokens" Pod { "\"policy\":\"reader\",\"public_key\":\"{public_key}\",\"ttl_seconds\":60" } [
        "\"policy\":@" "\"public_key\":@" "\"scopes\":@" "\"ttl_seconds\":@"
    ];
    POST "/v1/k8s/pods/7f2c8c1e/ended" Controller { "\"namespace\":\"shop\",\"name\":\"reader-1\",\"reason\":\"deleted\"" } [
        "\"namespace\":@" "\"name\":@" "\"reason\":@"
    ];
    POST "/v1/k8s/pods/7f2c8c1e/release" Admin {} [];
    POST "/v1/k8s/mark" Controller { "\"mark\":\"\"" } [
        "\"mark\":@" "\"mark\":\"\",\"list\":@"
    ];
};

/// A new endpoint gets its hostile bodies too.
#[test]
fn every_documented_body_is_among_them() {
    // What it allocates must not be counted by another test.
    let _alone = crate::COUNTED.lock();
    let document: serde_json::Value = serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
    let fits = |template: &str, path: &str| {
        let (template, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
        let mut both = template.iter().zip(&path);
        template.len() == path.len() && both.all(|(wanted, given)| wanted == given || wanted.starts_with('{'))
    };
    for (template, item) in document["paths"].as_object().unwrap() {
        let taking = item
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, operation)| !operation["requestBody"].is_null());
        for (method, _) in taking {
            let mut known = ENDPOINTS
                .iter()
                .filter(|endpoint| endpoint.method.eq_ignore_ascii_case(method));
            assert!(
                known.any(|endpoint| fits(template, endpoint.path)),
                "{method} {template}"
            );
        }
    }
}
