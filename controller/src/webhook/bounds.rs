//! How much of everything a pod may have. The reader keeps nothing beyond it, and such a pod is refused.

use agentwrit_protocol::inject::LABEL_INJECT;

use super::pod::{Container, Pod, Spec};
use super::refusal::{Refusal, name};

/// Containers and init containers of a pod, together.
pub(crate) const MAX_CONTAINERS: usize = 256;
/// Volumes of a pod.
pub(crate) const MAX_VOLUMES: usize = 512;
/// Environment variables of a container.
pub(crate) const MAX_ENV: usize = 4096;
/// Volume mounts of a container.
pub(crate) const MAX_MOUNTS: usize = 1024;
/// Ports of a container.
pub(crate) const MAX_PORTS: usize = 1024;
/// Labels of a pod, and annotations.
pub(crate) const MAX_LABELS: usize = 4096;

/// Refuses a pod that has more of something than is read.
///
/// The error names the field, the count, the limit and what to do.
pub(crate) fn check(pod: &Pod<'_>, spec: &Spec<'_>) -> Result<(), Refusal> {
    let labels = pod.metadata.labels.count;
    bounded("metadata.labels", labels, MAX_LABELS, "take some out")?;
    let annotations = pod.metadata.annotations.count;
    bounded("metadata.annotations", annotations, MAX_LABELS, "take some out")?;
    let containers = spec.containers.count.saturating_add(spec.init_containers.count);
    let both = "spec.containers and spec.initContainers together";
    bounded(both, containers, MAX_CONTAINERS, "split the pod")?;
    let volumes = "put several sources into one projected volume";
    bounded("spec.volumes", spec.volumes.count, MAX_VOLUMES, volumes)?;
    for (list, containers) in [
        ("initContainers", &spec.init_containers),
        ("containers", &spec.containers),
    ] {
        for (index, container) in containers.items.iter().enumerate() {
            let field = |of: &str| format!("spec.{list}[{index}].{of} (container {})", name(&container.name));
            check_container(container, field)?;
        }
    }
    Ok(())
}

fn check_container(container: &Container<'_>, field: impl Fn(&str) -> String) -> Result<(), Refusal> {
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let env = count(container.env.count.unwrap_or_default());
    if env > MAX_ENV {
        let instead = "move them into a ConfigMap and name it in envFrom";
        return bounded(&field("env"), env, MAX_ENV, instead);
    }
    let mounts = count(container.mount_count.unwrap_or_default());
    if mounts > MAX_MOUNTS {
        return bounded(&field("volumeMounts"), mounts, MAX_MOUNTS, "mount whole volumes");
    }
    let ports = count(container.ports.count);
    if ports > MAX_PORTS {
        let instead = "leave some out: a port needs no declaration to be reached";
        return bounded(&field("ports"), ports, MAX_PORTS, instead);
    }
    Ok(())
}

fn bounded(field: &str, count: usize, most: usize, instead: &str) -> Result<(), Refusal> {
    if count <= most {
        return Ok(());
    }
    Err(Refusal::TooMany {
        field: field.to_owned(),
        count,
        most,
        instead: format!("{instead}, or set the label {LABEL_INJECT}=false on the pod"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::json::read;
    use serde_json::{Value, json};

    fn sentence(pod: &Value) -> Option<String> {
        let text = pod.to_string();
        let pod: Pod<'_> = read(text.as_bytes()).unwrap();
        let checked = check(&pod, pod.spec.as_ref().unwrap());
        checked.err().map(|refusal| refusal.to_string())
    }

    fn many(count: usize) -> Value {
        Value::Array(vec![json!({}); count])
    }

    fn map(count: usize) -> Value {
        Value::Object((0..count).map(|n| (n.to_string(), json!(""))).collect())
    }

    #[test]
    fn a_pod_at_its_bounds_passes_and_one_beyond_is_refused() {
        let of_container =
            |field: &str, count: usize| json!({"spec": {"containers": [{"name": "app", field: many(count)}]}});
        let pod = |field: &str, count: usize| match field {
            "labels" | "annotations" => json!({"metadata": {field: map(count)}, "spec": {}}),
            "volumes" => json!({"spec": {"volumes": many(count)}}),
            "containers" => json!({"spec": {"containers": many(count - 100), "initContainers": many(100)}}),
            of => of_container(of, count),
        };
        for (field, place, most) in [
            ("labels", "metadata.labels", MAX_LABELS),
            ("annotations", "metadata.annotations", MAX_LABELS),
            (
                "containers",
                "spec.containers and spec.initContainers together",
                MAX_CONTAINERS,
            ),
            ("volumes", "spec.volumes", MAX_VOLUMES),
            ("env", "spec.containers[0].env (container app)", MAX_ENV),
            (
                "volumeMounts",
                "spec.containers[0].volumeMounts (container app)",
                MAX_MOUNTS,
            ),
            ("ports", "spec.containers[0].ports (container app)", MAX_PORTS),
        ] {
            assert_eq!(sentence(&pod(field, most)), None, "{field}");
            for count in [most + 1, most * 3] {
                let sentence = sentence(&pod(field, count)).unwrap();
                let start = format!("{place} has {count} items; AgentWrit reads at most {most}: ");
                assert!(sentence.starts_with(&start), "{sentence}");
                assert!(sentence.ends_with("agentwrit.io/inject=false on the pod"), "{sentence}");
            }
        }
    }
}
