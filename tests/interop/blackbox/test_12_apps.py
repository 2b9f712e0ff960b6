"""docs/wire-contract.md §12: apps, their credentials and their tokens."""

from __future__ import annotations

import re
from datetime import datetime
from itertools import count
from typing import Any

import pytest

from blackbox.driver import Broker, Start, at_once, details, types, unique
from blackbox.jose import claims_of
from blackbox.wire import Reply, expect, ok

APPS = "/v1/admin/apps"
APP_KEYS = ["app_id", "name", "client_id", "scopes", "token_ttl", "status", "created_at", "updated_at"]
SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
UNKNOWN = f"{APPS}/app-none-000000"


def create(broker: Broker, body: dict[str, Any]) -> Reply:
    return broker.post(APPS, body, token=broker.admin)


def tenant(broker: Broker) -> str:
    """The path of an app whose state does not matter."""
    return f"{APPS}/" + claims_of(broker.ceiling(["read:data:*"]))["sub"].removeprefix("app:")


def login(broker: Broker, client_id: str, client_secret: str) -> Reply:
    return broker.elsewhere().post("/v1/app/auth", {"client_id": client_id, "client_secret": client_secret})


# -- registration ------------------------------------------------------------------------------------------------


def test_a_registered_app_gets_its_credentials_once(broker: Broker) -> None:
    name = unique("my-app")
    body = ok(create(broker, {"name": name, "scopes": ["write:data:b", "read:data:*"], "token_ttl": 600}), 201)
    assert {"app_id", "client_id", "client_secret", "scopes", "token_ttl"} <= set(body)
    assert set(body) <= {"app_id", "client_id", "client_secret", "scopes", "token_ttl", "name", "status"}
    assert re.fullmatch(rf"app-{name}-[0-9a-f]{{6}}", body["app_id"])
    assert re.fullmatch(r"[a-z0-9]+-[0-9a-f]{12}", body["client_id"])
    assert re.fullmatch("[0-9a-f]{64}", body["client_secret"])
    assert (body["scopes"], body["token_ttl"]) == (["write:data:b", "read:data:*"], 600)
    for reply in (broker.get(APPS, token=broker.admin), broker.get(f"{APPS}/{body['app_id']}", token=broker.admin)):
        assert body["client_secret"].encode() not in reply.body
        assert b"$2" not in reply.body and b"secret" not in reply.body


def test_the_client_id_abbreviates_the_name(start: Start) -> None:
    # A broker of its own, so that the names are free.
    broker = start()
    for stem, abbreviation in (("weather", "we"), ("my-app", "ma"), ("one-two-three", "ott"), ("one-two-three-four", "ott"), ("ab", "ab")):
        assert re.fullmatch(abbreviation + "-[0-9a-f]{12}", broker.app(name=stem).client_id)


GOOD_NAMES = ["ab", "a0-1-b", "x" * 64]
BAD_NAMES = ["a", "a-b", "-x", "x-", "ab-", "x--y", "ab--cd", "Ab", "aB", "a_b", "a b", "1ab", "ab ", " ab", "x" * 65, "äb", "ab\n", "ab.c", "ab/c", "-", "ab\x00"]


def test_good_names(start: Start) -> None:
    broker = start()
    for name in GOOD_NAMES:
        ok(create(broker, {"name": name, "scopes": ["read:data:x"]}), 201)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names(broker: Broker, name: str) -> None:
    reply, events = broker.during(lambda: create(broker, {"name": name, "scopes": ["read:data:x"]}))
    expect(reply, 400, "invalid_request")
    assert events == []


def test_the_default_lifetime(start: Start) -> None:
    broker = start()
    for number, body in enumerate(({}, {"token_ttl": None})):
        assert ok(create(broker, {"name": f"aa{number}", "scopes": ["a:b:c"], **body}), 201)["token_ttl"] == 1800
    assert ok(create(start(AA_APP_TOKEN_TTL="90"), {"name": "aa", "scopes": ["a:b:c"]}), 201)["token_ttl"] == 90


