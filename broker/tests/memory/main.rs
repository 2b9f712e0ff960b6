//! No body costs more than a bounded multiple of its bytes, whatever it is and wherever it is sent.
//!
//! The bound is 6 bytes for one of the body, and 256 KiB. Reading copies each text that the endpoint knows once, and
//! makes the three bytes of U+FFFD of one that is no UTF-8: 3. The endpoint may hold one further copy, such as the key
//! that it looks up: 6. A list has at most 4,096 items, whose places (24 bytes each, and half of that again while the
//! list grows) fit into the constant part, with what a request costs that has no body.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    unreachable_pub
)]

mod bodies;
mod endpoints;
mod world;

use agentwrit_attest::PodFacts;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use parking_lot::Mutex;
use peak_alloc::PeakAlloc;

use bodies::{FAMILIES, Family, Tried};
use endpoints::{ENDPOINTS, Endpoint, UNKNOWN, WHOLE};
use world::{Answer, World};

/// Counts a reallocation as the old and the new block together, as if it always had to move.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Bytes of a hostile value: with what stands around it, a body is a little below the limit of 1 MiB.
const VALUE: usize = 1_046_528;
const FACTOR: usize = 6;
const CONSTANT: usize = 256 * 1024;
/// What a request costs that has no body, or whose bearer is refused.
const LITTLE: usize = 32 * 1024;

/// One test at a time: the counter is that of the whole process.
static COUNTED: Mutex<()> = Mutex::new(());

/// What allocations rose by at most while `run` ran.
async fn peak<T>(run: impl Future<Output = T>) -> (T, usize) {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let result = run.await;
    (result, ALLOCATED.peak_usage().saturating_sub(before))
}

/// Where every family of values is tried; elsewhere those that [`Tried`] says.
const SOMEWHERE: [(&str, &str); 5] = [
    ("/v1/token/validate", WHOLE),
    ("/v1/token/validate", UNKNOWN),
    ("/v1/token/validate", "\"token\":@"),
    ("/v1/register", "\"requested_scope\":@"),
    ("/v1/k8s/launch-tokens", "\"scopes\":@"),
];

fn is_tried(family: &Family, path: &str, member: &str) -> bool {
    match family.tried {
        Tried::Everywhere => true,
        Tried::Unknown if member == UNKNOWN => true,
        Tried::Unknown | Tried::Somewhere => SOMEWHERE.contains(&(path, member)),
    }
}

/// What requests cost, and those that cost too much.
#[derive(Default)]
struct Costs {
    most: (usize, String),
    excessive: Vec<String>,
}

impl Costs {
    /// Sends one request, which may need so many bytes.
    async fn try_one(&mut self, world: &mut World, request: Request<Body>, allowed: usize, name: String) -> Answer {
        let (answer, peak) = peak(world.answer(request)).await;
        assert!(answer.status < 500 && answer.status != 429, "{name}: {answer:?}");
        assert!(world.serves_others().await, "after {name}");
        if peak > allowed {
            self.excessive
                .push(format!("{peak} instead of {allowed} bytes: {name}"));
        }
        if peak > self.most.0 {
            self.most = (peak, name);
        }
        answer
    }

    async fn try_body(
        &mut self,
        world: &mut World,
        endpoint: &Endpoint,
        body: Vec<u8>,
        allowed: usize,
        name: &str,
    ) -> Answer {
        let bearer = world.bearer(endpoint.caller).await;
        let path = world.fill(endpoint.path).await;
        let request = World::request(endpoint.method, &path, &bearer, body.into());
        let name = format!("{} {path}: {name}", endpoint.method);
        self.try_one(world, request, allowed, name).await
    }

    fn judge(self) {
        println!("{:>10} bytes at most, {}", self.most.0, self.most.1);
        let excessive = self.excessive;
        assert!(
            excessive.is_empty(),
            "{} cost too much:\n{}",
            excessive.len(),
            excessive.join("\n")
        );
    }
}

fn run(test: impl AsyncFnOnce(World)) {
    let _alone = COUNTED.lock();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { test(World::new().await).await });
}

#[test]
fn no_body_costs_more_than_six_times_its_bytes() {
    run(async |mut world| {
        let mut costs = Costs::default();
        let values: Vec<(&Family, Vec<u8>)> = FAMILIES.iter().map(|family| (family, (family.make)(VALUE))).collect();
        for endpoint in ENDPOINTS {
            for member in endpoint.hostile {
                let tried = values
                    .iter()
                    .filter(|(family, _)| is_tried(family, endpoint.path, member));
                for (family, value) in tried {
                    let filled = world.fill(&endpoint.body_with(member)).await;
                    let (before, after) = filled.split_once('@').unwrap();
                    let body = [before.as_bytes(), value, after.as_bytes()].concat();
                    let name = format!("{} in {member}", family.name);
                    let allowed = FACTOR * body.len() + CONSTANT;
                    costs.try_body(&mut world, endpoint, body, allowed, &name).await;
                }
            }
        }
        costs.judge();
    });
}

