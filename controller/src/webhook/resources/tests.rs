use super::*;
use crate::webhook::json::read;

fn default() -> Resources {
    DEFAULT.parse().unwrap()
}

/// What a pod with these annotations gets, as request/limit of CPU and of memory.
fn given(base: &Resources, annotations: &[(&str, &str)]) -> Result<String, String> {
    let members = annotations
        .iter()
        .map(|(key, value)| (format!("agentwrit.io/sidecar-{key}"), json!(value)));
    let text = Value::Object(members.collect()).to_string();
    let resources = base
        .with(&read(text.as_bytes()).unwrap())
        .map_err(|refusal| refusal.to_string())?;
    let json = resources.to_json();
    let of = |name: &str| {
        let at = |row: &str| json[row][name].as_str().unwrap_or("none").to_owned();
        format!("{}/{}", at("requests"), at("limits"))
    };
    Ok(format!("{} {}", of("cpu"), of("memory")))
}

#[test]
fn a_pod_gets_the_installations_unless_it_asks_for_others() {
    let base = default();
    for (annotations, right) in [
        (vec![], "5m/none 16Mi/16Mi"),
        (vec![("cpu-request", "1m")], "1m/none 16Mi/16Mi"),
        (vec![("cpu-request", "500m")], "500m/none 16Mi/16Mi"),
        (vec![("cpu-limit", "2")], "5m/2 16Mi/16Mi"),
        (vec![("cpu-limit", "50m"), ("cpu-request", "50m")], "50m/50m 16Mi/16Mi"),
        (vec![("cpu-limit", "none")], "5m/none 16Mi/16Mi"),
        (vec![("cpu-request", "2"), ("cpu-limit", "none")], "2/none 16Mi/16Mi"),
        (vec![("memory-request", "4Mi")], "5m/none 4Mi/16Mi"),
        (vec![("memory-request", "128Mi")], "5m/none 128Mi/128Mi"),
        (vec![("memory-limit", "1Gi")], "5m/none 16Mi/1Gi"),
        (
            vec![
                ("memory-request", "32Mi"),
                ("memory-limit", "64M"),
                ("cpu-request", "0.02"),
                ("cpu-limit", "20m"),
            ],
            "0.02/20m 32Mi/64M",
        ),
    ] {
        assert_eq!(given(&base, &annotations).as_deref(), Ok(right), "{annotations:?}");
    }
    let unlimited: Resources = r#"{"requests": {"cpu": 0.5, "memory": "64Mi"}, "limits": {"memory": "128Mi"}}"#
        .parse()
        .unwrap();
    assert_eq!(given(&unlimited, &[]).as_deref(), Ok("0.5/none 64Mi/128Mi"));
    let narrower = [("memory-limit", "32Mi"), ("cpu-limit", "1")];
    assert_eq!(given(&unlimited, &narrower).as_deref(), Ok("0.5/1 32Mi/32Mi"));
}

#[test]
fn a_bad_value_is_refused_with_the_annotation_and_the_bounds() {
    let cpu = "must be a Kubernetes quantity between 1m and 2";
    for (key, values, right) in [
        ("cpu-request", vec!["", "999u", "2001m", "0", "-1", "none", "fast"], cpu),
        (
            "cpu-limit",
            vec!["", "9m", "3", "None"],
            "between 10m and 2, or \"none\"",
        ),
        (
            "memory-request",
            vec!["4095Ki", "1025Mi", "16", "16mi", "none"],
            "between 4Mi and 1Gi",
        ),
        (
            "memory-limit",
            vec!["15Mi", "2Gi", "16MB", "99999999999Ei"],
            "between 16Mi and 1Gi",
        ),
    ] {
        for value in values {
            let sentence = given(&default(), &[(key, value)]).unwrap_err();
            let start = format!("annotation agentwrit.io/sidecar-{key}: {value:?} is not usable; it must be");
            assert!(sentence.starts_with(&start) && sentence.contains(right), "{sentence}");
        }
    }
    let crossed = given(&default(), &[("cpu-request", "200m"), ("cpu-limit", "0.1")]).unwrap_err();
    let says = "annotation agentwrit.io/sidecar-cpu-request: \"200m\" is not usable; it must be at most the limit, the annotation \
                agentwrit.io/sidecar-cpu-limit: \"0.1\"";
    assert_eq!(crossed, says);
}