@pytest.mark.parametrize("ttl", [60, 61, 86399, 86400])
def test_lifetimes_in_range(broker: Broker, ttl: int) -> None:
    assert ok(create(broker, {"name": unique("ttl"), "scopes": ["a:b:c"], "token_ttl": ttl}), 201)["token_ttl"] == ttl


@pytest.mark.parametrize("ttl", [0, -1, 1, 59, 86401, 2**63 - 1, -(2**63)])
def test_lifetimes_out_of_range(broker: Broker, ttl: int) -> None:
    expect(create(broker, {"name": unique("ttl"), "scopes": ["a:b:c"], "token_ttl": ttl}), 400, "invalid_ttl")


@pytest.mark.parametrize(
    ("body", "code", "detail"),
    [
        ({}, "invalid_request", "name is required"),
        ({"name": ""}, "invalid_request", "name is required"),
        ({"name": None, "scopes": ["a:b:c"]}, "invalid_request", "name is required"),
        ({"name": "ok"}, "invalid_request", "scopes must not be empty"),
        ({"name": "ok", "scopes": []}, "invalid_request", "scopes must not be empty"),
        ({"name": "ok", "scopes": None}, "invalid_request", "scopes must not be empty"),
        ({"name": "ok", "scopes": ["bad"]}, "invalid_scope_format", None),
        ({"name": "ok", "scopes": ["a:b:c", "a::c"]}, "invalid_scope_format", None),
        ({"name": "ok", "scopes": [""]}, "invalid_scope_format", None),
        # The order of the checks: of all that is wrong the first answers.
        ({"scopes": [], "token_ttl": 0}, "invalid_request", "name is required"),
        ({"name": "-", "token_ttl": 0}, "invalid_request", "scopes must not be empty"),
        ({"name": "-", "scopes": ["bad"], "token_ttl": 0}, "invalid_ttl", None),
        ({"name": "-", "scopes": ["bad"], "token_ttl": -1}, "invalid_ttl", None),
        ({"name": "-", "scopes": ["bad"], "token_ttl": 59}, "invalid_request", None),
        ({"name": "okay", "scopes": ["bad"], "token_ttl": 59}, "invalid_scope_format", None),
    ],
)
def test_registrations_that_are_refused(broker: Broker, body: dict, code: str, detail: str | None) -> None:
    reply, events = broker.during(lambda: create(broker, body))
    expect(reply, 400, code, detail)
    assert events == []


@pytest.mark.parametrize("scope", ["admin:revoke:*", "app:launch-tokens:*", "admin:x:y", "app:x:y"])
def test_reserved_families_are_for_no_app(broker: Broker, scope: str) -> None:
    """§20.1 W7."""
    expect(create(broker, {"name": unique("res"), "scopes": ["a:b:c", scope]}), 403, "forbidden")
    expect(broker.put(tenant(broker), {"scopes": [scope]}, token=broker.admin), 403, "forbidden")


def test_a_name_serves_once_until_it_is_deregistered(broker: Broker) -> None:
    """§20.1 W26."""
    name = unique("dup")
    first = broker.app(name=name)
    expect(create(broker, {"name": name, "scopes": ["a:b:c"]}), 409, "conflict")
    ok(broker.delete(f"{APPS}/{first.id}", token=broker.admin))
    second = broker.app(name=name)
    assert second.id != first.id
    expect(create(broker, {"name": name, "scopes": ["a:b:c"]}), 409, "conflict")
    expect(login(broker, first.client_id, first.client_secret), 401, "unauthorized", "Authentication failed")
    ok(login(broker, second.client_id, second.client_secret))


def test_of_parallel_registrations_of_one_name_one_wins(broker: Broker) -> None:
    name = unique("race")
    admin = broker.admin
    replies = at_once(6, lambda _: broker.post(APPS, {"name": name, "scopes": ["a:b:c"]}, token=admin))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 5


