//! Who may write what.

use crate::support::cluster::{kubectl, run, shared};
use crate::support::shop::Shop;

#[tokio::test]
async fn teams_write_launch_tokens_and_only_the_platform_writes_apps() {
    let _installation = shared().await;
    let shop = Shop::bare("roles").await;
    let bind = |user: &str, role: &str| {
        let (role, user) = (format!("--clusterrole={role}"), format!("--user={user}"));
        kubectl(&[
            "--namespace",
            &shop.namespace,
            "create",
            "rolebinding",
            &user[7..],
            &role,
            &user,
        ])
        .unwrap();
    };
    bind("editor", "edit");
    bind("viewer", "view");
    bind("platform", "agentwrit-platform");
    let table = [
        ("editor", "create", "launchtokens", true),
        ("editor", "delete", "launchtokens", true),
        ("editor", "get", "agentapps", true),
        ("editor", "create", "agentapps", false),
        ("editor", "patch", "agentapps", false),
        ("editor", "update", "launchtokens/status", false),
        ("viewer", "list", "launchtokens", true),
        ("viewer", "list", "agentapps", true),
        ("viewer", "create", "launchtokens", false),
        ("platform", "create", "agentapps", true),
        ("platform", "create", "launchtokens", false),
    ];
    for (user, verb, resource, allowed) in table {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let resource = format!("{resource}.agentwrit.io");
        let subresource = format!("--subresource={subresource}");
        let question = [
            "auth",
            "can-i",
            verb,
            &resource,
            &subresource,
            "--as",
            user,
            "--namespace",
            &shop.namespace,
        ];
        let output = run("kubectl", &question).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(said, if allowed { "yes" } else { "no" }, "{user} {verb} {resource}");
    }
}

#[tokio::test]
async fn the_broker_and_the_controller_may_do_no_more_than_they_must() {
    let _installation = shared().await;
    let broker = "system:serviceaccount:agentwrit-system:agentwrit-broker";
    let controller = "system:serviceaccount:agentwrit-system:agentwrit-controller";
    let table = [
        (broker, "get", "pods", "default", "yes"),
        (broker, "list", "pods", "default", "no"),
        (broker, "get", "secrets", "agentwrit-system", "no"),
        (controller, "get", "secrets", "default", "no"),
        (controller, "list", "secrets", "agentwrit-system", "no"),
        (controller, "delete", "pods", "default", "no"),
        (controller, "get", "configmaps", "default", "no"),
        (controller, "get", "configmaps/agentwrit-ca", "default", "yes"),
        (
            controller,
            "get",
            "secrets/agentwrit-signing-key",
            "agentwrit-system",
            "yes",
        ),
        (controller, "get", "secrets/agentwrit-admin", "agentwrit-system", "no"),
    ];
    for (who, verb, what, namespace, wanted) in table {
        let output = run(
            "kubectl",
            &["--namespace", namespace, "auth", "can-i", verb, what, "--as", who],
        )
        .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(said, wanted, "{who} {verb} {what} in {namespace}");
    }
}
