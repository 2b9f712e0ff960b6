//! The real program under connections that do nothing: memory stays bounded and it still answers.

use agentwrit_testkit::Watched;
use std::net::TcpStream;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn resident_kib(process: &Watched) -> u64 {
    let path = format!("/proc/{}/status", process.pid().as_raw_nonzero());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn ten_thousand_idle_connections_cost_little_memory() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let open = usize::try_from(limit.maximum.unwrap_or(20_000).saturating_sub(2000).clamp(100, 10_000)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let process = Watched::new(crate::PROGRAM.start(folder.path(), &[]));
    assert_eq!(process.ask("GET /v1/health", "", "").status, 200);
    let before = resident_kib(&process);
    let mut idle = Vec::with_capacity(open);
    for n in 0..open {
        idle.push(TcpStream::connect(process.address).unwrap());
        // Answered, it has taken those before: the queue of the listener never fills.
        if n % 100 == 0 {
            process.ask("GET /v1/health", "", "");
        }
    }
    assert_eq!(process.ask("GET /v1/health", "", "").status, 200);
    let after = resident_kib(&process);
    let each = (after.saturating_sub(before)) * 1024 / u64::try_from(open).unwrap();
    println!("{open} idle connections: {before} KiB before, {after} KiB after, {each} bytes each");
    assert!(each < 16 * 1024, "{each} bytes for each connection");
    drop(idle);
}
