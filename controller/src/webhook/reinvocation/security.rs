//! The sidecar's security context.

use agentwrit_protocol::inject::CONTAINER_NAME;
use serde_json::json;

use super::contradiction;
use crate::webhook::patch::PatchBuilder;
use crate::webhook::pod::Security;
use crate::webhook::refusal::{Refusal, quoted};
use crate::webhook::sidecar_spec::{self, SidecarSettings};

/// Refuses what is weaker than ours; other choices of the platform stay, such as another user or seccomp profile.
pub(super) fn security(
    patch: &mut PatchBuilder,
    at: &str,
    found: Option<&Security<'_>>,
    settings: &SidecarSettings,
) -> Result<(), Refusal> {
    let ours = sidecar_spec::security_context(settings);
    let Some(found) = found else {
        patch.add(at, &ours);
        return Ok(());
    };
    not_weaker(found)?;
    let mut put_back = |field: &str| {
        if let Some(value) = ours.get(field) {
            patch.add(&format!("{at}/{field}"), value);
        }
    };
    let fields = [
        (found.allow_privilege_escalation.is_none(), "allowPrivilegeEscalation"),
        (found.read_only_root_filesystem.is_none(), "readOnlyRootFilesystem"),
        (found.run_as_non_root.is_none(), "runAsNonRoot"),
        (found.run_as_user.is_none(), "runAsUser"),
        (
            found.run_as_user.is_none() && found.run_as_group.is_none(),
            "runAsGroup",
        ),
        (found.seccomp.is_none(), "seccompProfile"),
        (found.capabilities.is_none(), "capabilities"),
    ];
    for (_, field) in fields.into_iter().filter(|(missing, _)| *missing) {
        put_back(field);
    }
    if let Some(drop) = found.capabilities.as_ref().map(|capabilities| &capabilities.drop)
        && !drop.all
    {
        patch.list(&format!("{at}/capabilities/drop"), drop.present);
        patch.add(&format!("{at}/capabilities/drop/-"), &json!("ALL"));
    }
    Ok(())
}

fn not_weaker(found: &Security<'_>) -> Result<(), Refusal> {
    let refuse = |field: &str, found: String, right: &str| {
        let item = format!("init container {CONTAINER_NAME}");
        Err(contradiction(&item, &format!("securityContext.{field}"), found, right))
    };
    if found.privileged {
        return refuse("privileged", "true".into(), "false");
    }
    if found.allow_privilege_escalation == Some(true) {
        return refuse("allowPrivilegeEscalation", "true".into(), "false");
    }
    if found.run_as_non_root == Some(false) {
        return refuse("runAsNonRoot", "false".into(), "true");
    }
    if found.run_as_user == Some(0) {
        return refuse("runAsUser", "0".into(), "a user other than root");
    }
    if !matches!(&*found.proc_mount, "" | "Default") {
        return refuse("procMount", quoted(&found.proc_mount), "\"Default\"");
    }
    if let Some(added) = found.capabilities.as_ref().and_then(|found| found.add.first.as_ref()) {
        return refuse("capabilities.add", format!("a list with {}", quoted(added)), "empty");
    }
    for (field, profile) in [
        ("seccompProfile", &found.seccomp),
        ("appArmorProfile", &found.app_armor),
    ] {
        if profile.as_ref().is_some_and(|profile| profile.kind == "Unconfined") {
            return refuse(&format!("{field}.type"), "\"Unconfined\"".into(), "\"RuntimeDefault\"");
        }
    }
    Ok(())
}
