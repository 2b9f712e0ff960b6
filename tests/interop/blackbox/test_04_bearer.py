"""docs/wire-contract.md §4 and §5: the bearer check, its order, its answers and its audit events, on every endpoint that has it."""

from __future__ import annotations

import time

import pytest

from blackbox.driver import INVALID, Broker, Start
from blackbox.wire import expect, ok

ANY_SCOPE = [("POST", "/v1/token/renew"), ("POST", "/v1/token/release"), ("POST", "/v1/delegate")]
SCOPED = [
    ("POST", "/v1/revoke", "admin:revoke:*"),
    ("GET", "/v1/audit/events", "admin:audit:*"),
    ("POST", "/v1/admin/launch-tokens", "admin:launch-tokens:*"),
    ("POST", "/v1/app/launch-tokens", "app:launch-tokens:*"),
    ("POST", "/v1/admin/apps", "admin:launch-tokens:*"),
    ("GET", "/v1/admin/apps", "admin:launch-tokens:*"),
    ("GET", "/v1/admin/apps/app-x-000000", "admin:launch-tokens:*"),
    ("PUT", "/v1/admin/apps/app-x-000000", "admin:launch-tokens:*"),
    ("DELETE", "/v1/admin/apps/app-x-000000", "admin:launch-tokens:*"),
]
PROTECTED = ANY_SCOPE + [(method, path) for method, path, _ in SCOPED]
protected = pytest.mark.parametrize(("method", "path"), PROTECTED, ids=[f"{method} {path}" for method, path in PROTECTED])
scoped = pytest.mark.parametrize(("method", "path", "scope"), SCOPED, ids=[f"{method} {path}" for method, path, _ in SCOPED])


def only_event(events: list[dict], event_type: str, resource: str) -> dict:
    """The one event that a refusal at the door leaves."""
    assert [event["event_type"] for event in events] == [event_type], events
    event = events[0]
    assert event["outcome"] == "denied"
    assert event["resource"] == resource
    assert event["detail"]
    return event


def no_ids(event: dict) -> bool:
    return not {"agent_id", "task_id", "orch_id"} & set(event)


@protected
def test_without_a_header(broker: Broker, method: str, path: str) -> None:
    reply, events = broker.during(lambda: broker.call(method, path, raw=b"{"))
    expect(reply, 401, "unauthorized", "missing authorization header")
    assert no_ids(only_event(events, "token_auth_failed", path))


SCHEMES = ["bearer x", "BEARER x", "Basic eDp5", "Bearerx", "Token x", "x", "Bearer", "Bearer\tx", "bearer"]


@protected
def test_with_another_scheme(broker: Broker, method: str, path: str) -> None:
    for value in SCHEMES:
        reply, events = broker.during(lambda: broker.call(method, path, raw=b"{", headers={"Authorization": value}))
        expect(reply, 401, "unauthorized", "invalid authorization scheme")
        assert no_ids(only_event(events, "token_auth_failed", path))


@protected
def test_with_a_token_that_does_not_verify(broker: Broker, method: str, path: str) -> None:
    good = broker.admin
    for token in ("x", "a.b.c", good[:-2], good + "A", " " + good, good + "." + good, "..", "null", "\xe4"):
        reply, events = broker.during(lambda: broker.call(method, path, raw=b"{", token=token))
        expect(reply, 401, "unauthorized", "token verification failed")
        assert no_ids(only_event(events, "token_auth_failed", path))


def test_an_empty_header_or_token_is_refused(broker: Broker) -> None:
    # Trailing blanks may be trimmed before we see them, so either of two texts.
    for value, texts in (("", {"missing authorization header"}), ("Bearer ", {"invalid authorization scheme", "token verification failed"})):
        reply = broker.post("/v1/token/renew", headers={"Authorization": value})
        assert expect(reply, 401, "unauthorized")["detail"] in texts


@protected
def test_with_a_revoked_token(broker: Broker, method: str, path: str) -> None:
    agent = broker.agent(orch_id="orch-r", task_id="task-r")
    broker.release(agent.token)
    reply, events = broker.during(lambda: broker.call(method, path, raw=b"{", token=agent.token))
    expect(reply, 403, "insufficient_scope", "token has been revoked")
    event = only_event(events, "token_revoked_access", path)
    assert (event["agent_id"], event["task_id"], event["orch_id"]) == (agent.id, "task-r", "orch-r")


@protected
def test_with_an_expired_token_even_if_revoked(broker: Broker, method: str, path: str) -> None:
    now = int(time.time())
    token = broker.forge.token(iat=now - 100, nbf=now - 100, exp=now - 2)
    expect(broker.call(method, path, raw=b"{", token=token), 401, "unauthorized", "token verification failed")
    claims = broker.forge.claims(iat=now - 100, nbf=now - 100, exp=now - 2)
    broker.revoke("token", claims["jti"])
    expect(broker.call(method, path, raw=b"{", token=broker.forge.sign(claims)), 401, "unauthorized", "token verification failed")