#[test]
fn the_installations_are_checked_the_same_way() {
    for (text, right) in [
        ("", "must be JSON such as"),
        (
            "{}",
            "requests.cpu is missing; it must be a Kubernetes quantity between 1m and 2",
        ),
        (
            r#"{"requests": {"cpu": "100m", "memory": "16Mi"}}"#,
            "limits.memory is missing; it must be a Kubernetes quantity between 16Mi and 1Gi",
        ),
        (
            r#"{"requests": {"cpu": 3, "memory": "16Mi"}, "limits": {"memory": "16Mi"}}"#,
            "requests.cpu is \"3\"; it must be a Kubernetes quantity between 1m and 2",
        ),
        (
            r#"{"requests": {"cpu": 1, "memory": "32Mi"}, "limits": {"memory": "16Mi"}}"#,
            "requests.memory is \"32Mi\"; it must be at most limits.memory",
        ),
        (
            r#"{"requests": {"cpu": 1, "memory": "16Mi", "disk": 1}, "limits": {"memory": "16Mi"}}"#,
            "unknown field `disk`",
        ),
    ] {
        let sentence = Resources::from_str(text).unwrap_err();
        assert!(sentence.contains(right), "{sentence}");
    }
}

#[test]
fn what_the_surroundings_demand_comes_before_the_annotations() {
    let cpu: GuaranteedCpu = "100m".parse().unwrap();
    let even = r#"{"requests": {"cpu": "20m", "memory": "8Mi"}, "limits": {"cpu": "20m", "memory": "16Mi"}}"#;
    let uneven = r#"{"requests": {"cpu": "20m", "memory": "8Mi"}, "limits": {"cpu": "1", "memory": "16Mi"}}"#;
    let demands = |guaranteed, cpu_limit| Demands { guaranteed, cpu_limit };
    for (base, demands, annotations, right) in [
        (DEFAULT, demands(false, false), vec![], "5m/none 16Mi/16Mi"),
        (DEFAULT, demands(true, false), vec![], "100m/100m 16Mi/16Mi"),
        (DEFAULT, demands(false, true), vec![], "100m/100m 16Mi/16Mi"),
        (even, demands(true, true), vec![], "20m/20m 16Mi/16Mi"),
        (even, demands(false, true), vec![], "20m/20m 8Mi/16Mi"),
        (uneven, demands(true, false), vec![], "100m/100m 16Mi/16Mi"),
        (uneven, demands(false, true), vec![], "20m/1 8Mi/16Mi"),
        (
            DEFAULT,
            demands(true, false),
            vec![("cpu-request", "10m")],
            "10m/100m 16Mi/16Mi",
        ),
        (
            DEFAULT,
            demands(true, true),
            vec![("cpu-limit", "none")],
            "100m/none 16Mi/16Mi",
        ),
        (
            DEFAULT,
            demands(true, false),
            vec![("cpu-limit", "50m")],
            "50m/50m 16Mi/16Mi",
        ),
    ] {
        let base = base.parse::<Resources>().unwrap().under(demands, &cpu);
        assert_eq!(
            given(&base, &annotations).as_deref(),
            Ok(right),
            "{demands:?} {annotations:?}"
        );
    }
    for bad in ["", "9m", "3", "none", "-1"] {
        let sentence = GuaranteedCpu::from_str(bad).unwrap_err();
        assert_eq!(sentence, "must be a Kubernetes quantity between 10m and 2", "{bad}");
    }
}
