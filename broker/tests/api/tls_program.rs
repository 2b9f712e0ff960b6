//! TLS of the real program: what may be negotiated, and files that change while it runs (`docs/wire-contract.md` §17.7).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use agentwrit_testkit::{Authority, Process};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SignatureAlgorithm};
use rustix::process::Signal;
use rustls::pki_types::ServerName;
use rustls::{CipherSuite, ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned};

use super::hello::{Hello, ServerSays};

type Session = StreamOwned<ClientConnection, TcpStream>;

/// What `docs/wire-contract.md` §17.7 promises, for both kinds of certificates.
const ECDSA_SUITES: [u16; 3] = [0xc02b, 0xc02c, 0xcca9];
const RSA_SUITES: [u16; 3] = [0xc02f, 0xc030, 0xcca8];
const TLS13_SUITES: [u16; 3] = [0x1301, 0x1302, 0x1303];

/// What makes files unusable.
type Break = Box<dyn Fn(&Path)>;

/// A program with TLS and the folder that its files are in.
struct Program {
    process: Process,
    folder: tempfile::TempDir,
}

impl Program {
    fn start(mode: &str, write: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let settings = [
            ("AA_TLS_MODE", mode),
            ("AA_TLS_CERT", &path("tls.crt")),
            ("AA_TLS_KEY", &path("tls.key")),
            ("AA_TLS_CLIENT_CA", &path("ca.crt")),
        ];
        let process = crate::PROGRAM.start(folder.path(), &settings);
        Self { process, folder }
    }

    /// Has it read its files again; the line that it writes then.
    fn reload(&mut self, wanted: &str) -> String {
        self.process.signal(Signal::HUP);
        self.process.line_with(wanted)
    }

    /// A handshake, and a request to see that the other side agrees.
    fn connect(&self, config: &Arc<ClientConfig>) -> std::io::Result<Session> {
        let name = ServerName::try_from("broker.test").unwrap();
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
        let stream = TcpStream::connect(self.process.address)?;
        let mut session = StreamOwned::new(connection, stream);
        health(&mut session)?;
        Ok(session)
    }

    fn hello(&self, hello: &Hello) -> ServerSays {
        hello.say(TcpStream::connect(self.process.address).unwrap())
    }
}

/// One request over a connection that stays.
fn health(session: &mut Session) -> std::io::Result<()> {
    session.write_all(b"GET /v1/health HTTP/1.1\r\nhost: broker.test\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !answer.ends_with(b"}\n") {
        match session.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

/// A client that trusts one authority; `shows` is a certificate of its own.
fn client(trusted: &Authority, shows: Option<&Authority>, suites: &[u16]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der()).unwrap();
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    if !suites.is_empty() {
        provider
            .cipher_suites
            .retain(|suite| suites.contains(&u16::from(suite.suite())));
        assert_eq!(
            provider.cipher_suites.len(),
            suites.len(),
            "all are known to the client"
        );
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let versions: &[_] = match suites {
        [] => &[&rustls::version::TLS13, &rustls::version::TLS12],
        [suite, ..] if TLS13_SUITES.contains(suite) => &[&rustls::version::TLS13],
        _ => &[&rustls::version::TLS12],
    };
    let builder = builder
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match shows {
        None => builder.with_no_client_auth(),
        Some(issuer) => {
            let own = issuer.issue("client");
            builder.with_client_auth_cert(vec![own.der()], own.key_der()).unwrap()
        }
    })
}

fn write_leaf(authority: &Authority, folder: &Path, algorithm: &'static SignatureAlgorithm) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    authority.issue_with("broker.test", key, |_| ()).write(folder, "tls");
}

