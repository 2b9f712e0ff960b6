//! TLS and client certificates.

use super::brokers::RealBroker;
use super::certificates::CaFiles;
use super::support::{Ended, awrit};

/// A broker in this TLS mode with a certificate for `host`, and the authority that signed it.
fn broker(mode: &str, host: &str) -> (RealBroker, CaFiles) {
    let folder = tempfile::tempdir().unwrap();
    let authority = CaFiles::new(folder.path(), "ca");
    let (certificate, key) = authority.issue(host);
    let client_ca = authority.file();
    let mut settings = vec![
        ("AA_TLS_MODE", mode),
        ("AA_TLS_CERT", &certificate),
        ("AA_TLS_KEY", &key),
    ];
    if mode == "mtls" {
        settings.push(("AA_TLS_CLIENT_CA", &client_ca));
    }
    (RealBroker::in_folder(folder, &settings), authority)
}

fn run(broker: &RealBroker, variables: &[(&str, &str)], more: &[&str]) -> Ended {
    let environment = [&broker.environment(), variables].concat();
    awrit(
        &environment,
        &[&["revoke", "--level", "task", "--target", "x"], more].concat(),
    )
}

fn refused(ended: &Ended, part: &str) {
    assert!(ended.error().starts_with("Error: "), "{ended:?}");
    assert!(
        ended.error().contains(part) && ended.error().lines().count() == 1,
        "{ended:?}"
    );
}

#[test]
fn the_ca_comes_from_the_flag_or_the_environment() {
    let (broker, authority) = broker("tls", "localhost");
    let ca = authority.file();
    assert_eq!(run(&broker, &[], &["--ca-cert", &ca]).code, 0);
    assert_eq!(run(&broker, &[("AACTL_CA_CERT", &ca)], &[]).code, 0);
    // The flag wins, and an empty variable is none.
    let wrong = [("AACTL_CA_CERT", "/nonexistent/ca.crt")];
    assert_eq!(run(&broker, &wrong, &["--ca-cert", &ca]).code, 0);
    refused(&run(&broker, &wrong, &[]), "/nonexistent/ca.crt");
    let nobodys = run(&broker, &[("AACTL_CA_CERT", "")], &[]);
    assert!(
        nobodys.code == 1 && nobodys.err.contains("certificate") && !nobodys.err.contains("larger"),
        "a certificate of nobody's is refused: {nobodys:?}"
    );
    // As large as the bundle of a system.
    let bundle = broker.folder.path().join("bundle.pem");
    let one = std::fs::read_to_string(&ca).unwrap();
    std::fs::write(&bundle, one.repeat(300_000 / one.len() + 1)).unwrap();
    let bundle = bundle.to_str().unwrap();
    assert_eq!(run(&broker, &[], &["--ca-cert", bundle]).code, 0);
    // Where the system keeps its own, as curl and Go look for it; what is given goes before it.
    let system = ("SSL_CERT_FILE", bundle);
    assert_eq!(run(&broker, &[system], &[]).code, 0);
    refused(&run(&broker, &[system, wrong[0]], &[]), "/nonexistent/ca.crt");
    let other = CaFiles::new(broker.folder.path(), "other");
    refused(
        &run(&broker, &[], &["--ca-cert", &other.file()]),
        "invalid peer certificate",
    );
}

#[test]
fn a_certificate_for_another_host_is_refused() {
    let (broker, authority) = broker("tls", "broker.example");
    refused(
        &run(&broker, &[], &["--ca-cert", &authority.file()]),
        "not valid for name",
    );
}

#[test]
fn a_broker_that_asks_for_a_certificate_gets_one() {
    let (broker, authority) = broker("mtls", "localhost");
    let ca = authority.file();
    let (certificate, key) = authority.issue("operator");
    let trusted = ["--ca-cert", &ca];
    let own = ["--client-cert", &certificate, "--client-key", &key];
    assert_eq!(run(&broker, &[], &[trusted.as_slice(), &own].concat()).code, 0);
    let variables = [("AACTL_CLIENT_CERT", certificate.as_str()), ("AACTL_CLIENT_KEY", &key)];
    assert_eq!(run(&broker, &variables, &trusted).code, 0);

    refused(
        &run(&broker, &[], &trusted),
        "asks for a client certificate that it trusts: --client-cert",
    );
    let stranger = CaFiles::new(broker.folder.path(), "stranger").issue("stranger-operator");
    let own = ["--client-cert", &stranger.0, "--client-key", &stranger.1];
    refused(
        &run(&broker, &[], &[trusted.as_slice(), &own].concat()),
        "asks for a client certificate that it trusts",
    );
}

#[test]
fn half_a_certificate_and_files_that_are_none_are_named() {
    let (broker, authority) = broker("mtls", "localhost");
    let ca = authority.file();
    let (certificate, key) = authority.issue("operator");
    let (_, other_key) = authority.issue("other");
    let run = |own: &[&str]| run(&broker, &[], &[&["--ca-cert", &ca], own].concat());
    refused(
        &run(&["--client-cert", &certificate]),
        "--client-key or AACTL_CLIENT_KEY is missing",
    );
    refused(
        &run(&["--client-key", &key]),
        "--client-cert or AACTL_CLIENT_CERT is missing",
    );
    let ended = run(&["--client-cert", &certificate, "--client-key", "/nonexistent"]);
    refused(&ended, "the client certificate's file /nonexistent can't be used: ");
    let ended = run(&["--client-cert", &certificate, "--client-key", &certificate]);
    refused(&ended, "it holds no PEM block with a private key");
    let ended = run(&["--client-cert", &certificate, "--client-key", &other_key]);
    refused(&ended, "it doesn't go with the certificate: ");
}
