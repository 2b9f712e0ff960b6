//! The network up to the broker: url, dns, tcp, tls.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use agentwrit_client::{BrokerClient, TlsFacts, TlsProblem};
use agentwrit_protocol::Clock;
use time::Duration;
use tokio::net::TcpStream;

use super::report::Report;

/// A certificate that ends so soon should have been renewed.
const SOON: Duration = Duration::days(7);
const PORT_FORWARD: &str =
    "check AACTL_BROKER_URL; in a cluster: kubectl -n agentwrit-system port-forward service/agentwrit-broker 8443:8443";

/// Whether the broker can be asked.
pub(super) async fn reach(client: &BrokerClient, clock: &dyn Clock, report: &mut Report) -> bool {
    let (host, port) = client.authority();
    let host = host.to_owned();
    if client.sends_in_clear() {
        report.warn(
            "url",
            format!("plain HTTP to {host}: secret and tokens can be read on their way"),
            "use https:// (AA_TLS_MODE=tls on the broker)",
        );
    } else {
        let scheme = if client.speaks_tls() { "https" } else { "http" };
        report.ok("url", format!("{scheme}, host {host}, port {port}"));
    }
    let Some(addresses) = resolve(client, &host, report).await else {
        report.skip_all(&["tcp", "tls", "http"], "there is no address");
        return false;
    };
    let Some(stream) = connect(client, &addresses, report).await else {
        report.skip_all(&["tls", "http"], "there is no connection");
        return false;
    };
    if !client.speaks_tls() {
        report.skip("tls", "the URL is http://");
        return true;
    }
    if secure(client, stream, clock, report).await {
        return true;
    }
    report.skip("http", "there is no connection");
    false
}

async fn resolve(client: &BrokerClient, host: &str, report: &mut Report) -> Option<Vec<SocketAddr>> {
    match client.resolve().await {
        Ok(addresses) => {
            if host.parse::<IpAddr>().is_ok() {
                report.ok("dns", format!("{host} is an address"));
            } else {
                let listed: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
                report.ok("dns", format!("{host} is {}", listed.join(", ")));
            }
            Some(addresses)
        }
        Err(error) => {
            report.fail("dns", format!("{host} can't be resolved: {error}"), PORT_FORWARD);
            None
        }
    }
}

async fn connect(client: &BrokerClient, addresses: &[SocketAddr], report: &mut Report) -> Option<TcpStream> {
    match client.connect(addresses).await {
        Ok(stream) => {
            let peer = stream
                .peer_addr()
                .map_or_else(|_| String::new(), |peer| format!(" to {peer}"));
            report.ok("tcp", format!("connected{peer}"));
            Some(stream)
        }
        Err(error) => {
            let advice = match error.kind() {
                ErrorKind::ConnectionRefused => format!("nothing listens there: is the broker up? {PORT_FORWARD}"),
                ErrorKind::TimedOut => "is there a firewall or a NetworkPolicy between here and there?".to_owned(),
                _ => PORT_FORWARD.to_owned(),
            };
            report.fail("tcp", format!("no connection: {error}"), advice);
            None
        }
    }
}

async fn secure(client: &BrokerClient, stream: TcpStream, clock: &dyn Clock, report: &mut Report) -> bool {
    match client.handshake(stream, clock).await {
        Ok(TlsFacts { version, expires: None }) => {
            report.ok("tls", format!("{version}, the certificate is trusted"));
            true
        }
        Ok(TlsFacts {
            version,
            expires: Some(expires),
        }) => {
            let left = expires - clock.now();
            let result = format!(
                "{version}, the certificate is trusted until {} ({} days)",
                expires.date(),
                left.whole_days()
            );
            if left < SOON {
                let advice = "renew it: in a cluster the controller does, see its log (kubectl -n agentwrit-system logs \
                              deployment/agentwrit-controller)";
                report.warn("tls", result, advice);
            } else {
                report.ok("tls", result);
            }
            true
        }
        Err(problem) => {
            let advice = advice(&problem);
            report.fail("tls", problem.to_string(), advice);
            false
        }
    }
}

fn advice(problem: &TlsProblem) -> &'static str {
    match problem {
        TlsProblem::Expired(_) => "renew the broker's certificate; is this machine's clock right?",
        TlsProblem::NotYet(_) => "is this machine's clock right?",
        TlsProblem::Name { .. } => {
            "use one of these names in AACTL_BROKER_URL, or have the broker's certificate issued for this one"
        }
        TlsProblem::Issuer => {
            "give the CA of this installation with --ca-cert; in a cluster: kubectl -n agentwrit-system get configmap \
             agentwrit-ca -o jsonpath='{.data.ca\\.crt}' > ca.crt"
        }
        TlsProblem::NotTls => "is this the API's port? a broker with AA_TLS_MODE=none is reached by http://",
        TlsProblem::Timeout(_) => "is this the API's port?",
        TlsProblem::File(_) => "check --ca-cert, --client-cert and --client-key",
        TlsProblem::Other(_) => "does the broker ask for a client certificate? --client-cert and --client-key",
    }
}
