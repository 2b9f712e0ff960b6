//! The sidecar's container.

use agentwrit_protocol::inject::{CONTAINER_NAME, ENV_LAUNCH_TOKEN};
use serde_json::json;

use super::contradiction;
use super::mounts::sidecar_mounts;
use super::security::security;
use crate::webhook::patch::PatchBuilder;
use crate::webhook::pod::{Container, Own, Value};
use crate::webhook::refusal::{Refusal, quoted};
use crate::webhook::request::InjectionRequest;
use crate::webhook::sidecar_spec::{self, MAY_BE_EMPTY, SIDECAR_ENV, SidecarSettings};
use crate::webhook::start_gate::StartGate;

/// Looks at the init container with our sidecar's name, at `at` in the pod.
pub(crate) fn check(
    patch: &mut PatchBuilder,
    at: &str,
    container: &Container<'_>,
    settings: &SidecarSettings,
    request: &InjectionRequest,
) -> Result<(), Refusal> {
    let item = format!("init container {CONTAINER_NAME}");
    let launch_token = SIDECAR_ENV.iter().position(|name| *name == ENV_LAUNCH_TOKEN);
    let ours = |own: &&Own<'_>| launch_token.and_then(|index| own.env.get(index)?.as_ref()).is_some();
    let Some(own) = container.own.as_deref().filter(ours) else {
        let why = format!("this container isn't AgentWrit's: it has no env {ENV_LAUNCH_TOKEN}");
        return Err(Refusal::ReservedName { item, why });
    };
    match &*own.restart_policy {
        "Always" => {}
        "" => patch.add(&format!("{at}/restartPolicy"), &json!("Always")),
        other => return Err(contradiction(&item, "restartPolicy", quoted(other), "\"Always\"")),
    }
    for (field, count) in [("command", own.command), ("args", own.args)] {
        if count > 0 {
            let found = format!("a list of {count}");
            return Err(contradiction(&item, field, found, "unset: the image has what it runs"));
        }
    }
    if own.image.is_empty() {
        patch.add(&format!("{at}/image"), &json!(settings.image));
    }
    sidecar_env(patch, at, container, own, (settings, request))?;
    security(patch, &format!("{at}/securityContext"), own.security.as_ref(), settings)?;
    start_gate(patch, at, own, request);
    if !own.readiness_probe {
        patch.add(&format!("{at}/readinessProbe"), &sidecar_spec::readiness_probe());
    }
    sidecar_mounts(patch, at, container)
}

/// Puts back what makes the application's start wait. What makes it wait longer may stay.
fn start_gate(patch: &mut PatchBuilder, at: &str, own: &Own<'_>, request: &InjectionRequest) {
    let is_there = match request.gate {
        StartGate::Probe => own.startup_probe,
        StartGate::Hook => own.lifecycle.as_ref().is_some_and(|hooks| hooks.post_start.0),
        StartGate::None => true,
    };
    if is_there {
        return;
    }
    match sidecar_spec::gate(request.gate) {
        // Hooks of the platform's, without the one after the start.
        Some(("lifecycle", _)) if own.lifecycle.is_some() => {
            patch.add(&format!("{at}/lifecycle/postStart"), &sidecar_spec::post_start());
        }
        Some((field, gate)) => patch.add(&format!("{at}/{field}"), &gate),
        None => {}
    }
}

fn sidecar_env(
    patch: &mut PatchBuilder,
    at: &str,
    container: &Container<'_>,
    own: &Own<'_>,
    (settings, request): (&SidecarSettings, &InjectionRequest),
) -> Result<(), Refusal> {
    let item = format!("init container {CONTAINER_NAME}");
    let values = sidecar_spec::sidecar_env(settings, request);
    let mut present = container.env.count.is_some();
    let mut add = |name: &str, value: &str| {
        patch.list(&format!("{at}/env"), present);
        present = true;
        patch.add(&format!("{at}/env/-"), &sidecar_spec::variable(name, value));
    };
    for ((name, right), found) in SIDECAR_ENV.iter().zip(&values).zip(&own.env) {
        let field = format!("env {name}");
        let right_words = || match &**right {
            "" => "empty".to_owned(),
            right => quoted(&sidecar_spec::escaped(right)),
        };
        match found {
            Some(Value::From) => return Err(contradiction(&item, &field, "a valueFrom".into(), right_words())),
            Some(Value::Text(found)) if sidecar_spec::is_read_as(found, right) => {}
            // Ours, from before the pod got the annotation; of several values the last counts.
            Some(Value::Text(found)) if found.is_empty() && MAY_BE_EMPTY.contains(name) => add(name, right),
            Some(Value::Text(found)) => return Err(contradiction(&item, &field, quoted(found), right_words())),
            // The version before left empty ones out.
            None if right.is_empty() => {}
            None => add(name, right),
        }
    }
    Ok(())
}
