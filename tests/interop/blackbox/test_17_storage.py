"""docs/wire-contract.md §17.3 to §17.6: a store that is away, seed tokens, the signing key, and what survives."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blackbox.driver import Start, types
from blackbox.jose import header_of, raw_public, thumbprint
from blackbox.startup import Refused, fatal, pem
from blackbox.wire import expect, ok
from harness import until

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


def test_a_required_store_that_cannot_open_means_503(start: Start, tmp_path: Path) -> None:
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
