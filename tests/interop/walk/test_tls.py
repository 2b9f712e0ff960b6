"""TLS and mTLS, as the troubleshooting guide has them; what can't be shown to an unknown client is no HTTP at all (contract
section 17.7)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import pytest
from certificates import Authority, Issued

from harness import Broker


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def tls(server: Issued, mode: str = "tls", client_ca: Path | None = None) -> dict[str, str]:
    env = {"AA_TLS_MODE": mode, "AA_TLS_CERT": str(server.cert), "AA_TLS_KEY": str(server.key)}
    return {**env, "AA_TLS_CLIENT_CA": str(client_ca)} if client_ca else env


def curl(broker: Broker, *arguments: str) -> tuple[int, str]:
    """Exit code and what it printed; 60 is an unknown authority, 52 and 56 an answer that is no HTTP."""
    done = subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "--max-time", "10", *arguments, broker.url + "/v1/health"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def tls_broker(broker_factory, authority) -> Broker:
    return broker_factory(env=tls(authority.server()), ca=authority.cert)


def test_with_the_right_authority_all_is_as_without_tls(tls_broker, authority):
    assert tls_broker.stdout.wait_for(r"listening on 127\.0\.0\.1:\d+ \(TLS\)$")
    agent = tls_broker.agent()
    assert tls_broker.validate(agent.token)["valid"]
    answer = tls_broker.get("/v1/health")
    assert answer.headers["Strict-Transport-Security"] == "max-age=63072000; includeSubDomains"
    assert curl(tls_broker, "--cacert", str(authority.cert))[0] == 0


def test_over_plain_http_there_is_no_strict_transport_security(broker):
    assert "Strict-Transport-Security" not in broker.get("/v1/health").headers


def test_a_client_that_does_not_know_the_authority(tls_broker, tmp_path):
    code, text = curl(tls_broker)
    assert code == 60, text
    assert curl(tls_broker, "--cacert", str(Authority(tmp_path, "other").cert))[0] == 60


def test_a_certificate_for_another_name(broker_factory, authority):
    broker = broker_factory(env=tls(authority.server("elsewhere", ip="127.0.0.9")), ca=authority.cert)
    code, text = curl(broker, "--cacert", str(authority.cert))
    assert code == 60 and "match" in text, text


def test_an_expired_certificate(broker_factory, authority):
    broker = broker_factory(env=tls(authority.server("late", days=-1)), ca=authority.cert)
    code, text = curl(broker, "--cacert", str(authority.cert))
    assert code == 60 and "expired" in text, text


def test_plain_http_to_a_tls_broker(tls_broker):
    with pytest.raises(httpx.TransportError):
        httpx.get(tls_broker.url.replace("https", "http") + "/v1/health", trust_env=False)


@pytest.mark.parametrize("version, accepted", [("1.1", False), ("1.2", True), ("1.3", True)])
def test_tls_is_1_2_or_later(tls_broker, authority, version, accepted):
    # SECLEVEL=0 lets OpenSSL offer the old version at all.
    options = ["--cacert", str(authority.cert), f"--tlsv{version}", "--tls-max", version, "--ciphers", "DEFAULT@SECLEVEL=0"]
    code, text = curl(tls_broker, *options)
    assert (code == 0) == accepted, text


def test_mtls_wants_a_certificate_of_its_client_authority(broker_factory, authority, tmp_path):
    clients = Authority(tmp_path, "clients")
    known, late = clients.client(), clients.client("late", days=-1)
    env = tls(authority.server(), "mtls", clients.cert)
    broker = broker_factory(env=env, ca=authority.cert, client_cert=(known.cert, known.key))
    assert broker.validate(broker.agent().token)["valid"]
    stranger = Authority(tmp_path, "strangers").client()
    ca = ["--cacert", str(authority.cert)]
    assert curl(broker, *ca, "--cert", str(known.cert), "--key", str(known.key))[0] == 0
    for options in (
        [],
        ["--cert", str(stranger.cert), "--key", str(stranger.key)],
        ["--cert", str(late.cert), "--key", str(late.key)],
    ):
        code, text = curl(broker, *ca, *options)
        assert code != 0 and "HTTP" not in text and '"status"' not in text, text


@pytest.mark.parametrize(
    "change, line",
    [
        ({"AA_TLS_CERT": "/nope.crt"}, "loading TLS certificate: /nope.crt"),
        ({"AA_TLS_KEY": "/nope.key"}, "loading TLS key: /nope.key"),
        ({"AA_TLS_MODE": "mtls", "AA_TLS_CLIENT_CA": "/nope.ca"}, "loading client CA: /nope.ca"),
        ({"AA_TLS_MODE": "mtls"}, "AA_TLS_CLIENT_CA"),
        ({"AA_TLS_CERT": None}, "AA_TLS_CERT"),
        ({"AA_TLS_MODE": "maybe"}, "AA_TLS_MODE"),
    ],
)
def test_files_that_are_missing_stop_the_start(refused, authority, change, line):
    ended = refused(env={**tls(authority.server()), **change})
    assert ended.code == 1
    assert any(text.startswith("FATAL: ") and line in text for text in ended.stderr.splitlines()), ended.stderr