def test_app_registrations_are_audited_without_secrets(broker: Broker) -> None:
    def strike() -> tuple[str, str]:
        app = broker.app(["read:data:*"])
        ok(broker.put(f"{APPS}/{app.id}", {"scopes": ["read:data:x"], "token_ttl": 120}, token=broker.admin))
        ok(broker.put(f"{APPS}/{app.id}", {"token_ttl": 180}, token=broker.admin))
        ok(login(broker, app.client_id, app.client_secret))
        ok(broker.delete(f"{APPS}/{app.id}", token=broker.admin))
        return app.id, app.client_secret

    (app_id, secret), events = broker.during(strike)
    assert types(events) == ["app_registered", "app_updated", "app_updated", "app_updated", "app_authenticated", "app_deregistered"]
    for event in events:
        assert event["outcome"] == "success"
        assert not {"agent_id", "task_id", "orch_id"} & set(event)
        assert app_id in event["detail"]
    assert secret not in details(events)


# -- listing -----------------------------------------------------------------------------------------------------


def test_no_apps_is_an_empty_list(start: Start) -> None:
    broker = start()
    assert broker.get(APPS, token=broker.admin).body == b'{"apps":[],"total":0}\n'


def test_the_list_is_newest_first_and_whole(start: Start) -> None:
    broker = start()
    apps = [broker.app(name=f"app-{letter}{letter}") for letter in "abcde"]
    body = ok(broker.get(APPS, token=broker.admin))
    assert list(body) == ["apps", "total"]
    assert body["total"] == 5
    assert [app["app_id"] for app in body["apps"]] == [app.id for app in reversed(apps)]
    for app in body["apps"]:
        assert list(app) == APP_KEYS
        assert app["status"] == "active"
    # A deregistered one stays in the list.
    ok(broker.delete(f"{APPS}/{apps[3].id}", token=broker.admin))
    after = ok(broker.get(APPS, token=broker.admin))
    assert after["total"] == 5
    assert {app["app_id"]: app["status"] for app in after["apps"]}[apps[3].id] == "inactive"


