"""Each symptom that the troubleshooting guide tells developers about: same status, code and text."""

from __future__ import annotations

import base64
import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from harness import Broker, assert_problem, until


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def refused(broker: Broker, body: dict, detail: str) -> None:
    """The registration is refused with 401 and this detail."""
    assert_problem(broker.post("/v1/register", body), 401, "unauthorized", detail)


def other_hex(text: str) -> str:
    """The same length, another last digit."""
    return text[:-1] + ("0" if text[-1] != "0" else "1")


# -- 401 at /v1/register: nonce signature verification failed ------------------------------------


def test_the_nonce_signed_as_text(shared_broker):
    key, nonce = Ed25519PrivateKey.generate(), shared_broker.challenge()
    body = shared_broker.registration(key=key, nonce=nonce, signature=b64(key.sign(nonce.encode())))
    refused(shared_broker, body, "nonce signature verification failed")


def test_a_signature_by_another_key(shared_broker):
    nonce = shared_broker.challenge()
    signature = Ed25519PrivateKey.generate().sign(bytes.fromhex(nonce))
    refused(shared_broker, shared_broker.registration(nonce=nonce, signature=b64(signature)), "nonce signature verification failed")


def test_a_signature_of_another_nonce(shared_broker):
    key = Ed25519PrivateKey.generate()
    signature = key.sign(bytes.fromhex(shared_broker.challenge()))
    refused(shared_broker, shared_broker.registration(key=key, signature=b64(signature)), "nonce signature verification failed")


# -- 401 at /v1/register: invalid Ed25519 public key: wrong key size -----------------------------------


@pytest.mark.parametrize("form", ["DER", "PEM", "31 bytes"])
def test_a_key_that_is_not_the_raw_32_bytes(shared_broker, form):
    key = Ed25519PrivateKey.generate()
    raw = key.public_key().public_bytes_raw()
    encoded = {
        "DER": key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "PEM": key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "31 bytes": raw[:31],
    }[form]
    body = shared_broker.registration(key=key, public_key=b64(encoded))
    refused(shared_broker, body, "invalid Ed25519 public key: wrong key size")


# -- 401 at /v1/register: launch token not found ---------------------------------------------------------


def test_a_launch_token_copied_wrongly(shared_broker):
    launch = other_hex(shared_broker.launch_token())
    refused(shared_broker, shared_broker.registration(launch_token=launch), "launch token not found")


def test_a_launch_token_used_twice(shared_broker):
    agent = shared_broker.agent()
    refused(shared_broker, shared_broker.registration(launch_token=agent.launch_token), "launch token already consumed")


@pytest.mark.real_time("only the broker's own clock ends a launch token; its shortest life is one second")
def test_a_launch_token_that_has_expired(shared_broker):
    launch = shared_broker.launch_token(["read:data:*"], ttl=1)
    # A scope that is refused uses nothing up, so the same question can be asked until the answer changes.
    body = shared_broker.registration(launch_token=launch, requested_scope=["write:data:x"])
    assert shared_broker.post("/v1/register", body).status_code == 403
    late = until(lambda: (answer := shared_broker.post("/v1/register", body)).status_code == 401 and answer, 5)
    assert_problem(late, 401, "unauthorized", "launch token expired")


# -- 401 at /v1/register: nonce not found or expired ---------------------------------------------------


def test_a_nonce_that_the_broker_did_not_give_out(shared_broker):
    for nonce in (other_hex(shared_broker.challenge()), "ab" * 32, "not-a-nonce", shared_broker.challenge().upper()):
        body = shared_broker.registration(nonce=nonce, signature=b64(bytes(64)))
        refused(shared_broker, body, "nonce not found or expired")


def test_a_nonce_of_another_broker(broker_factory):
    ours, theirs = broker_factory(), broker_factory()
    refused(ours, ours.registration(nonce=theirs.challenge()), "nonce not found or expired")


def test_a_nonce_used_twice(shared_broker):
    nonce = shared_broker.challenge()
    shared_broker.agent(nonce=nonce)
    refused(shared_broker, shared_broker.registration(nonce=nonce), "nonce already consumed")


def test_a_bad_signature_uses_up_the_nonce_not_the_launch_token(shared_broker):
    nonce, launch = shared_broker.challenge(), shared_broker.launch_token()
    bad = shared_broker.registration(nonce=nonce, launch_token=launch, signature=b64(bytes(64)))
    refused(shared_broker, bad, "nonce signature verification failed")
    refused(shared_broker, shared_broker.registration(nonce=nonce, launch_token=launch), "nonce already consumed")
    assert shared_broker.agent(launch_token=launch).agent_id


# -- 403 at /v1/register: requested scope exceeds allowed scope ------------------------------------


@pytest.mark.parametrize("scope", [["write:data:*"], ["read:orders:*"], ["read:data:*", "admin:*"]])
def test_a_scope_beyond_the_launch_token(shared_broker, scope):
    body = shared_broker.registration(requested_scope=scope, launch_token=shared_broker.launch_token(["read:data:*"]))
    problem = assert_problem(
        shared_broker.post("/v1/register", body), 403, "scope_violation", "requested scope exceeds allowed scope"
    )
    assert problem["hint"] == "requested scope must be a subset of allowed scope"
    assert list(problem) == ["type", "title", "status", "detail", "instance", "error_code", "request_id", "hint"]
    # Nothing was used up: the same launch token and nonce serve a smaller wish.
    assert shared_broker.post("/v1/register", {**body, "requested_scope": ["read:data:users"]}).status_code == 200


@pytest.mark.parametrize("scope", [["read:data:*"], ["read:data:users"]])
def test_a_scope_within_the_launch_token(shared_broker, scope):
    launch = shared_broker.launch_token(["read:data:*"])
    assert shared_broker.agent(scope, launch_token=launch).claims["scope"] == scope