@scoped
def test_without_the_scope_of_the_endpoint(broker: Broker, method: str, path: str, scope: str) -> None:
    agent = broker.agent(orch_id="orch-s", task_id="task-s")
    reply, events = broker.during(lambda: broker.call(method, path, raw=b"{", token=agent.token))
    expect(reply, 403, "insufficient_scope", f"token lacks required scope: {scope}")
    event = only_event(events, "scope_violation", path)
    assert (event["agent_id"], event["task_id"], event["orch_id"]) == (agent.id, "task-s", "orch-s")


def test_admin_and_app_paths_take_each_their_own_kind_only(broker: Broker) -> None:
    app = broker.ceiling(["read:data:*"])
    body = {"agent_name": "a", "allowed_scope": ["read:data:x"]}
    expect(broker.post("/v1/app/launch-tokens", body, token=broker.admin), 403, "insufficient_scope", "token lacks required scope: app:launch-tokens:*")
    expect(broker.post("/v1/admin/launch-tokens", body, token=app), 403, "insufficient_scope", "token lacks required scope: admin:launch-tokens:*")
    expect(broker.get("/v1/audit/events", token=app), 403, "insufficient_scope", "token lacks required scope: admin:audit:*")
    expect(broker.post("/v1/revoke", {}, token=app), 403, "insufficient_scope", "token lacks required scope: admin:revoke:*")
    expect(broker.get("/v1/admin/apps", token=app), 403, "insufficient_scope", "token lacks required scope: admin:launch-tokens:*")


def test_stars_in_action_and_resource_open_nothing(broker: Broker) -> None:
    token = broker.forge.token(sub="admin", scope=["*:*:*", "admin:*:*", "*:revoke:*"], task_id=None, orch_id=None)
    for method, path, scope in SCOPED:
        expect(broker.call(method, path, raw=b"{", token=token), 403, "insufficient_scope", f"token lacks required scope: {scope}")


@scoped
def test_an_agent_with_the_scope_is_still_refused(broker: Broker, method: str, path: str, scope: str) -> None:
    """§20.1 W7: the guards check the kind of subject too. Such a token needs the broker's key to exist."""
    token = broker.forge.token(scope=[scope])
    expect(broker.call(method, path, raw=b"{", token=token), 403, "insufficient_scope")


def test_the_body_is_looked_at_after_all_checks(broker: Broker) -> None:
    for method, path, _ in SCOPED:
        if method in ("POST", "PUT"):
            assert broker.call(method, path, raw=b"not-json").status == 401
    expect(broker.post("/v1/revoke", raw=b"not-json", token=broker.admin), 400, "invalid_request")


def test_answers_do_not_tell_why_verification_failed(broker: Broker) -> None:
    forge = broker.forge
    now = int(time.time())
    tokens = {
        "signature": forge.token()[:-4] + "AAAA",
        "segments": "a.b",
        "algorithm": forge.sign(forge.claims(), forge.header(alg="none")),
        "expired": forge.token(exp=now - 10),
        "future": forge.token(nbf=now + 100),
        "subject": forge.token(sub=""),
    }
    reasons = set()
    for token in tokens.values():
        reply, events = broker.during(lambda: broker.post("/v1/token/renew", token=token))
        expect(reply, 401, "unauthorized", "token verification failed")
        assert "hint" not in reply.json
        reasons.add(events[0]["detail"])
        assert token not in events[0]["detail"]
        assert broker.validate(token) == INVALID
    assert len(reasons) >= 4, f"the audit detail carries the reason: {reasons}"


def test_an_audience_mismatch(start: Start) -> None:
    broker = start()
    agent = broker.agent(orch_id="orch-a", task_id="task-a")
    broker.restart(AA_AUDIENCE="here")
    path = "/v1/token/renew"
    for token in (agent.token, broker.forge.token(sub=agent.id, orch_id="orch-a", task_id="task-a", aud=["there", "elsewhere"])):
        reply, events = broker.during(lambda: broker.post(path, token=token))
        expect(reply, 401, "unauthorized", "token audience mismatch")
        event = only_event(events, "token_auth_failed", path)
        assert (event["agent_id"], event["task_id"], event["orch_id"]) == (agent.id, "task-a", "orch-a")
        # The public check leaves the audience to its caller (section 6).
        assert broker.validate(token)["valid"] is True
    assert broker.agent().claims["aud"] == ["here"]
    # Several audiences: one of them is enough.
    assert broker.post("/v1/revoke", token=broker.forge.token(aud=["there", "here"])).status == 403
    # The audience is looked at after revocation and before the scope.
    expect(broker.post("/v1/revoke", token=agent.token), 401, "unauthorized", "token audience mismatch")
    broker.revoke("agent", agent.id)
    expect(broker.post("/v1/revoke", token=agent.token), 403, "insufficient_scope", "token has been revoked")


def test_any_bearer_may_release_itself(broker: Broker) -> None:
    for token in (ok(broker.login())["access_token"], broker.app_token(broker.app()), broker.agent().token):
        assert broker.release(token).status == 204
        expect(broker.release(token), 403, "insufficient_scope", "token has been revoked")
