"""docs/wire-contract.md §17.7: TLS."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from blackbox.driver import Start
from blackbox.startup import Refused, fatal
from harness import Broker as Process

# -- 17.7 TLS ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A CA, a server leaf for 127.0.0.1, a client leaf, and the same of a stranger, by openssl."""
    folder = tmp_path_factory.mktemp("pki")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    ecdsa, rsa_2048 = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), ("rsa:2048",)

    def leaf(name: str, ca: str, extension: str, key: tuple[str, ...] = ecdsa) -> None:
        (folder / f"{name}.ext").write_text(extension)
        openssl("req", "-newkey", *key, "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-days", "2", "-out", f"{name}.pem", "-extfile", f"{name}.ext")

    for ca in ("ca", "stranger"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-subj", f"/CN={ca}", "-days", "2")
    leaf("server", "ca", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    leaf("rsa", "ca", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n", rsa_2048)
    leaf("client", "ca", "extendedKeyUsage=clientAuth\n")
    leaf("intruder", "stranger", "extendedKeyUsage=clientAuth\n")
    return {path.stem + path.suffix: path for path in folder.iterdir()}


def tls_env(pki: dict[str, Path], mode: str) -> dict[str, str]:
    env = {"AA_TLS_MODE": mode, "AA_TLS_CERT": str(pki["server.pem"]), "AA_TLS_KEY": str(pki["server.key"])}
    return {**env, "AA_TLS_CLIENT_CA": str(pki["ca.pem"])} if mode == "mtls" else env


def context(pki: dict[str, Path], client: str | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(pki["ca.pem"]))
    if client:
        made.load_cert_chain(pki[f"{client}.pem"], pki[f"{client}.key"])
    return made


def ask(process: Process, made: ssl.SSLContext | None, path: str = "/v1/health") -> bytes:
    """The answer over a fresh connection; ssl.SSLError or OSError when there is none."""
    host, port = process.url.split("//")[1].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        sock = made.wrap_socket(plain, server_hostname=host) if made else plain
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
        return answer


def test_tls_serves_with_hsts_on_every_response(broker_factory: Callable[..., Process], pki: dict[str, Path]) -> None:
    process = broker_factory(env=tls_env(pki, "tls"), ca=pki["ca.pem"])
    for path, status in (("/v1/health", b"200"), ("/nowhere", b"404"), ("/v1/revoke", b"405"), ("/v1/audit/events", b"401")):
        answer = ask(process, context(pki), path)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"\r\nstrict-transport-security: max-age=63072000; includesubdomains\r\n" in answer.lower()
    assert "(TLS)" in process.stdout.text


def test_plain_http_is_not_answered_on_a_tls_port(broker_factory: Callable[..., Process], pki: dict[str, Path]) -> None:
    process = broker_factory(env=tls_env(pki, "tls"), ca=pki["ca.pem"])
    try:
        answer = ask(process, None)
    except OSError:
        answer = b""
    assert b'"uptime"' not in answer
    assert b" 200 " in ask(process, context(pki))


@pytest.mark.parametrize(("version", "works"), [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)])
def test_tls_is_at_least_1_2(broker_factory: Callable[..., Process], pki: dict[str, Path], version: ssl.TLSVersion, works: bool) -> None:
    process = broker_factory(env=tls_env(pki, "tls"), ca=pki["ca.pem"])
    made = context(pki)
    if not works:
        made.set_ciphers("ALL:@SECLEVEL=0")
    made.minimum_version = version if not works else ssl.TLSVersion.TLSv1_2
    made.maximum_version = version
    if works:
        assert b" 200 " in ask(process, made)
    else:
        with pytest.raises(OSError):
            ask(process, made)


@pytest.mark.parametrize(
    ("suite", "works"),
    [("ECDHE-ECDSA-AES128-GCM-SHA256", True), ("ECDHE-ECDSA-AES256-GCM-SHA384", True), ("ECDHE-ECDSA-CHACHA20-POLY1305", True), ("ECDHE-ECDSA-AES128-SHA256", False), ("ECDHE-ECDSA-AES256-SHA", False)],
)
def test_suites_of_tls_1_2(broker_factory: Callable[..., Process], pki: dict[str, Path], suite: str, works: bool) -> None:
    process = broker_factory(env=tls_env(pki, "tls"), ca=pki["ca.pem"])
    made = context(pki)
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers(suite)
    if works:
        assert b" 200 " in ask(process, made)
    else:
        with pytest.raises(OSError):
            ask(process, made)


@pytest.mark.parametrize(("leaf", "kind"), [("server", "ECDSA"), ("rsa", "RSA")])
def test_of_all_openssl_suites_only_the_promised_are_accepted(broker_factory: Callable[..., Process], pki: dict[str, Path], leaf: str, kind: str) -> None:
    env = {**tls_env(pki, "tls"), "AA_TLS_CERT": str(pki[f"{leaf}.pem"]), "AA_TLS_KEY": str(pki[f"{leaf}.key"])}
    process = broker_factory(env=env, ca=pki["ca.pem"])
    address = process.url.split("//")[1]

    def negotiated(*offer: str) -> str | None:
        command = ["openssl", "s_client", "-connect", address, "-CAfile", str(pki["ca.pem"]), "-verify_return_error", *offer]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        found = re.search(r"^New, (TLSv[\d.]+), Cipher is (\S+)$", ended.stdout, re.MULTILINE)
        return f"{found[1]} {found[2]}" if found and ended.returncode == 0 else None

    offered = subprocess.run(["openssl", "ciphers", "-tls1_2", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"], check=True, capture_output=True, text=True)
    suites = [suite for suite in offered.stdout.strip().split(":") if not suite.startswith("TLS_")]
    promised = {f"ECDHE-{kind}-{rest}" for rest in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")}
    # Among them CBC and keys that travel encrypted to the certificate's.
    assert promised < set(suites) and {f"ECDHE-{kind}-AES128-SHA256", "AES128-GCM-SHA256"} < set(suites)
    for suite in suites:
        wanted = f"TLSv1.2 {suite}" if suite in promised else None
        assert negotiated("-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0") == wanted, suite
    for suite in ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"):
        assert negotiated("-tls1_3", "-ciphersuites", suite) == f"TLSv1.3 {suite}"
    for version in ("-tls1", "-tls1_1"):
        assert negotiated(version, "-cipher", "ALL:@SECLEVEL=0") is None


def test_mtls_takes_only_clients_of_its_ca(broker_factory: Callable[..., Process], pki: dict[str, Path]) -> None:
    process = broker_factory(env=tls_env(pki, "mtls"), ca=pki["ca.pem"], client_cert=(pki["client.pem"], pki["client.key"]))
    answer = ask(process, context(pki, "client"))
    assert answer.startswith(b"HTTP/1.1 200 ") and b"trict-" in answer
    for client in (None, "intruder"):
        with pytest.raises(OSError):  # ssl.SSLError is one
            answer = ask(process, context(pki, client))
            assert answer == b"", answer
            raise OSError("closed without an answer")


TLS_FAULTS: dict[str, dict[str, str | None]] = {
    "no cert": {"AA_TLS_CERT": None},
    "no key": {"AA_TLS_KEY": None},
    "cert missing": {"AA_TLS_CERT": "{tmp}/none"},
    "key missing": {"AA_TLS_KEY": "{tmp}/none"},
    "cert garbage": {"AA_TLS_CERT": "{tmp}/garbage"},
    "key garbage": {"AA_TLS_KEY": "{tmp}/garbage"},
    "key of another": {"AA_TLS_KEY": "{pki}/client.key"},
    "client ca missing": {"AA_TLS_MODE": "mtls", "AA_TLS_CLIENT_CA": "{tmp}/none"},
    "client ca garbage": {"AA_TLS_MODE": "mtls", "AA_TLS_CLIENT_CA": "{tmp}/garbage"},
    "no client ca": {"AA_TLS_MODE": "mtls"},
}


@pytest.mark.parametrize("kind", TLS_FAULTS)
def test_tls_files_that_are_bad_are_fatal(refused: Refused, pki: dict[str, Path], tmp_path: Path, kind: str) -> None:
    (tmp_path / "garbage").write_text("garbage")
    places = {"tmp": str(tmp_path), "pki": str(pki["ca.pem"].parent)}
    change = {name: value.format(**places) if value else value for name, value in TLS_FAULTS[kind].items()}
    lines = fatal(refused(env={**tls_env(pki, "tls"), **change}))
    if kind in ("client ca missing", "client ca garbage"):
        assert [line for line in lines if "loading client CA" in line], lines


def test_mode_none_ignores_tls_files(start: Start) -> None:
    broker = start(AA_TLS_MODE="none", AA_TLS_CERT="/nonexistent", AA_TLS_KEY="/nonexistent")
    assert broker.get("/v1/health").header("Strict-Transport-Security") is None
