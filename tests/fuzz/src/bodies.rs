//! Any body for every endpoint, with a bearer that may call it.

use crate::answer::{Request, statuses};
use crate::world;

/// Method, path, and the bearer as `template` writes it. The corpus counts on the order: append only.
pub const ENDPOINTS: [(&str, &str, &str); 41] = [
    ("POST", "/v1/register", ""),
    ("POST", "/v1/token/validate", ""),
    ("POST", "/v1/token/renew", "{agent}"),
    ("POST", "/v1/token/release", "{agent}"),
    ("POST", "/v1/delegate", "{agent}"),
    ("POST", "/v1/revoke", "{admin}"),
    ("POST", "/v1/admin/auth", ""),
    ("POST", "/v1/admin/launch-tokens", "{admin}"),
    ("PUT", "/v1/k8s/policies", "{controller}"),
    ("PUT", "/v1/k8s/policies/apps/shop/orders", "{controller}"),
    ("PUT", "/v1/k8s/policies/launch-tokens/shop/reader", "{controller}"),
    ("DELETE", "/v1/k8s/policies/apps/shop/orders", "{controller}"),
    ("DELETE", "/v1/k8s/policies/launch-tokens/shop/reader", "{controller}"),
    ("GET", "/v1/k8s/policies", "{controller}"),
    ("POST", "/v1/k8s/launch-tokens", "{pod}"),
    ("POST", "/v1/k8s/pods/7f2c8c1e/ended", "{controller}"),
    ("POST", "/v1/k8s/pods/7f2c8c1e/release", "{admin}"),
    ("GET", "/v1/k8s/denials", "{controller}"),
    ("GET", "/v1/challenge", ""),
    ("GET", "/v1/health", ""),
    ("GET", "/v1/metrics", ""),
    ("GET", "/v1/audit/events", "{admin}"),
    ("POST", "/v1/token/renew", "{attested}"),
    ("GET", "/.well-known/jwks.json", ""),
    ("GET", "/openapi.json", ""),
    ("GET", "/livez", ""),
    ("GET", "/readyz", ""),
    ("POST", "/v1/app/auth", ""),
    ("POST", "/v1/app/launch-tokens", "{app}"),
    ("POST", "/v1/admin/apps", "{admin}"),
    ("GET", "/v1/admin/apps", "{admin}"),
    ("GET", "/v1/admin/apps/{app_id}", "{admin}"),
    ("PUT", "/v1/admin/apps/{app_id}", "{admin}"),
    ("DELETE", "/v1/admin/apps/{app_id}", "{admin}"),
    ("GET", "/.well-known/openid-configuration", ""),
    ("POST", "/v1/k8s/mark", "{controller}"),
    ("GET", "/v1/admin/keys", "{admin}"),
    ("POST", "/v1/admin/keys/rotate", "{admin}"),
    ("POST", "/v1/admin/keys/x/retire", "{admin}"),
    ("GET", "/v1/k8s/signing-keys", "{controller}"),
    ("POST", "/v1/admin/revoke-matching", "{admin}"),
];

/// The first byte, from `A` on, chooses the endpoint; the rest is the body, in which the names of `template`
/// may stand.
pub fn run(input: &[u8]) {
    let Some((choice, body)) = input.split_first() else {
        return;
    };
    let Some((method, path, bearer)) = ENDPOINTS.get(usize::from(choice.wrapping_sub(b'A'))) else {
        return;
    };
    world::with(|world| {
        let path = world.fill(path);
        let mut request = Request::new(method, &path).body(&world.fill_bytes(body));
        if !bearer.is_empty() {
            request = request.header("authorization", &format!("Bearer {}", world.fill(bearer)));
        }
        let answer = world.send(&request);
        let documented = statuses(method, &path).expect("the endpoint is documented");
        assert!(
            documented.contains(&answer.status),
            "{method} {path}: not documented: {answer:?}"
        );
        world.check_trail();
    });
}
