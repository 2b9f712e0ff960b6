"""docs/wire-contract.md §17.3: refusals to start, and signals."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, PublicFormat

from blackbox.driver import Start
from blackbox.startup import FILE_SECRET, Refused, fatal, pem, write
from blackbox.wire import expect, ok
from harness import ADMIN_SECRET, Ended, environment, program

# bcrypt, cost 4, of "a-plaintext-behind-a-hash"; made by the PyPI package of that name.
PLAIN, HASH = "a-plaintext-behind-a-hash", "$2b$04$AnKetzzXFJa8uHLhxW40tOCk05JjYJAhQESmO1DVqeIKXeW.CXrvC"


# -- 17.3 refusals to start ------------------------------------------------------------------------------------------

NO_SECRET = "FATAL: AA_ADMIN_SECRET must be set (non-empty)"
WEAK = "FATAL: admin secret rejected: does not meet security requirements"


def test_no_secret_anywhere(refused: Refused) -> None:
    assert fatal(refused(env={"AA_ADMIN_SECRET": None})) == [NO_SECRET]
    assert fatal(refused(env={"AA_ADMIN_SECRET": ""})) == [NO_SECRET]


def test_a_file_without_a_secret(refused: Refused, tmp_path: Path) -> None:
    for text in ("MODE=production\n", "", "ADMIN_SECRET=\n"):
        config = write(tmp_path / "config", text)
        assert fatal(refused(env={"AA_ADMIN_SECRET": None, "AA_CONFIG_PATH": str(config)})) == [NO_SECRET]


def test_an_empty_secret_is_not_replaced_by_that_of_the_file(refused: Refused, tmp_path: Path) -> None:
    """§19 row 2."""
    config = write(tmp_path / "config", f"ADMIN_SECRET={FILE_SECRET}\n")
    assert fatal(refused(env={"AA_ADMIN_SECRET": "", "AA_CONFIG_PATH": str(config)})) == [NO_SECRET]


@pytest.mark.parametrize("secret", ["change-me-in-production", "x", "123456789012345", "short-secret"])
def test_a_weak_secret(refused: Refused, tmp_path: Path, secret: str) -> None:
    assert fatal(refused(env={"AA_ADMIN_SECRET": secret})) == [WEAK]
    config = write(tmp_path / "config", f"ADMIN_SECRET={secret}\n")
    ended = refused(env={"AA_ADMIN_SECRET": None, "AA_CONFIG_PATH": str(config)})
    assert fatal(ended) == [WEAK]
    assert secret not in ended.stdout


def test_sixteen_characters_are_enough(start: Start) -> None:
    ok(start(AA_ADMIN_SECRET="1234567890123456").login("1234567890123456"))


def test_a_missing_config_file(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    for secret in (None, ADMIN_SECRET):
        # Which secret the file would have held nobody knows, so that none is asked for.
        assert fatal(refused(env={"AA_ADMIN_SECRET": secret, "AA_CONFIG_PATH": str(path)})) == [f"FATAL: config file not found at path: {path}"]


def test_an_unreadable_config_file(tmp_path: Path) -> None:
    """As an unprivileged user if we are root, whom no mode keeps out."""
    folder = Path("/tmp") / f"agentwrit-blackbox-{os.getpid()}"
    folder.mkdir()
    try:
        config = write(folder / "config", f"ADMIN_SECRET={FILE_SECRET}\n", 0o000)
        env = environment(folder, {"AA_ADMIN_SECRET": None, "AA_CONFIG_PATH": str(config)})
        user: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        done = subprocess.run([program("AGENTWRIT_BROKER")], cwd="/", env=env, capture_output=True, text=True, timeout=20, check=False, **user)
        assert fatal(Ended(done.returncode, done.stdout, done.stderr)) == ["FATAL: failed to read config file: permission denied"]
    finally:
        (folder / "config").unlink(missing_ok=True)
        folder.rmdir()


def test_a_config_path_that_is_a_folder(refused: Refused, tmp_path: Path) -> None:
    (line,) = fatal(refused(env={"AA_CONFIG_PATH": str(tmp_path)}))
    assert line.startswith("FATAL: failed to read config file: ")


BAD_KEYS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "garbage": lambda: b"garbage",
    "pem of garbage": lambda: b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    "cut": lambda: pem(Ed25519PrivateKey.generate())[:-40],
    "rsa": lambda: pem(rsa.generate_private_key(65537, 2048)),
    "p256": lambda: pem(ec.generate_private_key(ec.SECP256R1())),
    "public": lambda: Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "encrypted": lambda: pem(Ed25519PrivateKey.generate(), lock=BestAvailableEncryption(b"x")),
    "raw": lambda: Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()),
    "der": lambda: Ed25519PrivateKey.generate().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
}


@pytest.mark.parametrize("kind", BAD_KEYS)
def test_a_key_that_is_none(refused: Refused, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "signing.key"
    path.write_bytes(BAD_KEYS[kind]())
    before = path.read_bytes()
    (line,) = fatal(refused(env={"AA_SIGNING_KEY_PATH": str(path)}))
    assert line.startswith("FATAL: signing key: ")
    assert path.read_bytes() == before, "never overwritten"


def test_a_key_path_that_cannot_be_read_or_made(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "broken.key").write_text("x")
    for path in (tmp_path / "keys", tmp_path / "file" / "signing.key"):
        (line,) = fatal(refused(env={"AA_SIGNING_KEY_PATH": str(path)}))
        assert line.startswith("FATAL: signing key: ")


def test_a_busy_port(refused: Refused) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (line,) = fatal(refused(env={"AA_PORT": str(taken.getsockname()[1])}))
        assert str(taken.getsockname()[1]) in line


def test_a_plaintext_secret_over_72_bytes(refused: Refused, start: Start) -> None:
    """§17.3, §20.1 W38."""
    fatal(refused(env={"AA_ADMIN_SECRET": "s" * 73}))
    ok(start(AA_ADMIN_SECRET="s" * 72).login("s" * 72))


def test_a_bcrypt_hash_is_acceptable_and_is_no_secret_itself(start: Start) -> None:
    broker = start(AA_ADMIN_SECRET=HASH)
    ok(broker.login(PLAIN))
    for wrong in (HASH, PLAIN + "x", PLAIN[:-1]):
        expect(broker.login(wrong), 401, "unauthorized", "invalid credentials")


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
def test_all_three_prefixes_of_bcrypt(start: Start, tmp_path: Path, prefix: str) -> None:
    """And in a file, whose plaintext may be of any strength."""
    config = write(tmp_path / "config", f"MODE=production\nADMIN_SECRET={prefix}{HASH[4:]}\n")
    ok(start(AA_ADMIN_SECRET=None, AA_CONFIG_PATH=str(config)).login(PLAIN))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(start: Start, number: signal.Signals) -> None:
    broker = start()
    broker.agent()
    os.kill(broker.process.pid, number)
    ended = broker.process._end(20)
    assert ended.code == 0
    assert re.search(r"^.*Shutting down gracefully \(signal: .+\).*$", ended.stdout, re.MULTILINE)


def test_requests_in_flight_are_finished(start: Start) -> None:
    broker = start()
    with broker.connect() as sock:
        sock.sendall(b"POST /v1/token/validate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 13\r\n\r\n{")
        broker.get("/v1/health")
        os.kill(broker.process.pid, signal.SIGTERM)
        assert broker.process.stdout.wait_for("Shutting down gracefully")
        sock.sendall(b'"token":"x"}')
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert broker.process._end(20).code == 0