#[test]
fn a_member_again_and_again_costs_what_it_costs_once() {
    run(async |mut world| {
        let mut costs = Costs::default();
        for endpoint in ENDPOINTS {
            for member in endpoint.hostile {
                let again = member.replace('@', "[\"y\"],");
                let members = again.repeat(VALUE / again.len());
                let body = endpoint.body_with(&format!("{members}{}", member.replace('@', "\"y\"")));
                let body = world.fill(&body).await.into_bytes();
                let name = format!("again and again {member}");
                costs.try_body(&mut world, endpoint, body, LITTLE, &name).await;
            }
        }
        costs.judge();
    });
}

/// The largest write of many policies that is accepted: all of it is kept until it is committed.
#[test]
fn no_bulk_write_costs_more_than_six_times_its_bytes() {
    run(async |mut world| {
        let mut costs = Costs::default();
        let endpoint = ENDPOINTS
            .iter()
            .find(|endpoint| endpoint.path == "/v1/k8s/policies")
            .unwrap();
        for scope in ["a:b:c", "read:orders:0123456789", "a:b:\\ud800\\ud800\\ud800"] {
            let scopes = vec![format!("\"{scope}\""); 64].join(",");
            let mut items = Vec::new();
            let mut length = 0;
            for number in 0..500 {
                let put = world.fill("{app}").await;
                let address = format!("\"kind\":\"app\",\"namespace\":\"shop\",\"name\":\"a{number}\"");
                let spec = format!("\"spec\":{{\"scopes\":[{scopes}],\"max_agent_ttl_seconds\":60}}");
                let item = format!("{{{address},{put},\"uid\":\"uid-{number}\",{spec}}}");
                length += item.len() + 1;
                if length > VALUE {
                    break;
                }
                items.push(item);
            }
            let body = format!("{{\"items\":[{}]}}", items.join(",")).into_bytes();
            let allowed = FACTOR * body.len() + CONSTANT;
            let answer = costs.try_body(&mut world, endpoint, body, allowed, scope).await;
            let text = String::from_utf8(answer.body.to_vec()).unwrap();
            assert!(!text.contains("problem") && text.contains("accepted"), "{text}");
        }
        costs.judge();
    });
}

/// A token of three segments, of which this is the header and this the payload.
fn token(header: &[u8], payload: &[u8]) -> String {
    let encode = |bytes| URL_SAFE_NO_PAD.encode(bytes);
    format!("{}.{}.{}", encode(header), encode(payload), encode(&[0; 64]))
}

/// Nobody has signed them: they are read as far as it takes to see that.
#[test]
fn no_bearer_costs_more_than_six_times_its_bytes() {
    // As long as a token of the broker may be, and as one of a ServiceAccount.
    let ours = (
        "/v1/token/release",
        48_000,
        ["@", "{\"x\":@}", "{\"alg\":@}", "{\"alg\":\"EdDSA\",\"kid\":@}"],
    );
    let theirs = (
        "/v1/k8s/launch-tokens",
        6_000,
        ["@", "{\"x\":@}", "{\"aud\":@,\"exp\":1}", "{\"exp\":@}"],
    );
    run(async |mut world| {
        let mut costs = Costs::default();
        for (path, size, templates) in [ours, theirs] {
            for (template, family) in templates.iter().flat_map(|t| FAMILIES.iter().map(move |f| (t, f))) {
                let (before, after) = template.split_once('@').unwrap();
                let json = [before.as_bytes(), &(family.make)(size), after.as_bytes()].concat();
                let bearer = if size > 8192 {
                    token(&json, b"{}")
                } else {
                    token(b"{}", &json)
                };
                world.pause();
                let request = World::request("POST", path, &bearer, Bytes::new());
                let name = format!("{path}: {} in {template}", family.name);
                let allowed = FACTOR * bearer.len() + LITTLE;
                costs.try_one(&mut world, request, allowed, name).await;
            }
        }
        costs.judge();
    });
}

/// A pod's author chooses most of its object, and the API server's list of managed fields repeats it. Nothing of that is
/// kept; while a member is passed by, the parser keeps its name, or a byte for each level of nesting.
#[test]
fn no_pod_costs_more_than_three_times_its_bytes() {
    let _alone = COUNTED.lock();
    for member in [
        "\"x\":@",
        "\"labels\":@",
        "\"annotations\":{\"x\":@}",
        "\"managedFields\":@",
    ] {
        for family in FAMILIES {
            let value = (family.make)(VALUE / 8);
            let value = String::from_utf8_lossy(&value);
            let spec =
                "\"containers\":@,\"initContainers\":[{\"name\":\"agentwrit-sidecar\",\"x\":@,\"env\":[{\"x\":@}]}]";
            let pod = format!("{{\"metadata\":{{{member}}},\"spec\":{{{spec}}}}}").replace('@', &value);
            let before = ALLOCATED.current_usage();
            ALLOCATED.reset_peak_usage();
            // It may be no pod: nothing is kept in either case.
            drop(PodFacts::from_json(&pod));
            let peak = ALLOCATED.peak_usage() - before;
            assert!(peak <= 3 * pod.len(), "{peak} for {} bytes: {}", pod.len(), family.name);
        }
    }
}