# -- 403 at /v1/token/renew: token has been revoked ----------------------------------------------------


@pytest.mark.parametrize("level, claim", [("token", "jti"), ("agent", "sub"), ("task", "task_id")])
def test_a_revoked_token_at_renewal(shared_broker, level, claim):
    agent = shared_broker.agent(task_id=f"task-of-{level}")
    done = shared_broker.post("/v1/revoke", {"level": level, "target": agent.claims[claim]}, token=shared_broker.admin_token())
    assert done.json() == {"revoked": True, "level": level, "target": agent.claims[claim], "count": 1}
    for _ in range(2):
        answer = shared_broker.post("/v1/token/renew", token=agent.token)
        assert_problem(answer, 403, "insufficient_scope", "token has been revoked")
    assert shared_broker.validate(agent.token) == {"valid": False, "error": "token is invalid or expired"}
    # The way out is a new registration.
    assert shared_broker.validate(shared_broker.agent(task_id=f"another-of-{level}").token)["valid"]


def test_a_token_whose_chain_was_revoked_at_renewal(shared_broker):
    root, delegate = shared_broker.agent(task_id="root"), shared_broker.agent(task_id="delegate")
    delegated = shared_broker.delegated(root.token, delegate.agent_id, ["read:data:x"])["access_token"]
    shared_broker.post("/v1/revoke", {"level": "chain", "target": root.agent_id}, token=shared_broker.admin_token())
    answer = shared_broker.post("/v1/token/renew", token=delegated)
    assert_problem(answer, 403, "insufficient_scope", "token has been revoked")
    assert shared_broker.validate(delegate.token)["valid"], "its own token has another root"


# -- 403 at any endpoint: insufficient_scope ----------------------------------------------------------------


def test_an_agent_at_the_endpoints_of_admins(shared_broker):
    token = shared_broker.agent().token
    for method, path, scope in (
        ("POST", "/v1/revoke", "admin:revoke:*"),
        ("GET", "/v1/audit/events", "admin:audit:*"),
        ("POST", "/v1/admin/launch-tokens", "admin:launch-tokens:*"),
    ):
        answer = shared_broker.request(method, path, token=token)
        assert_problem(answer, 403, "insufficient_scope", f"token lacks required scope: {scope}")
    # The guide's advice: look the scopes up.
    assert shared_broker.validate(token)["claims"]["scope"] == ["read:data:*"]


# -- 401 at /v1/token/renew: token expired ----------------------------------------------------------------


@pytest.mark.real_time("only the broker's own clock ends a token; its shortest life is one second")
def test_an_expired_token_at_renewal(shared_broker):
    agent = shared_broker.agent(max_ttl=1)
    until(lambda: not shared_broker.validate(agent.token)["valid"], 5)
    assert_problem(shared_broker.post("/v1/token/renew", token=agent.token), 401, "unauthorized", "token verification failed")


# -- 401 at any endpoint --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header, detail",
    [
        (None, "missing authorization header"),
        ("Basic YTpi", "invalid authorization scheme"),
        ("Bearer rubbish", "token verification failed"),
    ],
)
def test_a_bearer_that_is_none(shared_broker, header, detail):
    answer = shared_broker.post("/v1/token/renew", headers={"Authorization": header} if header else {})
    assert_problem(answer, 401, "unauthorized", detail)


# -- 400: missing or malformed request fields -----------------------------------------------------------


def test_a_body_that_is_not_json_or_lacks_a_field(shared_broker):
    whole = shared_broker.registration()
    assert_problem(shared_broker.post("/v1/register", content=b"{"), 400, "invalid_request", "malformed JSON body")
    for field in whole:
        part = {name: value for name, value in whole.items() if name != field}
        problem = assert_problem(shared_broker.post("/v1/register", part), 400, "invalid_request")
        assert problem["detail"].startswith("missing required field") and field in problem["detail"]
    assert shared_broker.post("/v1/register", whole).status_code == 200, "nothing was used up by the refusals"


@pytest.mark.parametrize("scope", ["read", "read:data", "read::x", ":data:x", ""])
def test_a_scope_that_is_not_action_resource_identifier(shared_broker, scope):
    body = {"agent_name": "x", "allowed_scope": [scope]}
    answer = shared_broker.post("/v1/admin/launch-tokens", body, token=shared_broker.admin_token())
    assert_problem(answer, 400, "invalid_scope_format")


def test_a_life_of_a_launch_token_beyond_a_day(shared_broker):
    body = {"agent_name": "x", "allowed_scope": ["read:data:x"], "ttl": 86401}
    answer = shared_broker.post("/v1/admin/launch-tokens", body, token=shared_broker.admin_token())
    assert_problem(answer, 400, "invalid_ttl")


def test_a_path_that_is_none(shared_broker):
    assert_problem(shared_broker.get("/v1/nothing-here"), 404, "not_found")


# -- request ids --------------------------------------------------------------------------------------------


def test_a_request_id_leads_to_the_brokers_log(shared_broker):
    answer = shared_broker.post("/v1/register", content=b"{")
    request_id = assert_problem(answer, 400, "invalid_request")["request_id"]
    assert re.fullmatch(r"[0-9a-f]{16}", request_id)
    line = shared_broker.stdout.wait_for(re.escape(request_id))
    assert line is not None and "/v1/register" in line.string and "400" in line.string
    own = shared_broker.get("/v1/health", headers={"X-Request-ID": "my-own-id.7"})
    assert own.headers["X-Request-ID"] == "my-own-id.7" and "request_id" not in own.json()
    assert shared_broker.stdout.wait_for(r"my-own-id\.7")
