//! The real program under connections that do nothing: memory stays bounded and it still answers.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::process::Process;

fn health(process: &Process) -> String {
    let mut stream = TcpStream::connect(process.address).unwrap();
    stream
        .write_all(b"GET /v1/health HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn resident_kib(process: &Process) -> u64 {
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
    let process = Process::with(folder.path(), &[]);
    assert!(health(&process).starts_with("HTTP/1.1 200 "));
    let before = resident_kib(&process);
    let mut idle = Vec::with_capacity(open);
    for n in 0..open {
        idle.push(TcpStream::connect(process.address).unwrap());
        // Answered, it has taken those before: the queue of the listener never fills.
        if n % 100 == 0 {
            health(&process);
        }
    }
    assert!(health(&process).starts_with("HTTP/1.1 200 "));
    let after = resident_kib(&process);
    let each = (after.saturating_sub(before)) * 1024 / u64::try_from(open).unwrap();
    println!("{open} idle connections: {before} KiB before, {after} KiB after, {each} bytes each");
    assert!(each < 16 * 1024, "{each} bytes for each connection");
    drop(idle);
}