#[test]
fn exactly_the_promised_versions_and_suites_can_be_negotiated() {
    for (algorithm, promised) in [(&PKCS_ECDSA_P256_SHA256, ECDSA_SUITES), (&PKCS_RSA_SHA256, RSA_SUITES)] {
        let authority = Authority::new();
        let program = Program::start("tls", |folder| write_leaf(&authority, folder, algorithm));
        for suite in promised.into_iter().chain(TLS13_SUITES) {
            let session = program.connect(&client(&authority, None, &[suite])).unwrap();
            let wanted = if TLS13_SUITES.contains(&suite) {
                ProtocolVersion::TLSv1_3
            } else {
                ProtocolVersion::TLSv1_2
            };
            assert_eq!(session.conn.protocol_version(), Some(wanted));
            let negotiated = session.conn.negotiated_cipher_suite().unwrap().suite();
            assert_eq!(negotiated, CipherSuite::from(suite));
        }
        // Every number that a suite of TLS 1.2 or older, or of 1.3, has or is likely to get.
        for suite in (0..=0xff).chain(0xc000..=0xc0ff).chain(0xcca0..=0xccaf) {
            let said = program.hello(&Hello::tls12(suite));
            if promised.contains(&suite) {
                assert_eq!(said, ServerSays::Hello(suite));
            } else {
                assert_eq!(said, ServerSays::HANDSHAKE_FAILURE, "suite {suite:#06x}");
            }
        }
        for suite in 0x1300..=0x130f {
            let said = program.hello(&Hello::tls13(suite));
            assert_eq!(
                said == ServerSays::Hello(suite),
                TLS13_SUITES.contains(&suite),
                "{said:?}"
            );
        }
        for version in [0x0300, 0x0301, 0x0302] {
            let said = program.hello(&Hello::older(version, promised[0]));
            assert_eq!(said, ServerSays::PROTOCOL_VERSION, "version {version:#06x}");
        }
    }
}

#[test]
fn new_connections_get_a_new_certificate_and_old_ones_live_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let mut program = Program::start("tls", |folder| {
        old.issue("broker.test").write(folder, "tls");
    });
    let (trusts_old, trusts_new) = (client(&old, None, &[]), client(&new, None, &[]));
    let mut first = program.connect(&trusts_old).unwrap();
    assert!(program.connect(&trusts_new).is_err());

    new.issue("broker.test").write(program.folder.path(), "tls");
    program.reload("certificate files have changed");
    let mut second = program.connect(&trusts_new).unwrap();
    // Whoever has a ticket from before still has to like the new one.
    assert!(program.connect(&trusts_old).is_err());
    health(&mut first).unwrap();

    let folder = program.folder.path().to_owned();
    let stranger = new.issue("broker.test");
    let breaks: [(&str, Break); 4] = [
        (
            "tls.crt",
            Box::new(|folder| std::fs::write(folder.join("tls.crt"), "half a file").unwrap()),
        ),
        (
            "certificate and key",
            Box::new(move |folder| std::fs::write(folder.join("tls.crt"), stranger.pem()).unwrap()),
        ),
        (
            "tls.key",
            Box::new(|folder| std::fs::write(folder.join("tls.key"), "").unwrap()),
        ),
        (
            "tls.crt",
            Box::new(|folder| std::fs::remove_file(folder.join("tls.crt")).unwrap()),
        ),
    ];
    for (named, break_it) in breaks {
        break_it(&folder);
        let line = program.reload("keeping the last good certificate");
        assert!(line.contains(":WARN]") && line.contains(named), "{line}");
        program.connect(&trusts_new).unwrap();
    }
    old.issue("broker.test").write(&folder, "tls");
    program.reload("certificate files have changed");
    program.connect(&trusts_old).unwrap();
    for session in [&mut first, &mut second] {
        health(session).unwrap();
    }
}

#[test]
fn a_new_client_ca_is_used_and_a_broken_one_is_not() {
    let (server, old, new) = (Authority::new(), Authority::new(), Authority::new());
    let mut program = Program::start("mtls", |folder| {
        server.issue("broker.test").write(folder, "tls");
        std::fs::write(folder.join("ca.crt"), old.pem()).unwrap();
    });
    let (of_old, of_new) = (client(&server, Some(&old), &[]), client(&server, Some(&new), &[]));
    let mut first = program.connect(&of_old).unwrap();
    assert!(program.connect(&of_new).is_err());
    assert!(program.connect(&client(&server, None, &[])).is_err());

    let ca = program.folder.path().join("ca.crt");
    std::fs::write(&ca, new.pem()).unwrap();
    program.reload("certificate files have changed");
    let mut second = program.connect(&of_new).unwrap();
    // Its ticket from before opens nothing.
    assert!(program.connect(&of_old).is_err());
    assert!(program.connect(&client(&server, None, &[])).is_err());
    health(&mut first).unwrap();

    for broken in ["half a file", ""] {
        std::fs::write(&ca, broken).unwrap();
        let line = program.reload("keeping the last good certificate");
        assert!(line.contains(":WARN]") && line.contains("loading client CA"), "{line}");
        program.connect(&of_new).unwrap();
        assert!(program.connect(&of_old).is_err());
    }
    std::fs::write(&ca, format!("{}{}", old.pem(), new.pem())).unwrap();
    program.reload("certificate files have changed");
    for config in [&of_old, &of_new] {
        program.connect(config).unwrap();
    }
    for session in [&mut first, &mut second] {
        health(session).unwrap();
    }
}
