use agentwrit_protocol::inject::TOKEN_FILE;

use super::*;

use crate::webhook::json::read;
use serde_json::Value;

fn settings() -> SidecarSettings {
    SidecarSettings {
        image: "local/agentwrit-sidecar:dev".into(),
        pull_policy: "Never".into(),
        uid: Some(64512),
        broker_url: "https://agentwrit-broker.agentwrit-system.svc:8443".into(),
        audience: "agentwrit://agentwrit-system/agentwrit".into(),
        resources: crate::webhook::resources::DEFAULT.parse().unwrap(),
        guaranteed_cpu: "100m".parse().unwrap(),
        start_gate: crate::webhook::StartGate::Probe,
    }
}

/// A namespace with this default `LaunchToken`, and nothing else that counts.
pub(in crate::webhook) fn with_default(default: Option<&str>) -> Surroundings<'_> {
    Surroundings {
        default_launch_token: default,
        cpu_limit: false,
    }
}

fn plain() -> Value {
    json!({
        "metadata": {"name": "shop", "annotations": {"agentwrit.io/launch-token": "reader"}},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut pod = plain();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    pod.pointer_mut(parent).unwrap()[key] = value;
    pod
}

fn run_in(pod: &Value, default: Option<&str>) -> Result<Injection, Refusal> {
    let text = pod.to_string();
    inject(&read(text.as_bytes()).unwrap(), with_default(default), &settings())
}

fn run(pod: &Value) -> Result<Injection, Refusal> {
    run_in(pod, None)
}

/// The pod after this patch, applied by another implementation than ours.
fn apply(pod: &Value, patch: Option<&str>) -> Value {
    let mut patched = pod.clone();
    if let Some(patch) = patch {
        let patch: json_patch::Patch = serde_json::from_str(patch).unwrap();
        json_patch::patch(&mut patched, &patch).unwrap();
    }
    patched
}

fn patched(pod: &Value) -> Value {
    apply(pod, run(pod).unwrap().patch.as_deref())
}

#[test]
fn the_plain_pod_gets_exactly_this() {
    let pod = patched(&plain());
    assert_eq!(
        pod,
        json!({
            "metadata": {
                "name": "shop",
                "annotations": {"agentwrit.io/launch-token": "reader"},
                "labels": {"agentwrit.io/injected": "true"},
            },
            "spec": {
                "initContainers": [{
                    "name": "agentwrit-sidecar",
                    "image": "local/agentwrit-sidecar:dev",
                    "imagePullPolicy": "Never",
                    "restartPolicy": "Always",
                    "env": [
                        {"name": "AGENTWRIT_BROKER_URL", "value": "https://agentwrit-broker.agentwrit-system.svc:8443"},
                        {"name": "AGENTWRIT_LAUNCH_TOKEN", "value": "reader"},
                        {"name": "AGENTWRIT_ENDPOINT_ENABLED", "value": "true"},
                        {"name": "AGENTWRIT_SCOPES", "value": ""},
                        {"name": "AGENTWRIT_TTL_SECONDS", "value": ""},
                        {"name": "AGENTWRIT_TOKEN_FILE_GID", "value": ""},
                    ],
                    "resources": {
                        "requests": {"cpu": "5m", "memory": "16Mi"},
                        "limits": {"memory": "16Mi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "capabilities": {"drop": ["ALL"]},
                        "readOnlyRootFilesystem": true,
                        "runAsNonRoot": true,
                        "runAsUser": 64512,
                        "runAsGroup": 64512,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "startupProbe": {
                        "httpGet": {"path": "/startup", "port": 15081, "scheme": "HTTP"},
                        "periodSeconds": 1, "timeoutSeconds": 1, "successThreshold": 1,
                        "failureThreshold": 2_147_483_647,
                    },
                    "readinessProbe": {
                        "httpGet": {"path": "/ready", "port": 15081, "scheme": "HTTP"},
                        "periodSeconds": 5, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 2,
                    },
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                    "volumeMounts": [
                        {"name": "agentwrit-token", "mountPath": "/var/run/secrets/agentwrit.io/token"},
                        {"name": "agentwrit-identity", "mountPath": "/var/run/secrets/agentwrit.io/identity", "readOnly": true},
                        {
                            "name": "agentwrit-empty", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                            "readOnly": true,
                        },
                    ],
                }],
                "containers": [{
                    "name": "app",
                    "image": "app",
                    "env": [
                        {"name": "AGENTWRIT_TOKEN_FILE", "value": "/var/run/secrets/agentwrit.io/token/token"},
                        {"name": "AGENTWRIT_ENDPOINT", "value": "http://127.0.0.1:15080"},
                    ],
                    "volumeMounts": [
                        {"name": "agentwrit-token", "mountPath": "/var/run/secrets/agentwrit.io/token", "readOnly": true},
                    ],
                }],
                "volumes": [
                    {"name": "agentwrit-token", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                    {"name": "agentwrit-identity", "projected": {"defaultMode": 420, "sources": [
                        {"serviceAccountToken": {
                            "audience": "agentwrit://agentwrit-system/agentwrit", "expirationSeconds": 600, "path": "token",
                        }},
                        {"configMap": {"name": "agentwrit-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    ]}},
                    {"name": "agentwrit-empty", "emptyDir": {"medium": "Memory", "sizeLimit": "4Ki"}},
                ],
            },
        })
    );
}

#[test]
fn a_second_call_changes_nothing() {
    let once = patched(&plain());
    assert_eq!(run(&once).unwrap().patch, None);
    // As the API server gives it back.
    let mut stored = once;
    let access = json!({
        "name": "kube-api-access-abcde", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"
    });
    // Not in the sidecar: something is mounted there.
    stored["spec"]["containers"][0]["volumeMounts"]
        .as_array_mut()
        .unwrap()
        .push(access);
    stored["spec"]["volumes"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "kube-api-access-abcde", "emptyDir": {}}));
    assert_eq!(run(&stored).unwrap().patch, None);
}

#[test]
fn a_lost_label_is_set_again() {
    let mut pod = patched(&plain());
    pod["metadata"]["labels"] = json!({"app": "shop"});
    assert_eq!(
        serde_json::from_str::<Value>(&run(&pod).unwrap().patch.unwrap()).unwrap(),
        json!([{"op": "add", "path": "/metadata/labels/agentwrit.io~1injected", "value": "true"}])
    );
}

#[test]
fn the_namespaces_default_is_written_down_in_the_pod() {
    let mut pod = plain();
    pod["metadata"].as_object_mut().unwrap().remove("annotations");
    let injection = run_in(&pod, Some("common")).unwrap();
    assert_eq!(injection.launch_token, "common");
    let pod = apply(&pod, injection.patch.as_deref());
    assert_eq!(
        pod["metadata"]["annotations"],
        json!({"agentwrit.io/launch-token": "common"})
    );
    assert_eq!(run(&pod).unwrap().patch, None);
}

#[test]
fn first_among_init_containers_except_after_mesh_proxies() {
    let names = |inits: &[&str]| -> Vec<String> {
        let inits: Vec<Value> = inits.iter().map(|name| json!({"name": name, "image": "i"})).collect();
        let pod = patched(&with("/spec/initContainers", json!(inits)));
        let inits = pod["spec"]["initContainers"].as_array().unwrap();
        inits
            .iter()
            .map(|container| {
                let given = container["volumeMounts"].to_string().contains("agentwrit-token");
                format!(
                    "{}{}",
                    container["name"].as_str().unwrap(),
                    if given { "+" } else { "" }
                )
            })
            .collect()
    };
    assert_eq!(names(&["prepare"]), ["agentwrit-sidecar+", "prepare+"]);
    assert_eq!(
        names(&["istio-init", "istio-proxy", "prepare"]),
        ["istio-init", "istio-proxy", "agentwrit-sidecar+", "prepare+"]
    );
    assert_eq!(names(&["linkerd-proxy"]), ["linkerd-proxy", "agentwrit-sidecar+"]);
}

#[test]
fn only_chosen_containers_get_the_token() {
    let mut pod = with(
        "/spec/containers",
        json!([{"name": "app", "image": "a"}, {"name": "log", "image": "l"}]),
    );
    pod["metadata"]["annotations"]["agentwrit.io/containers"] = json!("log");
    let pod = patched(&pod);
    assert_eq!(pod["spec"]["containers"][0], json!({"name": "app", "image": "a"}));
    // Others could ask the endpoint too, so it is closed.
    let env = &pod["spec"]["containers"][1]["env"];
    assert_eq!(env, &json!([{"name": "AGENTWRIT_TOKEN_FILE", "value": TOKEN_FILE}]));
    let sidecar = &pod["spec"]["initContainers"][0]["env"];
    assert_eq!(
        sidecar[2],
        json!({"name": "AGENTWRIT_ENDPOINT_ENABLED", "value": "false"})
    );
    assert_eq!(run(&pod).unwrap().patch, None);
}

#[test]
fn settings_of_the_container_itself_are_kept() {
    let pod = patched(&with(
        "/spec/containers",
        json!([{"name": "app", "image": "a", "env": [{"name": "AGENTWRIT_TOKEN_FILE", "value": "/x"}]}]),
    ));
    assert_eq!(pod["spec"]["containers"][0]["env"][0]["value"], json!("/x"));
    assert_eq!(
        pod["spec"]["containers"][0]["env"][1]["name"],
        json!("AGENTWRIT_ENDPOINT")
    );
}

#[test]
fn unsupported_pods_are_refused_with_the_field() {
    for (pointer, value, part) in [
        ("/spec/hostNetwork", json!(true), "spec.hostNetwork"),
        ("/spec/os", json!({"name": "windows"}), "windows"),
        ("/spec/nodeSelector", json!({"kubernetes.io/os": "windows"}), "windows"),
        ("/spec/hostPID", json!(true), "spec.hostPID"),
        ("/spec/shareProcessNamespace", json!(true), "spec.shareProcessNamespace"),
    ] {
        let sentence = run(&with(pointer, value)).unwrap_err().to_string();
        assert!(sentence.contains(part), "{sentence}");
    }
    for field in ["hostPID", "shareProcessNamespace"] {
        for (name, warnings) in [("allow-shared-pids", 0), ("allow-shared-pid", 1)] {
            let with_value = |value: &str| {
                let mut pod = with(&format!("/spec/{field}"), json!(true));
                pod["metadata"]["annotations"][format!("agentwrit.io/{name}")] = json!(value);
                run(&pod)
            };
            let shown = with_value("true").unwrap().warnings;
            assert_eq!(shown.len(), warnings, "{shown:?}");
            let renamed = "annotation agentwrit.io/allow-shared-pid is now called agentwrit.io/allow-shared-pids";
            assert!(shown.iter().all(|warning| warning.contains(renamed)), "{shown:?}");
            let sentence = with_value("yes").unwrap_err().to_string();
            assert!(
                sentence.ends_with("the annotation agentwrit.io/allow-shared-pids: \"true\""),
                "{sentence}"
            );
        }
    }
}

#[test]
fn a_mount_at_or_below_the_tokens_directory_is_refused() {
    let with_mount = |path: &str| {
        let mount = json!({"name": "own", "mountPath": path, "subPath": "x"});
        with(
            "/spec/containers",
            json!([{"name": "app", "image": "a", "volumeMounts": [mount]}]),
        )
    };
    for path in [
        "/var/run/secrets/agentwrit.io/token",
        "/var/run//secrets/agentwrit.io/token/",
        "/var/run/secrets/agentwrit.io/./identity/../token",
        "/run/secrets/agentwrit.io/token",
        "/var/run/secrets/agentwrit.io/token/extra",
    ] {
        let sentence = run(&with_mount(path)).unwrap_err().to_string();
        let says = format!("container app mounts volume own at \"{path}\", which is at or below {TOKEN_DIR}");
        assert!(sentence.starts_with(&says), "{sentence}");
    }
    for path in [
        "/var/run/secrets",
        "/var/run/secrets/agentwrit.io",
        "/var/run/secrets/agentwrit.io/tokens",
    ] {
        assert!(run(&with_mount(path)).is_ok(), "{path}");
    }
    let mut not_chosen = with_mount("/var/run/secrets/agentwrit.io/token");
    not_chosen["spec"]["initContainers"] = json!([{"name": "prepare", "image": "p"}]);
    not_chosen["metadata"]["annotations"]["agentwrit.io/containers"] = json!("prepare");
    assert!(run(&not_chosen).is_ok(), "the token isn't mounted in that container");
}

#[test]
fn unknown_annotations_and_taken_ports_are_warned_of() {
    let mut pod = with(
        "/spec/containers",
        json!([{"name": "app", "image": "a", "ports": [{"containerPort": 15080}]}]),
    );
    pod["metadata"]["annotations"]["agentwrit.io/token-mode"] = json!("5");
    let warnings = run(&pod).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("agentwrit.io/token-mode"));
    assert!(warnings[1].contains("15080"));
}

#[test]
fn an_endpoint_for_all_beside_a_file_for_some_is_warned_of() {
    let mut pod = plain();
    pod["spec"]["containers"] = json!([{"name": "app", "image": "app"}, {"name": "log", "image": "log"}]);
    let warnings = |containers: Option<&str>, endpoint: Option<&str>| {
        let mut pod = pod.clone();
        for (key, value) in [("containers", containers), ("endpoint", endpoint)] {
            if let Some(value) = value {
                pod["metadata"]["annotations"][format!("agentwrit.io/{key}")] = json!(value);
            }
        }
        run(&pod).unwrap().warnings
    };
    let shown = warnings(Some("app"), Some("on"));
    assert!(
        shown.len() == 1 && shown[0].contains("agentwrit.io/endpoint: \"on\" lets every container"),
        "{shown:?}"
    );
    for (containers, endpoint) in [
        (None, None),
        (None, Some("on")),
        (Some("app"), None),
        (Some("app"), Some("off")),
        (Some("app,log"), Some("on")),
    ] {
        assert_eq!(warnings(containers, endpoint), Vec::<String>::new());
    }
}

#[test]
fn a_port_is_warned_of_only_when_the_sidecar_listens_on_it() {
    let mut pod = with(
        "/spec/containers",
        json!([{"name": "app", "image": "a", "ports": [{"containerPort": 15080}, {"containerPort": 15081}]}]),
    );
    pod["metadata"]["annotations"]["agentwrit.io/endpoint"] = json!("off");
    let warnings = run(&pod).unwrap().warnings;
    assert!(
        warnings.len() == 1 && warnings[0].contains("port 15081"),
        "{warnings:?}"
    );
}

/// Request and limit of CPU of the sidecar in a pod with these containers, in a namespace with or without a quota for limits.
fn cpu_in(spec: &Value, cpu_limit: bool) -> (Value, Value) {
    let mut pod = plain();
    pod["spec"] = spec.clone();
    let text = pod.to_string();
    let surroundings = Surroundings {
        cpu_limit,
        ..Surroundings::default()
    };
    let patch = inject(&read(text.as_bytes()).unwrap(), surroundings, &settings())
        .unwrap()
        .patch;
    let mut pod = apply(&pod, patch.as_deref());
    let again = pod.to_string();
    let again = inject(&read(again.as_bytes()).unwrap(), surroundings, &settings()).unwrap();
    assert_eq!(again.patch, None, "a second look changes nothing");
    let inits = pod["spec"]["initContainers"].as_array_mut().unwrap();
    let own = inits
        .iter_mut()
        .find(|container| container["name"] == "agentwrit-sidecar")
        .unwrap();
    (
        own["resources"]["requests"]["cpu"].take(),
        own["resources"]["limits"]["cpu"].take(),
    )
}

#[test]
fn a_pod_of_class_guaranteed_stays_one() {
    let container = |name: &str, resources: Value| json!({"name": name, "image": "app", "resources": resources});
    let even = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1024Mi"}});
    let limits_alone = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
    let uneven = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}});
    let no_memory = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}});
    let zero = json!({"requests": {"cpu": "0", "memory": "1Gi"}, "limits": {"cpu": "0", "memory": "1Gi"}});
    let spec = |inits: &[&Value], apps: &[&Value]| {
        let list = |of: &[&Value]| -> Vec<Value> {
            let numbered = of.iter().enumerate();
            numbered
                .map(|(number, resources)| container(&format!("c{number}"), (*resources).clone()))
                .collect()
        };
        json!({"initContainers": list(inits), "containers": list(apps)})
    };
    for (spec, guaranteed) in [
        (spec(&[], &[&even]), true),
        (spec(&[&even], &[&even, &limits_alone]), true),
        (spec(&[&even], &[&even, &uneven]), false),
        (spec(&[&uneven], &[&even]), false),
        (spec(&[], &[&no_memory]), false),
        (spec(&[], &[&zero]), false),
        (spec(&[], &[&json!({})]), false),
    ] {
        let (request, limit) = cpu_in(&spec, false);
        let right = if guaranteed {
            (json!("100m"), json!("100m"))
        } else {
            (json!("5m"), json!(null))
        };
        assert_eq!((request, limit), right, "{spec}");
        assert_eq!(
            cpu_in(&spec, true),
            (json!("100m"), json!("100m")),
            "under a quota: {spec}"
        );
    }
    // The class is that of the pod's own resources.
    let mut whole = spec(&[], &[&even]);
    whole["resources"] = even;
    assert_eq!(cpu_in(&whole, false), (json!("5m"), json!(null)));
}

fn gated(gate: Option<&str>) -> Value {
    let mut pod = plain();
    if let Some(gate) = gate {
        pod["metadata"]["annotations"]["agentwrit.io/start-gate"] = json!(gate);
    }
    pod
}

#[test]
fn the_start_gate_is_a_probe_a_hook_or_nothing() {
    let hook = json!({"postStart": {"exec": {"command": ["/agentwrit-sidecar", "wait"]}}});
    for (gate, probe, lifecycle) in [
        (None, true, json!(null)),
        (Some("probe"), true, json!(null)),
        (Some("hook"), false, hook),
        (Some("none"), false, json!(null)),
    ] {
        let pod = patched(&gated(gate));
        let sidecar = &pod["spec"]["initContainers"][0];
        assert_eq!(sidecar["startupProbe"].is_object(), probe, "{gate:?}");
        assert_eq!(sidecar["lifecycle"], lifecycle, "{gate:?}");
        assert!(sidecar["readinessProbe"].is_object(), "{gate:?}");
        assert_eq!(run(&pod).unwrap().patch, None, "a second look changes nothing");
    }
}

#[test]
fn a_gate_that_was_taken_away_is_put_back() {
    let mut pod = patched(&gated(Some("hook")));
    let right = pod["spec"]["initContainers"][0]["lifecycle"].clone();
    for left in [json!(null), json!({}), json!({"preStop": {"sleep": {"seconds": 1}}})] {
        pod["spec"]["initContainers"][0]["lifecycle"] = left.clone();
        let pod = patched(&pod);
        let lifecycle = &pod["spec"]["initContainers"][0]["lifecycle"];
        assert_eq!(lifecycle["postStart"], right["postStart"], "{left}");
        assert_eq!(lifecycle["preStop"], left["preStop"], "{left}");
    }
    // The platform's own hook stays, and so does a probe beside ours.
    pod["spec"]["initContainers"][0]["lifecycle"] = json!({"postStart": {"sleep": {"seconds": 1}}});
    pod["spec"]["initContainers"][0]["startupProbe"] = json!({"tcpSocket": {"port": 15081}});
    assert_eq!(run(&pod).unwrap().patch, None);
}

#[test]
fn the_group_of_the_token_file_is_the_pods_too() {
    let groups = |security: Value| {
        let mut pod = plain();
        pod["metadata"]["annotations"]["agentwrit.io/token-file-gid"] = json!("2000");
        pod["spec"]["securityContext"] = security;
        let pod = patched(&pod);
        assert_eq!(run(&pod).unwrap().patch, None, "a second look changes nothing");
        let variables = pod["spec"]["initContainers"][0]["env"].as_array().unwrap();
        assert!(variables.contains(&json!({"name": "AGENTWRIT_TOKEN_FILE_GID", "value": "2000"})));
        pod["spec"]["securityContext"].clone()
    };
    for (before, after) in [
        (json!(null), json!({"supplementalGroups": [2000]})),
        (
            json!({"runAsUser": 5}),
            json!({"runAsUser": 5, "supplementalGroups": [2000]}),
        ),
        (
            json!({"supplementalGroups": null}),
            json!({"supplementalGroups": [2000]}),
        ),
        (
            json!({"supplementalGroups": [7]}),
            json!({"supplementalGroups": [7, 2000]}),
        ),
        (
            json!({"supplementalGroups": [2000, 7]}),
            json!({"supplementalGroups": [2000, 7]}),
        ),
    ] {
        assert_eq!(groups(before.clone()), after, "{before}");
    }
}
