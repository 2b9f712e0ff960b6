"""docs/wire-contract.md §7: admin login, and launch tokens on both of their paths."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest

from blackbox.driver import Broker, Start, details, types
from blackbox.jose import claims_of
from blackbox.wire import expect, ok
from harness import ADMIN_SECRET as SECRET

ADMIN_SCOPES = ["admin:launch-tokens:*", "admin:revoke:*", "admin:audit:*"]
WRONG = "another-secret-of-good-length"


# -- 7.1 login ---------------------------------------------------------------------------------------------------


def test_a_login_answers_a_bearer_for_300_seconds(broker: Broker) -> None:
    body = ok(broker.login())
    assert list(body) == ["access_token", "expires_in", "token_type"]
    assert (body["expires_in"], body["token_type"]) == (300, "Bearer")
    claims = claims_of(body["access_token"])
    assert claims["scope"] == ADMIN_SCOPES
    assert claims["sub"] == "admin"
    assert not {"task_id", "orch_id", "sid"} & set(claims)


def test_a_login_is_audited_and_counted(broker: Broker) -> None:
    moved, events = broker.during(lambda: broker.moved(lambda: ok(broker.login())))
    assert [(event["event_type"], event["outcome"]) for event in events] == [("admin_auth", "success")]
    assert not {"agent_id", "task_id", "orch_id"} & set(events[0])
    assert moved['admin_auth_total{status="success"}'] == 1
    assert moved['tokens_issued_total{scope="admin:launch-tokens:*"}'] == 1


def test_a_wrong_secret_is_refused_audited_and_counted(broker: Broker) -> None:
    def strike() -> None:
        expect(broker.login(WRONG), 401, "unauthorized", "invalid credentials")

    moved, events = broker.during(lambda: broker.moved(strike))
    assert [(event["event_type"], event["outcome"]) for event in events] == [("admin_auth_failed", "denied")]
    assert moved['admin_auth_total{status="failure"}'] == 1
    assert not [name for name in moved if name.startswith("tokens_issued_total")]


@pytest.mark.parametrize("secret", [SECRET + "x", SECRET[:-1], SECRET.upper(), " " + SECRET, SECRET + "\n", SECRET + "\x00", "é" * 20])
def test_only_the_very_secret_logs_in(broker: Broker, secret: str) -> None:
    expect(broker.login(secret), 401, "unauthorized", "invalid credentials")


@pytest.mark.parametrize("secret", ["x", "short", "change-me-in-production", "123456789012345"])
def test_a_presented_secret_below_policy_may_be_called_so(broker: Broker, secret: str) -> None:
    problem = expect(broker.login(secret), 401, "unauthorized")
    assert problem["detail"] in ("invalid credentials", "admin secret does not meet security requirements")


@pytest.mark.parametrize("body", [{}, {"secret": ""}, {"secret": None}, {"client_id": "", "client_secret": ""}])
def test_a_login_needs_a_secret(broker: Broker, body: dict) -> None:
    reply, events = broker.during(lambda: broker.elsewhere().post("/v1/admin/auth", body))
    expect(reply, 400, "invalid_request", "secret is required")
    assert events == []


@pytest.mark.parametrize(
    "body",
    [
        {"client_id": "admin", "client_secret": SECRET},
        {"client_id": "admin"},
        {"client_secret": "x"},
        {"secret": SECRET, "client_id": "admin"},
        {"secret": SECRET, "client_secret": "x"},
    ],
)
def test_the_legacy_shape_is_refused_naming_the_new_one(broker: Broker, body: dict) -> None:
    reply, events = broker.during(lambda: broker.elsewhere().post("/v1/admin/auth", body))
    expect(reply, 400, "invalid_request", contains='{"secret":')
    assert events == []


@pytest.mark.parametrize("raw", [b'{"client_id":"x","secret":5}', b'{"client_id":"x"} x', b'{"client_secret":"x","secret":[]}'])
def test_the_legacy_shape_is_looked_at_before_the_rest(broker: Broker, raw: bytes) -> None:
    expect(broker.elsewhere().post("/v1/admin/auth", raw=raw), 400, "invalid_request", contains='{"secret":')


def test_empty_legacy_members_beside_the_secret_do_no_harm(broker: Broker) -> None:
    assert broker.elsewhere().post("/v1/admin/auth", {"secret": SECRET, "client_id": "", "client_secret": ""}).status == 200


def test_logins_are_limited_to_ten_per_address_before_parsing(broker: Broker) -> None:
    for body in (b"{", b'{"secret":"%s"}' % WRONG.encode(), b'{"secret":"%s"}' % SECRET.encode()):
        caller = broker.elsewhere()

        def strike() -> list:
            return [caller.post("/v1/admin/auth", raw=body) for _ in range(14)]

        replies = strike()
        assert 429 not in [reply.status for reply in replies[:10]]
        limited = [reply for reply in replies if reply.status == 429]
        assert limited
        for reply in limited:
            expect(reply, 429, "rate_limited", "rate limit exceeded, try again later")
            assert reply.header("Retry-After") == "1"
        # Another address has a bucket of its own.
        assert broker.elsewhere().post("/v1/admin/auth", raw=body).status != 429


def test_a_limited_login_is_not_audited_or_counted_as_failed(broker: Broker) -> None:
    caller = broker.elsewhere()
    for _ in range(12):
        caller.post("/v1/admin/auth", raw=b"{")
    moved, events = broker.during(lambda: broker.moved(lambda: [caller.post("/v1/admin/auth", {"secret": WRONG}) for _ in range(3)]))
    assert types(events).count("admin_auth_failed") <= 1
    assert moved.get('admin_auth_total{status="failure"}', 0) <= 1


def test_a_strangers_forwarded_header_does_not_move_the_limit(broker: Broker) -> None:
    """§20.1 W6: without AA_TRUSTED_PROXIES nobody is believed."""
    caller = broker.elsewhere()
    statuses = [caller.post("/v1/admin/auth", raw=b"{", headers={"X-Forwarded-For": f"10.0.0.{n}"}).status for n in range(14)]
    assert 429 in statuses
    victim = broker.elsewhere()
    assert victim.post("/v1/admin/auth", raw=b"{").status == 400


def test_presented_secrets_are_compared_whole(start: Start) -> None:
    """§20.1 W38: bcrypt would look at 72 bytes only."""
    secret = "s" * 72
    broker = start(AA_ADMIN_SECRET=secret)
    assert broker.login(secret).status == 200
    for longer in (secret + "x", secret + secret, secret + "\x00"):
        expect(broker.login(longer), 401, "unauthorized", "invalid credentials")
    expect(broker.login("s" * 71), 401, "unauthorized", "invalid credentials")


def test_the_admin_token_lifetime_is_a_setting_with_a_ceiling(start: Start) -> None:
    assert ok(start(AA_ADMIN_TOKEN_TTL="77").login())["expires_in"] == 77
    assert ok(start(AA_ADMIN_TOKEN_TTL="600", AA_MAX_TTL="120").login())["expires_in"] == 120


# -- 7.2 launch tokens -------------------------------------------------------------------------------------------

PATHS = ["/v1/admin/launch-tokens", "/v1/app/launch-tokens"]
both = pytest.mark.parametrize("path", PATHS)


def caller_of(broker: Broker, path: str) -> str:
    """A token that may use this path."""
    return broker.admin if path == PATHS[0] else broker.ceiling(["read:data:*", "write:data:*"])


@both
def test_a_launch_token_with_defaults(broker: Broker, path: str) -> None:
    before = datetime.now(timezone.utc).replace(microsecond=0)
    reply = broker.post(path, {"agent_name": "a", "allowed_scope": ["read:data:*"]}, token=caller_of(broker, path))
    after = datetime.now(timezone.utc)
    body = ok(reply, 201)
    assert list(body) == ["launch_token", "expires_at", "policy"]
    assert re.fullmatch("[0-9a-f]{64}", body["launch_token"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["expires_at"])
    expires = datetime.fromisoformat(body["expires_at"])
    assert before + timedelta(seconds=30) <= expires <= after + timedelta(seconds=30)
    assert body["policy"] == {"allowed_scope": ["read:data:*"], "max_ttl": 300}
    assert list(body["policy"]) == ["allowed_scope", "max_ttl"]


@both
def test_a_launch_token_with_every_field(broker: Broker, path: str) -> None:
    fields = {"agent_name": "orch/task ü", "allowed_scope": ["write:data:b", "read:data:a"], "max_ttl": 60, "single_use": False, "ttl": 600}
    body = ok(broker.post(path, fields, token=caller_of(broker, path)), 201)
    assert body["policy"] == {"allowed_scope": ["write:data:b", "read:data:a"], "max_ttl": 60}
    expires = datetime.fromisoformat(body["expires_at"]) - datetime.now(timezone.utc)
    assert 597 <= expires.total_seconds() <= 600
    for _ in range(3):
        assert ok(broker.register(body["launch_token"], requested_scope=["read:data:a"]))["expires_in"] == 60


@both
@pytest.mark.parametrize("ttl", [0, -1, -(2**63)])
def test_lifetimes_of_zero_or_less_are_the_defaults(broker: Broker, path: str, ttl: int) -> None:
    body = ok(broker.post(path, {"agent_name": "a", "allowed_scope": ["read:data:x"], "max_ttl": ttl, "ttl": ttl}, token=caller_of(broker, path)), 201)
    assert body["policy"]["max_ttl"] == 300
    assert 28 <= (datetime.fromisoformat(body["expires_at"]) - datetime.now(timezone.utc)).total_seconds() <= 30


@both
def test_lifetimes_are_bounded(broker: Broker, path: str) -> None:
    """§20.1 W27."""
    token = caller_of(broker, path)
    for ttl in (86401, 2**31, 2**63 - 1):
        expect(broker.post(path, {"agent_name": "a", "allowed_scope": ["read:data:x"], "ttl": ttl}, token=token), 400, "invalid_ttl")
    day = ok(broker.post(path, {"agent_name": "a", "allowed_scope": ["read:data:x"], "ttl": 86400}, token=token), 201)
    assert datetime.fromisoformat(day["expires_at"]) > datetime.now(timezone.utc) + timedelta(hours=23)
    for max_ttl in (86401, 2**63 - 1):
        body = ok(broker.post(path, {"agent_name": "a", "allowed_scope": ["read:data:x"], "max_ttl": max_ttl}, token=token), 201)
        assert body["policy"]["max_ttl"] == 86400
        assert ok(broker.register(body["launch_token"], requested_scope=["read:data:x"]))["expires_in"] == 86400


@both
def test_a_missing_name_is_refused_and_audited(broker: Broker, path: str) -> None:
    token = caller_of(broker, path)
    for body in ({"allowed_scope": ["read:data:x"]}, {"agent_name": "", "allowed_scope": ["read:data:x"]}, {}):
        reply, events = broker.during(lambda: broker.post(path, body, token=token))
        expect(reply, 400, "invalid_request", "agent_name is required")
        assert [(event["event_type"], event["outcome"], event["agent_id"]) for event in events] == [("launch_token_denied", "denied", claims_of(token)["sub"])]


@both
def test_an_empty_scope_list_is_refused_and_audited(broker: Broker, path: str) -> None:
    token = caller_of(broker, path)
    for scope in ({}, {"allowed_scope": []}, {"allowed_scope": None}):
        reply, events = broker.during(lambda: broker.post(path, {"agent_name": "a", **scope}, token=token))
        expect(reply, 400, "invalid_request", "allowed_scope must not be empty")
        assert [(event["event_type"], event["outcome"], event["agent_id"]) for event in events] == [("launch_token_denied", "denied", claims_of(token)["sub"])]


@both
def test_bad_json_leaves_no_event(broker: Broker, path: str) -> None:
    reply, events = broker.during(lambda: broker.post(path, raw=b"{", token=caller_of(broker, path)))
    expect(reply, 400, "invalid_request", "malformed JSON body")
    assert "launch_token_denied" not in types(events)


@both
def test_a_launch_token_is_audited_and_counted(broker: Broker, path: str) -> None:
    token = caller_of(broker, path)
    body = {"agent_name": "the-name", "allowed_scope": ["read:data:audited"], "max_ttl": 123}
    moved, events = broker.during(lambda: broker.moved(lambda: ok(broker.post(path, body, token=token), 201)))
    assert [(event["event_type"], event["outcome"]) for event in events] == [("launch_token_issued", "success")]
    assert not {"agent_id", "task_id", "orch_id"} & set(events[0])
    told = [claims_of(token)["sub"]] if path == PATHS[0] else [claims_of(token)["sub"].removeprefix("app:")]
    for part in ["the-name", "read:data:audited", "123", *told]:
        assert part in events[0]["detail"]
    assert moved["launch_tokens_created_total"] == 1


def test_launch_tokens_never_show_in_the_trail(broker: Broker) -> None:
    token, events = broker.during(lambda: broker.launch_token())
    assert token not in details(events)


def test_asking_twice_makes_two_launch_tokens(broker: Broker) -> None:
    assert broker.launch_token() != broker.launch_token()


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@both
def test_launch_tokens_cannot_be_listed_or_deleted(broker: Broker, path: str, method: str) -> None:
    assert broker.call(method, path, token=broker.admin).status == 405
    assert broker.call(method, path + "/x", token=broker.admin).status == 404


NOT_SCOPES = ["", "read", "read:data", "read::x", ":data:x", "read:data:", "::", ":", "read:data:*extra:"]
SCOPES = ["read:data:*", "read:data:a:b", "a:b:::", " : : ", "é:ü:\U0001f600", "*:*:*", "READ:Data:X", "administrate:x:y", "apple:x:y", "Admin:x:y"]


@pytest.mark.parametrize("scope", NOT_SCOPES[:-1])
@both
def test_a_malformed_scope_is_refused(broker: Broker, path: str, scope: str) -> None:
    """§20.1 W8. On the app path the ceiling comes first, and a malformed scope is covered by none."""
    token = caller_of(broker, path)
    reply = broker.post(path, {"agent_name": "a", "allowed_scope": ["read:data:x", scope]}, token=token)
    if path == PATHS[0]:
        expect(reply, 400, "invalid_scope_format")
    else:
        assert (reply.status, reply.json["error_code"]) in ((403, "forbidden"), (400, "invalid_scope_format")), reply


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_of_three_parts_is_taken_as_it_is(broker: Broker, scope: str) -> None:
    assert ok(broker.launch([scope]), 201)["policy"]["allowed_scope"] == [scope]


@pytest.mark.parametrize("scope", ["admin:revoke:*", "admin:x:y", "app:launch-tokens:*", "app:x:y", "admin:*:*"])
def test_reserved_families_are_refused(broker: Broker, scope: str) -> None:
    """§20.1 W7."""
    expect(broker.launch(["read:data:x", scope]), 403, "forbidden")


def test_checks_come_in_their_order(broker: Broker) -> None:
    # The scope of the bearer, JSON, ceiling (of an admin: the reserved families), format, name, empty list.
    agent = broker.agent().token
    path = PATHS[0]
    expect(broker.post(path, raw=b"{", token=agent), 403, "insufficient_scope")
    expect(broker.post(path, {"allowed_scope": ["admin:x:y"]}, token=broker.admin), 403, "forbidden")
    expect(broker.post(path, {"allowed_scope": ["bad"]}, token=broker.admin), 400, "invalid_scope_format")
    expect(broker.post(path, {"allowed_scope": []}, token=broker.admin), 400, "invalid_request", "agent_name is required")
    over = broker.ceiling(["read:data:*"])
    expect(broker.post(PATHS[1], {"allowed_scope": ["write:data:x"]}, token=over), 403, "forbidden")
    expect(broker.post(PATHS[1], {"agent_name": "a", "allowed_scope": []}, token=over), 400, "invalid_request", "allowed_scope must not be empty")


@pytest.mark.parametrize(
    ("ceiling", "asked", "fits"),
    [
        (["read:data:*"], ["read:data:x"], True),
        (["read:data:*"], ["read:data:*"], True),
        (["read:data:*", "write:data:x"], ["write:data:x", "read:data:q"], True),
        (["read:data:x"], ["read:data:*"], False),
        (["read:data:*"], ["read:data:x", "write:data:x"], False),
        (["read:data:*"], ["read:orders:x"], False),
    ],
)
def test_an_app_stays_under_its_ceiling(broker: Broker, ceiling: list[str], asked: list[str], fits: bool) -> None:
    token = broker.ceiling(ceiling)
    reply, events = broker.during(lambda: broker.post(PATHS[1], {"agent_name": "a", "allowed_scope": asked}, token=token))
    if fits:
        assert ok(reply, 201)["policy"]["allowed_scope"] == asked
        return
    problem = expect(reply, 403, "forbidden", contains="ceiling")
    for scope in ceiling:
        assert scope in problem["detail"]
    assert [(event["event_type"], event["outcome"], event["agent_id"]) for event in events] == [("scope_ceiling_exceeded", "denied", claims_of(token)["sub"])]


def test_an_app_that_is_gone_makes_no_launch_tokens(broker: Broker) -> None:
    """§20.1 W9: its live token is revoked, and here it hears why."""
    app = broker.app()
    token = broker.app_token(app)
    ok(broker.delete("/v1/admin/apps/" + app.id, token=broker.admin))
    reply = broker.post(PATHS[1], {"agent_name": "a", "allowed_scope": ["read:data:x"]}, token=token)
    expect(reply, 403, "forbidden", "app not found")


def test_an_app_that_never_was_makes_no_launch_tokens(broker: Broker) -> None:
    token = broker.forge.token(sub="app:app-none-000000", scope=["app:launch-tokens:*"], task_id=None, orch_id=None)
    reply = broker.post(PATHS[1], {"agent_name": "a", "allowed_scope": ["read:data:x"]}, token=token)
    expect(reply, 403, "forbidden", "app not found")


def test_the_default_for_max_ttl_is_a_setting_under_the_ceiling(start: Start) -> None:
    """§20.1 W28."""
    broker = start(AA_DEFAULT_TTL="120")
    assert ok(broker.launch(), 201)["policy"]["max_ttl"] == 120
    assert ok(broker.launch(max_ttl=0), 201)["policy"]["max_ttl"] == 120
    broker = start(AA_DEFAULT_TTL="120", AA_MAX_TTL="50")
    assert ok(broker.register(broker.launch_token()))["expires_in"] == 50
    assert ok(broker.register(broker.launch_token(max_ttl=1000)))["expires_in"] == 50
