"""docs/wire-contract.md §17.1 and §17.2: settings and the config file."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from blackbox.driver import Broker, Start
from blackbox.startup import FILE_SECRET, Refused, fatal, write
from blackbox.wire import expect, ok
from harness import ADMIN_SECRET

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
        "AA_CONTROLLER_SUBJECT", "AA_DATABASE_URL", "AA_STORE_MARK", "AA_INSTALLATION", "AA_NBF_SKEW_SECONDS", "AA_SESSION_RATE", "AA_MAX_OPEN_DELEGATIONS", "AA_MAX_SCOPES", "AA_MAX_SCOPE_BYTES",
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
    ("AA_TRUST_DOMAIN", "Has Blank"), ("AA_TRUST_DOMAIN", "UPPER"), ("AA_TRUST_DOMAIN", "a/b"), ("AA_INSTALLATION", "a b"), ("AA_TLS_MODE", "ssl"), ("AA_TLS_MODE", "TLS1"),
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


def test_all_bad_settings_are_named_at_once(refused: Refused) -> None:
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
