//! `kubectl port-forward`: how the tests, and people, reach the broker and a pod's token endpoint, on any cluster.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::support::wait::seconds;

/// A port of ours that leads into a pod, until this is dropped.
pub(crate) struct Forward {
    child: Child,
    // kubectl goes on writing to it, and would die of a closed pipe.
    _stdout: BufReader<ChildStdout>,
    pub(crate) port: u16,
}

impl Forward {
    /// Forwards to `target` (`pod/x`, `svc/x`) in `namespace`.
    pub(crate) fn open(namespace: &str, target: &str, port: u16) -> Result<Self, String> {
        let mut child = Command::new("kubectl")
            .args(["--namespace", namespace, "port-forward", target, &format!(":{port}")])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("kubectl: {error}"))?;
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        stdout.read_line(&mut line).map_err(|error| error.to_string())?;
        // "Forwarding from 127.0.0.1:34639 -> 15080"
        let local = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("127.0.0.1:"))
            .and_then(|port| port.parse().ok());
        if let Some(port) = local {
            return Ok(Self {
                child,
                _stdout: stdout,
                port,
            });
        }
        let _ = child.kill();
        let _ = child.wait();
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            let _ = stderr.read_to_string(&mut said);
        }
        Err(format!("port-forward to {target}: {line}{said}"))
    }

    /// One GET by hand: the status and the body.
    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<(u16, String), String> {
        let fail = |error: std::io::Error| error.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(fail)?;
        stream.set_read_timeout(Some(seconds(5))).map_err(fail)?;
        let mut request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n");
        for (name, value) in headers {
            request.extend([name, ": ", value, "\r\n"]);
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).map_err(fail)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(fail)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no whole answer")?;
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or("no status")?, body.to_owned()))
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