def test_one_app(broker: Broker) -> None:
    app = broker.app(["b:c:d", "a:b:c"], token_ttl=61)
    shown = ok(broker.get(f"{APPS}/{app.id}", token=broker.admin))
    assert list(shown) == APP_KEYS
    assert (shown["app_id"], shown["name"], shown["client_id"]) == (app.id, app.name, app.client_id)
    assert (shown["scopes"], shown["token_ttl"], shown["status"]) == (["b:c:d", "a:b:c"], 61, "active")
    assert SECONDS.fullmatch(shown["created_at"]) and SECONDS.fullmatch(shown["updated_at"])
    assert shown in ok(broker.get(APPS, token=broker.admin))["apps"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("app_id", ["app-none-000000", "x", "%20", "a%00b", "%F0%9F%98%80", "..%2f", "x" * 1000])
def test_an_unknown_id(broker: Broker, method: str, app_id: str) -> None:
    reply = broker.call(method, f"{APPS}/{app_id}", token=broker.admin)
    expect(reply, 404, "not_found")
    if app_id == "app-none-000000":
        assert reply.json["detail"] == "app not found"


# -- update ------------------------------------------------------------------------------------------------------


def test_an_update_changes_what_it_names(broker: Broker) -> None:
    app = broker.app(["read:data:*"], token_ttl=100)
    path = f"{APPS}/{app.id}"
    first = ok(broker.put(path, {"scopes": ["write:data:*"]}, token=broker.admin))
    assert list(first) == APP_KEYS
    assert (first["scopes"], first["token_ttl"]) == (["write:data:*"], 100)
    second = ok(broker.put(path, {"token_ttl": 200, "name": "other", "status": "inactive"}, token=broker.admin))
    assert (second["scopes"], second["token_ttl"], second["name"], second["status"]) == (["write:data:*"], 200, app.name, "active")
    third = ok(broker.put(path, {"scopes": ["a:b:c", "d:e:f"], "token_ttl": 300}, token=broker.admin))
    assert (third["scopes"], third["token_ttl"]) == (["a:b:c", "d:e:f"], 300)
    assert ok(broker.get(path, token=broker.admin)) == third
    assert datetime.fromisoformat(third["updated_at"]) >= datetime.fromisoformat(third["created_at"])


@pytest.mark.parametrize("body", [{}, {"scopes": []}, {"scopes": None}, {"token_ttl": None}, {"scopes": [], "token_ttl": None}, {"name": "x"}])
def test_an_update_of_nothing(broker: Broker, body: dict) -> None:
    for path in (tenant(broker), UNKNOWN):
        expect(broker.put(path, body, token=broker.admin), 400, "invalid_request")


@pytest.mark.parametrize("ttl", [0, -1, 59, 86401, 2**63 - 1])
def test_an_update_with_a_lifetime_out_of_range(broker: Broker, ttl: int) -> None:
    for path in (tenant(broker), UNKNOWN):
        expect(broker.put(path, {"token_ttl": ttl}, token=broker.admin), 400, "invalid_ttl")


@pytest.mark.parametrize("scope", ["bad", "a:b", "", "a::c"])
def test_an_update_with_a_malformed_scope(broker: Broker, scope: str) -> None:
    for path in (tenant(broker), UNKNOWN):
        expect(broker.put(path, {"scopes": ["a:b:c", scope]}, token=broker.admin), 400, "invalid_scope_format")


def test_an_update_of_an_unknown_app(broker: Broker) -> None:
    for body in ({"scopes": ["a:b:c"]}, {"token_ttl": 60}, {"scopes": ["a:b:c"], "token_ttl": 60}):
        expect(broker.put(UNKNOWN, body, token=broker.admin), 404, "not_found", "app not found")


def test_an_update_is_all_or_nothing(broker: Broker) -> None:
    """§20.1 W25."""
    app = broker.app(["read:data:*"], token_ttl=100)
    path = f"{APPS}/{app.id}"
    before = ok(broker.get(path, token=broker.admin))
    for body in ({"scopes": ["write:data:*"], "token_ttl": 59}, {"scopes": ["bad"], "token_ttl": 200}):
        reply, events = broker.during(lambda: broker.put(path, body, token=broker.admin))
        assert reply.status == 400
        assert events == []
    assert ok(broker.get(path, token=broker.admin)) == before


def test_an_update_reaches_future_launch_tokens_only(broker: Broker) -> None:
    app = broker.app(["read:data:*"])
    token = broker.app_token(app)
    launch = ok(broker.launch(["read:data:x"], token=token, path="/v1/app/launch-tokens"), 201)["launch_token"]
    agent = ok(broker.register(ok(broker.launch(token=token, path="/v1/app/launch-tokens"), 201)["launch_token"]))["access_token"]
    ok(broker.put(f"{APPS}/{app.id}", {"scopes": ["write:data:*"]}, token=broker.admin))
    expect(broker.launch(["read:data:x"], token=token, path="/v1/app/launch-tokens"), 403, "forbidden", contains="ceiling")
    ok(broker.launch(["write:data:x"], token=token, path="/v1/app/launch-tokens"), 201)
    ok(broker.register(launch, requested_scope=["read:data:x"]))
    assert broker.stands(agent)


# -- deregistration ----------------------------------------------------------------------------------------------


def test_deregistering(broker: Broker) -> None:
    app = broker.app()
    path = f"{APPS}/{app.id}"
    body = ok(broker.delete(path, token=broker.admin))
    assert {"app_id", "status", "deregistered_at"} <= set(body)
    assert (body["app_id"], body["status"]) == (app.id, "inactive")
    assert SECONDS.fullmatch(body["deregistered_at"])
    again = ok(broker.delete(path, token=broker.admin))
    assert (again["app_id"], again["status"]) == (app.id, "inactive")
    assert ok(broker.get(path, token=broker.admin))["status"] == "inactive"


def test_a_deregistered_app_has_no_authority_left(broker: Broker) -> None:
    """§20.1 W9."""
    app = broker.app()
    token = broker.app_token(app)
    ok(broker.delete(f"{APPS}/{app.id}", token=broker.admin))
    assert broker.validate(token)["valid"] is False
    expect(broker.post("/v1/app/launch-tokens", {}, token=token), 403, "forbidden", "app not found")
    expect(broker.post("/v1/token/release", token=token), 403, "insufficient_scope", "token has been revoked")
    expect(login(broker, app.client_id, app.client_secret), 401, "unauthorized", "Authentication failed")


# -- login -------------------------------------------------------------------------------------------------------


def test_an_app_logs_in(broker: Broker) -> None:
    app = broker.app(token_ttl=777)
    body = ok(broker.app_login(app))
    assert list(body) == ["access_token", "expires_in", "token_type", "scopes"]
    assert (body["expires_in"], body["token_type"]) == (777, "Bearer")
    assert body["scopes"] == ["app:launch-tokens:*", "app:agents:*", "app:audit:read"]
    claims = claims_of(body["access_token"])
    assert claims["sub"] == f"app:{app.id}"
    assert claims["scope"] == body["scopes"]
    assert claims["exp"] - claims["iat"] == 777
    assert not {"task_id", "orch_id", "sid", "delegation_chain", "chain_hash"} & set(claims)


def test_the_ceiling_clamps_app_tokens(start: Start) -> None:
    broker = start(AA_MAX_TTL="100")
    assert ok(broker.app_login(broker.app(token_ttl=777)))["expires_in"] == 100


def test_a_login_is_audited_and_counted(broker: Broker) -> None:
    app = broker.app()
    moved, events = broker.during(lambda: broker.moved(lambda: ok(broker.app_login(app))))
    assert [(event["event_type"], event["outcome"]) for event in events] == [("app_authenticated", "success")]
    assert moved['tokens_issued_total{scope="app:launch-tokens:*"}'] == 1


@pytest.mark.parametrize("body", [{}, {"client_id": "x"}, {"client_secret": "x"}, {"client_id": "", "client_secret": "x"}, {"client_id": "x", "client_secret": None}])
def test_a_login_needs_both(broker: Broker, body: dict) -> None:
    # A client_id of its own, since it is the key of the limit.
    body = {name: unique("need") if value == "x" else value for name, value in body.items()}
    reply, events = broker.during(lambda: broker.elsewhere().post("/v1/app/auth", body))
    expect(reply, 400, "invalid_request", "client_id and client_secret are required")
    assert events == []


def test_failed_logins_get_one_answer_and_the_trail_the_reason(broker: Broker) -> None:
    app, gone = broker.app(), broker.app()
    ok(broker.delete(f"{APPS}/{gone.id}", token=broker.admin))
    reasons = set()
    for client_id, secret in (("none-000000000000", app.client_secret), (app.client_id, "0" * 64), (gone.client_id, gone.client_secret)):
        reply, events = broker.during(lambda: login(broker, client_id, secret))
        expect(reply, 401, "unauthorized", "Authentication failed")
        assert [(event["event_type"], event["outcome"]) for event in events] == [("app_auth_failed", "denied")]
        assert not {"agent_id", "task_id", "orch_id"} & set(events[0])
        assert secret not in details(events)
        reasons.add(events[0]["detail"].replace(client_id, ""))
    assert len(reasons) == 3


def test_only_the_very_secret_logs_in(broker: Broker) -> None:
    app = broker.app()
    # The first 72 bytes are what bcrypt looks at.
    for wrong in (app.client_secret[:-1], app.client_secret + "0" * 100):
        expect(login(broker, app.client_id, wrong), 401, "unauthorized", "Authentication failed")


def test_logins_are_limited_to_a_burst_of_three_per_client_id(broker: Broker) -> None:
    app = broker.app()
    replies = [login(broker, app.client_id, app.client_secret) for _ in range(5)]
    assert [reply.status for reply in replies[:3]] == [200] * 3
    for reply in replies[3:]:
        expect(reply, 429, "rate_limited", "rate limit exceeded, try again later")
        assert reply.header("Retry-After") == "60"
    # Before the body is validated, for good and bad alike, and by client_id only.
    expect(broker.elsewhere().post("/v1/app/auth", {"client_id": app.client_id}), 429, "rate_limited")
    assert login(broker, unique("other"), "x").status == 401


def test_bad_requests_count_too(broker: Broker) -> None:
    client_id = unique("bad")
    statuses = [broker.elsewhere().post("/v1/app/auth", {"client_id": client_id}).status for _ in range(4)]
    assert statuses == [400, 400, 400, 429]


def test_without_a_client_id_the_address_is_the_key(broker: Broker) -> None:
    caller = broker.elsewhere()
    statuses = [caller.post("/v1/app/auth", raw=body).status for body in (b"{", b"{}", b'{"client_id":""}', b"{", b"null")]
    assert statuses == [400, 400, 400, 429, 429]


def test_one_parser_serves_limit_and_handler(broker: Broker) -> None:
    """§20.1 W6: bytes after the body, case and duplicates do not make another key."""
    app = broker.app()
    body = b'{"client_id":"%s","client_secret":"%s"}' % (app.client_id.encode(), app.client_secret.encode())
    variants = [body, body + b" trailing", body + b"{}", b'{"client_id":"x",' + body[1:], body + b"]"]
    assert [broker.elsewhere().post("/v1/app/auth", raw=variant).status for variant in variants] == [200, 200, 200, 429, 429]


def test_many_client_ids_from_one_address_have_a_limit(broker: Broker) -> None:
    """§20.1 W6: beside the client_id limit. How high it is we leave open; that it comes we do not."""
    caller = broker.elsewhere()
    for number in count():
        # Counted before the body is validated, so that no bcrypt slows this down.
        reply = caller.post("/v1/app/auth", {"client_id": f"guess-{number}"})
        if reply.status == 429:
            break
        assert number < 5000, "no limit by address"
    assert number > 10, "a few apps behind one address can log in"


def test_a_limited_login_leaves_an_event(broker: Broker) -> None:
    """§20.1 W12."""
    app = broker.app()
    _, events = broker.during(lambda: [login(broker, app.client_id, "x" * 64) for _ in range(6)])
    kinds = types(events)
    assert kinds.count("app_auth_failed") == 3
    assert 1 <= kinds.count("app_rate_limited") <= 3


# -- across a restart ----------------------------------------------------------------------------------------------


def test_apps_survive_a_restart(start: Start) -> None:
    broker = start()
    kept, gone = broker.app(["read:data:*"], token_ttl=120), broker.app()
    token, lost = broker.app_token(kept), broker.app_token(gone)
    ok(broker.delete(f"{APPS}/{gone.id}", token=broker.admin))
    before = ok(broker.get(APPS, token=broker.admin))
    broker.restart()
    assert ok(broker.get(APPS, token=broker.admin)) == before
    assert broker.validate(token)["valid"] is True
    assert broker.validate(lost)["valid"] is False
    ok(broker.app_login(kept))
    ok(broker.launch(token=token, path="/v1/app/launch-tokens"), 201)


def test_parallel_use_by_one_app_is_served(broker: Broker) -> None:
    """§19 row 24, §20 W37."""
    token = broker.app_token(broker.app())
    admin = broker.admin

    def use(number: int) -> int:
        if number % 8 == 0:
            return broker.post(APPS, {"name": unique("par"), "scopes": ["a:b:c"]}, token=admin).status
        if number % 4 == 1:
            return broker.get(APPS, token=admin).status
        return broker.launch(["read:data:x"], token=token, path="/v1/app/launch-tokens").status

    assert set(at_once(32, use)) == {200, 201}
