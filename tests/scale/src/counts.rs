//! What an API server and a broker say themselves of the requests that they answered.

use std::collections::BTreeMap;

use agentwrit_testkit::load::http::{Connection, request};
use kube::Client;

use crate::Result;

/// Verbs that change something.
const WRITES: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];

/// Requests by `VERB group/resource/subresource`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts(pub(crate) BTreeMap<String, u64>);

/// The labels of one sample of the text format.
fn labels(text: &str) -> BTreeMap<&str, &str> {
    text.split("\",")
        .filter_map(|pair| pair.trim_end_matches('"').split_once("=\""))
        .collect()
}

/// A sample's value; large ones come as `1.5e+06`.
fn whole(text: &str) -> u64 {
    let rounded = text.trim().parse::<f64>().map(|value| format!("{value:.0}"));
    rounded.ok().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// All samples of a family: labels and value.
fn samples<'a>(text: &'a str, family: &str) -> impl Iterator<Item = (BTreeMap<&'a str, &'a str>, u64)> {
    let begin = format!("{family}{{");
    text.lines().filter_map(move |line| {
        let (within, value) = line.strip_prefix(&begin)?.rsplit_once('}')?;
        Some((labels(within), whole(value)))
    })
}

impl Counts {
    /// What the API server has answered so far.
    pub(crate) async fn of_api_server(client: &Client) -> Result<Self> {
        let path = http_get("/metrics")?;
        Ok(Self::parse(&client.request_text(path).await?))
    }

    fn parse(text: &str) -> Self {
        let mut counts = BTreeMap::new();
        for (labels, value) in samples(text, "apiserver_request_total") {
            let label = |name| labels.get(name).copied().unwrap_or_default();
            let mut key = format!("{} ", label("verb"));
            for part in ["group", "resource", "subresource"].map(label) {
                if !part.is_empty() {
                    key.push_str(part);
                    key.push('/');
                }
            }
            *counts.entry(key.trim_end_matches('/').to_owned()).or_default() += value;
        }
        Self(counts)
    }

    /// What has come since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let grown = self.0.iter().filter_map(|(key, value)| {
            let by = value.saturating_sub(before.0.get(key).copied().unwrap_or_default());
            (by > 0).then(|| (key.clone(), by))
        });
        Self(grown.collect())
    }

    fn only(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let only = self.0.iter().filter(|(key, _)| wanted(key));
        Self(only.map(|(key, value)| (key.clone(), *value)).collect())
    }

    /// Those that change something that a controller of ours could change: not Leases, and not what the cluster's own
    /// controllers do for themselves.
    pub(crate) fn writes(&self) -> Self {
        let ours = |key: &str| {
            let (verb, what) = key.split_once(' ').unwrap_or_default();
            let others = [
                "coordination.k8s.io/",
                "authentication.k8s.io/",
                "authorization.k8s.io/",
                "serviceaccounts",
            ];
            WRITES.contains(&verb) && !others.iter().any(|other| what.starts_with(other))
        };
        self.only(ours)
    }

    /// Those of our kinds of object.
    pub(crate) fn of_ours(&self) -> Self {
        let ours = |key: &str| key.contains(" agentwrit.io/");
        self.only(ours)
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// `12 PATCH agentwrit.io/launchtokens, 3 ...`
    pub(crate) fn text(&self) -> String {
        if self.0.is_empty() {
            return "none".to_owned();
        }
        let parts: Vec<String> = self.0.iter().map(|(key, value)| format!("{value} {key}")).collect();
        parts.join(", ")
    }
}

fn http_get(path: &str) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(vec![])?)
}

/// The text of a program's own metrics.
async fn exposition(ops: std::net::SocketAddr) -> Result<String> {
    let mut connection = Connection::open(ops).await?;
    let answer = connection.send(&request("GET", "/metrics", "", "")).await?;
    Ok(String::from_utf8_lossy(answer.body).into_owned())
}

/// Requests that the broker has answered so far, by the endpoint that its metrics name.
pub(crate) async fn of_broker(ops: std::net::SocketAddr) -> Result<BTreeMap<String, u64>> {
    let text = exposition(ops).await?;
    let family = "agentwrit_request_duration_seconds_count";
    let named = samples(&text, family).map(|(labels, value)| {
        let endpoint = labels.get("endpoint").copied().unwrap_or_default();
        (endpoint.to_owned(), value)
    });
    Ok(named.filter(|(endpoint, _)| endpoint.starts_with("k8s")).collect())
}

/// Audit events of this type that the broker has committed so far.
pub(crate) async fn events(ops: std::net::SocketAddr, event_type: &str) -> Result<u64> {
    let text = exposition(ops).await?;
    let mut all = samples(&text, "agentwrit_audit_events_total");
    let found = all.find(|(labels, _)| labels.get("event_type") == Some(&event_type));
    Ok(found.map_or(0, |(_, value)| value))
}

/// A counter or gauge without labels.
pub(crate) async fn plain(ops: std::net::SocketAddr, name: &str) -> Result<u64> {
    let text = exposition(ops).await?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.map_or(0, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",dry_run="",group="agentwrit.io",resource="launchtokens",scope="resource",subresource="status",verb="APPLY",version="v1alpha1"} 10
apiserver_request_total{code="409",component="apiserver",dry_run="",group="agentwrit.io",resource="launchtokens",scope="resource",subresource="status",verb="APPLY",version="v1alpha1"} 1
apiserver_request_total{code="200",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",version="v1"} 7
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="events",scope="resource",subresource="",verb="POST",version="v1"} 1.5e+06
"#;

    #[test]
    fn requests_are_summed_by_verb_and_resource() {
        let counts = Counts::parse(BEFORE);
        assert_eq!(counts.0["APPLY agentwrit.io/launchtokens/status"], 11);
        assert_eq!(counts.0["POST events"], 1_500_000);
        assert_eq!(counts.writes().0.len(), 2, "a Lease is no write that counts");
        assert_eq!(counts.of_ours().total(), 11);
        assert_eq!(counts.since(&counts), Counts::default());
        assert_eq!(counts.since(&Counts::default()), counts);
    }
}
