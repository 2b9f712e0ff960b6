"""docs/wire-contract.md §17: settings, the config file, refusals to start, storage, keys and TLS."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, PublicFormat

from blackbox.driver import Broker, Start, types
from blackbox.jose import header_of, raw_public, thumbprint
from blackbox.wire import expect, ok
from harness import ADMIN_SECRET, Ended, environment, program, until
from harness import Broker as Process

Refused = Callable[..., Ended]
# bcrypt, cost 4, of "a-plaintext-behind-a-hash"; made by the PyPI package of that name.
PLAIN, HASH = "a-plaintext-behind-a-hash", "$2b$04$AnKetzzXFJa8uHLhxW40tOCk05JjYJAhQESmO1DVqeIKXeW.CXrvC"


def fatal(ended: Ended) -> list[str]:
    """The FATAL lines of a broker that refused to start as the contract says."""
    assert ended.code == 1, (ended.code, ended.stderr)
    lines = [line for line in ended.stderr.splitlines() if line.startswith("FATAL: ")]
    assert lines, ended.stderr
    assert "FATAL" not in ended.stdout
    assert "panicked" not in ended.stderr
    assert "listening on" not in ended.stdout
    return lines


# -- 17.1 settings -------------------------------------------------------------------------------------------------


def test_every_default_is_the_contracts(start: Start, tmp_path: Path) -> None:
    """With nothing but a secret and a port: files in the working folder, default lifetimes and names."""
    broker = start(AA_SIGNING_KEY_PATH=None, AA_DB_PATH=None)
    folder = broker.process.folder
    assert (folder / "signing.key").is_file()
    assert (folder / "data.db").is_file()
    assert broker.address[0] == "127.0.0.1"
    assert ok(broker.login())["expires_in"] == 300
    agent = broker.agent()
    assert agent.id.startswith("spiffe://agentwrit.local/agent/")
    assert agent.expires_in == 300
    assert (agent.claims["iss"], agent.claims.get("aud")) == ("", None)
    app = broker.app()
    assert ok(broker.app_login(app))["expires_in"] == 1800
    assert "SEED_" not in broker.process.stdout.text


def test_an_empty_value_counts_as_unset(start: Start) -> None:
    names = [
        "AA_BIND_ADDRESS", "AA_LOG_LEVEL", "AA_TRUST_DOMAIN", "AA_DEFAULT_TTL", "AA_MAX_TTL", "AA_APP_TOKEN_TTL", "AA_ADMIN_TOKEN_TTL",
        "AA_ISSUER", "AA_AUDIENCE", "AA_SIGNING_KEY_PATH", "AA_SEED_TOKENS", "AA_TLS_MODE", "AA_TLS_CERT", "AA_TLS_KEY", "AA_TLS_CLIENT_CA",
        "AA_CONFIG_PATH", "AA_TRUSTED_PROXIES", "AA_OPS_ADDRESS", "AA_MAX_SESSION_AGE", "AA_CHALLENGE_RATE", "AA_REGISTER_RATE", "AA_LOG_FORMAT",
        "AA_ADMIN_AUTH", "AA_STORE_REQUIRED", "AA_SIGNING_KEY_REQUIRED", "AA_API_METRICS", "AA_DENIAL_AUDIT_RATE", "AA_ATTEST_AUDIENCE",
        "AA_CONTROLLER_SUBJECT", "AA_DATABASE_URL", "AA_STORE_MARK", "AA_NBF_SKEW_SECONDS", "AA_SESSION_RATE", "AA_MAX_OPEN_DELEGATIONS", "AA_MAX_SCOPES", "AA_MAX_SCOPE_BYTES",
    ]  # fmt: skip
    broker = start(**dict.fromkeys(names, ""))
    agent = broker.agent()
    assert agent.id.startswith("spiffe://agentwrit.local/agent/")
    assert agent.expires_in == 300


def test_the_port_and_address_are_settings(start: Start) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    broker = start(AA_PORT=str(port), AA_BIND_ADDRESS="127.0.0.2")
    assert broker.address == ("127.0.0.2", port)
    assert broker.get("/v1/health").status == 200
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


BAD_SETTINGS = [
    ("AA_PORT", "http"), ("AA_PORT", "70000"), ("AA_PORT", "-1"), ("AA_PORT", "8080 "), ("AA_BIND_ADDRESS", "not an address"),
    ("AA_DEFAULT_TTL", "x"), ("AA_DEFAULT_TTL", "-5"), ("AA_DEFAULT_TTL", "1.5"), ("AA_MAX_TTL", "never"), ("AA_MAX_TTL", "-1"),
    ("AA_APP_TOKEN_TTL", "-60"), ("AA_APP_TOKEN_TTL", "30m"), ("AA_ADMIN_TOKEN_TTL", "-1"), ("AA_ADMIN_TOKEN_TTL", "99999999999999999999"),
    ("AA_TRUST_DOMAIN", "Has Blank"), ("AA_TRUST_DOMAIN", "UPPER"), ("AA_TRUST_DOMAIN", "a/b"), ("AA_TLS_MODE", "ssl"), ("AA_TLS_MODE", "TLS1"),
    ("AA_TRUSTED_PROXIES", "not-a-cidr"), ("AA_TRUSTED_PROXIES", "10.0.0.0/99"), ("AA_MAX_SESSION_AGE", "x"), ("AA_MAX_SESSION_AGE", "-1"),
    ("AA_CHALLENGE_RATE", "x"), ("AA_REGISTER_RATE", "-1"), ("AA_OPS_ADDRESS", "nowhere"), ("AA_LOG_FORMAT", "xml"), ("AA_ADMIN_AUTH", "maybe"),
    ("AA_DATABASE_URL", "postgres://a:b@db.example/c"), ("AA_STORE_REQUIRED", "maybe"), ("AA_SIGNING_KEY_REQUIRED", "1e3"), ("AA_API_METRICS", "sometimes"), ("AA_DENIAL_AUDIT_RATE", "-1"),
    ("AA_SESSION_RATE", "x"), ("AA_MAX_OPEN_DELEGATIONS", "-1"), ("AA_MAX_SCOPES", "0"), ("AA_MAX_SCOPE_BYTES", "1e4"),
    ("AA_NBF_SKEW_SECONDS", "-1"), ("AA_NBF_SKEW_SECONDS", "61"), ("AA_NBF_SKEW_SECONDS", "5s"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD_SETTINGS)
def test_a_bad_setting_is_fatal_and_named(refused: Refused, name: str, value: str) -> None:
    """§20.1 W28, W29."""
    lines = fatal(refused(env={name: value}))
    assert [line for line in lines if name in line], lines


def test_all_bad_settings_are_told_in_one_go(refused: Refused) -> None:
    """§20.1 W28."""
    bad = {"AA_PORT": "x", "AA_MAX_TTL": "-1", "AA_TRUST_DOMAIN": "A B", "AA_TLS_MODE": "ssl", "AA_TRUSTED_PROXIES": "x"}
    text = "\n".join(fatal(refused(env={**bad, "AA_ADMIN_SECRET": "short"})))
    for name in bad:
        assert name in text
    assert "FATAL: admin secret rejected: does not meet security requirements" in text


@pytest.mark.parametrize("value", ["TRUE", "1", "yes", "false", " true"])
def test_seed_tokens_take_exactly_true(start: Start, value: str) -> None:
    assert "SEED_" not in start(AA_SEED_TOKENS=value).process.stdout.text


def test_admin_logins_can_be_switched_off(start: Start) -> None:
    """§20.1 AA_ADMIN_AUTH."""
    broker = start(AA_ADMIN_AUTH="off", AA_ADMIN_SECRET=None)
    expect(broker.login(), 403, "forbidden")


def test_a_key_can_be_required(refused: Refused) -> None:
    """§20.1 AA_SIGNING_KEY_REQUIRED."""
    (line,) = fatal(refused(env={"AA_SIGNING_KEY_REQUIRED": "true"}))
    assert line.startswith("FATAL: signing key: ")


def test_the_ops_listener_has_the_probes_instead_of_the_api(start: Start) -> None:
    """§20.1 AA_OPS_ADDRESS."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    broker = start(AA_OPS_ADDRESS=f"127.0.0.1:{port}")
    for path in ("/livez", "/readyz"):
        expect(broker.get(path), 404, "not_found")
        with socket.create_connection(("127.0.0.1", port), timeout=5) as ops:
            ops.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert ops.recv(100).startswith(b"HTTP/1.1 200 ")
    with socket.create_connection(("127.0.0.1", port), timeout=5) as ops:
        ops.sendall(b"GET /v1/challenge HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert ops.recv(100).startswith(b"HTTP/1.1 404 ")


def test_the_policy_api_is_off_unless_asked_for(broker: Broker) -> None:
    """§20.1."""
    for path in ("/v1/k8s", "/v1/k8s/launch", "/v1/k8s/apps/a/b"):
        expect(broker.post(path, {}), 404, "not_found")


# -- 17.2 the config file ------------------------------------------------------------------------------------------


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


FILE_SECRET = "a-secret-of-the-config-file"


@pytest.mark.parametrize(
    "text",
    [
        f"ADMIN_SECRET={FILE_SECRET}\n",
        f"# comment\n\n  MODE = production  \n\tADMIN_SECRET  =  {FILE_SECRET}  \nUNKNOWN=x\nno equals sign\n",
        f"MODE=development\r\nADMIN_SECRET={FILE_SECRET}\r\n",
        f"ADMIN_SECRET={FILE_SECRET}",
    ],
)
def test_the_file_named_by_the_environment(start: Start, tmp_path: Path, text: str) -> None:
    broker = start(AA_ADMIN_SECRET=None, AA_CONFIG_PATH=str(write(tmp_path / "config.yaml", text)))
    ok(broker.login(FILE_SECRET))


def test_a_line_is_split_at_its_first_equals_sign(start: Start, tmp_path: Path) -> None:
    secret = "with=equals=signs=#inside"
    broker = start(AA_ADMIN_SECRET=None, AA_CONFIG_PATH=str(write(tmp_path / "config", f"ADMIN_SECRET={secret}\n")))
    ok(broker.login(secret))


def test_the_file_of_the_home_folder(start: Start, tmp_path: Path) -> None:
    write(tmp_path / ".broker" / "config", f"ADMIN_SECRET={FILE_SECRET}\n")
    ok(start(AA_ADMIN_SECRET=None, HOME=str(tmp_path)).login(FILE_SECRET))


def test_the_environment_wins_over_the_file(start: Start, tmp_path: Path) -> None:
    broker = start(AA_CONFIG_PATH=str(write(tmp_path / "config", f"ADMIN_SECRET={FILE_SECRET}\n")))
    ok(broker.login(ADMIN_SECRET))
    expect(broker.login(FILE_SECRET), 401, "unauthorized", "invalid credentials")


def test_what_a_secret_mount_looks_like_is_accepted(start: Start, tmp_path: Path) -> None:
    """§19 row 21, §20 W23: a symlink to a file that all may read, in a folder that nobody may write."""
    data = tmp_path / "mount" / "..data"
    write(data / "config", f"ADMIN_SECRET={FILE_SECRET}\n", 0o444)
    link = tmp_path / "mount" / "config"
    link.symlink_to(data / "config")
    (tmp_path / "mount").chmod(0o555)
    try:
        ok(start(AA_ADMIN_SECRET=None, AA_CONFIG_PATH=str(link)).login(FILE_SECRET))
    finally:
        (tmp_path / "mount").chmod(0o755)


def test_development_warns_and_production_does_not(start: Start, tmp_path: Path) -> None:
    def told(mode: str) -> list[str]:
        config = write(tmp_path / mode, f"MODE={mode}\nADMIN_SECRET={FILE_SECRET}\n")
        out = start(AA_ADMIN_SECRET=None, AA_CONFIG_PATH=str(config)).process.stdout.text
        return [line for line in out.splitlines() if ":WARN]" in line and "development" in line.lower()]

    assert told("development")
    assert not told("production")
    # §17.2: MODE only triggers a warning.
    (line,) = told("fast")
    assert '"fast"' in line and "production" in line


def test_lives_of_zero_are_the_default(start: Start) -> None:
    """§13.4, §20.1 W28: only unparsable and negative ones are FATAL."""
    broker = start(AA_ADMIN_TOKEN_TTL="0", AA_APP_TOKEN_TTL="0", AA_DEFAULT_TTL="100")
    assert ok(broker.login())["expires_in"] == 100
    assert ok(broker.app_login(broker.app()))["expires_in"] == 100
    broker = start(AA_APP_TOKEN_TTL="5", AA_DEFAULT_TTL="0")
    assert broker.agent().expires_in == 300
    assert ok(broker.app_login(broker.app()))["expires_in"] == 5
    assert [line for line in broker.process.stdout.text.splitlines() if ":WARN]" in line and "AA_DEFAULT_TTL=0" in line]


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


def test_an_empty_secret_in_the_environment_does_not_fall_through_to_the_file(refused: Refused, tmp_path: Path) -> None:
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


def pem(key: Any, **options: Any) -> bytes:
    return key.private_bytes(Encoding.PEM, options.get("form", PrivateFormat.PKCS8), options.get("lock", NoEncryption()))


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
    for path in (tmp_path, tmp_path / "file" / "signing.key"):
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


# -- a store that is away (§17.3, §19 row 4, §20.1) -----------------------------------------------------------------


def test_a_store_that_cannot_open_is_stood_in_for_by_memory(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "corrupt.db").write_bytes(b"this is no database " * 500)
    for path in (tmp_path / "missing" / "data.db", tmp_path / "file" / "data.db", tmp_path / "corrupt.db"):
        broker = start(AA_DB_PATH=str(path))
        assert ok(broker.get("/v1/health"))["db_connected"] is False
        fails = [line for line in broker.process.stderr.text.splitlines() if ":FAIL]" in line]
        assert [line for line in fails if "STORE" in line and "InitDB" in line], fails
        ready = broker.get("/readyz")
        assert ready.status == 503
        assert b"store" in ready.body
        assert broker.agent()
        assert types(broker.events())
        assert [name for name in broker.metrics() if name.startswith("agentwrit_db_errors_total{")]


def test_a_required_store_that_cannot_open_means_503_and_nothing_changed(start: Start, tmp_path: Path) -> None:
    broker = start(AA_DB_PATH=str(tmp_path / "missing" / "data.db"), AA_STORE_REQUIRED="true")
    for reply in (broker.login(), broker.post("/v1/register", {"x": 1})):
        if reply.status != 400:
            expect(reply, 503, "unavailable")
            assert reply.header("Retry-After") == "1"
    assert broker.login().status == 503
    assert broker.get("/livez").status == 200
    (tmp_path / "missing").mkdir()
    # Each second it tries again.
    until(lambda: broker.login().status == 200)
    assert ok(broker.get("/v1/health"))["db_connected"] is True


def test_memory_only_is_a_choice(start: Start) -> None:
    """§19 row 4: the explicit empty path."""
    broker = start(AA_DB_PATH="")
    broker.agent()
    assert not [name for name in os.listdir(broker.process.folder) if name.endswith(".db")]
    assert broker.count() == 4


def test_two_brokers_never_share_a_store(start: Start, refused: Refused) -> None:
    """Architecture 3: a lock file beside it."""
    broker = start()
    path = str(broker.process.folder / "data.db")
    (line,) = fatal(refused(env={"AA_DB_PATH": path}))
    assert "data.db" in line


# -- 17.4 seed tokens ---------------------------------------------------------------------------------------------------


def test_seed_tokens(start: Start) -> None:
    broker = start(AA_SEED_TOKENS="true", AA_AUDIENCE="somewhere")
    out = broker.process.stdout
    launch = out.wait_for(r"^SEED_LAUNCH_TOKEN=([0-9a-f]{64})$")
    admin = out.wait_for(r"^SEED_ADMIN_TOKEN=(\S+)$")
    assert launch and admin
    claims = ok(broker.post("/v1/token/validate", {"token": admin[1]}))["claims"]
    assert claims["scope"] == ["admin:launch-tokens:*", "admin:revoke:*", "admin:audit:*"]
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["sub"] == "admin" and "aud" not in claims
    issued = broker.events(event_type="launch_token_issued")
    assert len(issued) == 1 and "seed" in issued[0]["detail"]
    expect(broker.register(launch[1], requested_scope=["read:data:x"]), 403, "scope_violation")
    body = ok(broker.register(launch[1], requested_scope=["*:*:*"]))
    assert body["expires_in"] == 3600
    expect(broker.register(launch[1], requested_scope=["*:*:*"]), 401, "unauthorized", contains="launch token already consumed")


def test_the_seed_admin_token_works_where_no_audience_is_asked(start: Start) -> None:
    broker = start(AA_SEED_TOKENS="true")
    admin = broker.process.stdout.wait_for(r"^SEED_ADMIN_TOKEN=(\S+)$")
    assert admin
    assert broker.launch(token=admin[1]).status == 201
    assert types(broker.events()).count("admin_auth") == 1, "only our own login"


# -- 17.5 the signing key -----------------------------------------------------------------------------------------------


def test_a_missing_key_is_made_for_its_owner_only(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "signing.key"
    broker = start(AA_SIGNING_KEY_PATH=str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    for folder in (path.parent, path.parent.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    text = path.read_bytes()
    assert text.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    der = base64.b64decode(b"".join(text.splitlines()[1:-1]))
    assert der.startswith(bytes.fromhex("302e020100300506032b657004220420")) and len(der) == 48
    assert broker.get("/v1/health").status == 200


def test_a_key_made_elsewhere_signs(start: Start, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    path = tmp_path / "own.key"
    path.write_bytes(pem(key))
    path.chmod(0o644)
    broker = start(AA_SIGNING_KEY_PATH=str(path))
    assert header_of(broker.agent().token)["kid"] == thumbprint(raw_public(key))
    assert path.stat().st_mode & 0o777 == 0o644, "permissions of an existing file are its owner's business"


def test_deleting_the_key_is_rotation(start: Start) -> None:
    broker = start()
    old = broker.agent().token
    broker.process.stop()
    (broker.process.folder / "signing.key").unlink()
    broker.start()
    assert not broker.validate(old)["valid"]
    expect(broker.renew(old), 401, "unauthorized", "token verification failed")
    assert broker.stands(broker.agent().token)


# -- 17.6 what survives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["restart", "crash"])
def test_what_survives(start: Start, way: str) -> None:
    """Revocations, renewals and releases: test_09 and test_11; apps: test_12; the trail: test_15."""
    broker = start()
    admin, agent = broker.admin, broker.agent()
    app = broker.app_token(broker.app())
    used, unused, many = broker.launch_token(), broker.launch_token(), broker.launch_token(single_use=False)
    body = broker.registration(used)
    ok(broker.post("/v1/register", body))
    nonce = broker.nonce()
    before = broker.events()
    getattr(broker, way)()
    assert broker.events()[: len(before)] == before
    for token in (admin, agent.token, app):
        assert broker.validate(token)["valid"] is True
    expect(broker.register(used), 401, "unauthorized", contains="launch token already consumed")
    ok(broker.register(unused))
    for _ in range(2):
        ok(broker.register(many))
    ok(broker.delegate(agent.token, agent.id, ["read:data:x"]))
    # A used nonce never becomes usable again; an unused one may be lost.
    expect(broker.post("/v1/register", {**body, "launch_token": many}), 401, "unauthorized")
    assert broker.register(many, nonce=nonce).status in (200, 401)


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
def test_of_all_that_openssl_offers_only_the_promised_is_taken(broker_factory: Callable[..., Process], pki: dict[str, Path], leaf: str, kind: str) -> None:
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
