"""docs/wire-contract.md §2: the error object, one case for each error type (wire.py holds its shape on every reply)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from blackbox.driver import Broker, unique
from blackbox.wire import Reply, expect

MIB = 1_048_576
Case = Callable[[Broker], Reply]


def limited(broker: Broker) -> Reply:
    caller = broker.elsewhere()
    return [caller.post("/v1/admin/auth", {"secret": "x"}) for _ in range(12)][-1]


def depth(broker: Broker) -> Reply:
    first = broker.agent()
    token = first.token
    for _ in range(5):
        token = broker.delegated(token, first.id, ["read:data:*"])
    return broker.delegate(token, first.id, ["read:data:*"])


def over_ceiling(broker: Broker) -> Reply:
    return broker.launch(["write:data:*"], token=broker.ceiling(["read:data:*"]), path="/v1/app/launch-tokens")


def twice(broker: Broker) -> Reply:
    name = unique("twice")
    broker.app(name=name)
    return broker.post("/v1/admin/apps", {"name": name, "scopes": ["a:b:c"]}, token=broker.admin)


def bad_ttl(broker: Broker) -> Reply:
    return broker.post("/v1/admin/apps", {"name": unique("ttl"), "scopes": ["a:b:c"], "token_ttl": 59}, token=broker.admin)


CASES: list[tuple[str, int, str, str, Case]] = [
    ("json", 400, "invalid_request", "Bad Request", lambda b: b.post("/v1/token/validate", raw=b"{")),
    ("field", 400, "invalid_request", "Bad Request", lambda b: b.post("/v1/token/validate", {})),
    ("level", 400, "invalid_request", "Bad Request", lambda b: b.post("/v1/revoke", {"level": "x", "target": "y"}, token=b.admin)),
    ("legacy", 400, "invalid_request", "Bad Request", lambda b: b.elsewhere().post("/v1/admin/auth", {"client_id": "x"})),
    ("scope format", 400, "invalid_scope_format", "Bad Request", lambda b: b.launch(["read:data"])),
    ("app ttl", 400, "invalid_ttl", "Bad Request", bad_ttl),
    ("launch ttl", 400, "invalid_ttl", "Bad Request", lambda b: b.launch(ttl=86401)),
    ("no bearer", 401, "unauthorized", "Unauthorized", lambda b: b.post("/v1/token/renew")),
    ("credentials", 401, "unauthorized", "Unauthorized", lambda b: b.login("wrong-but-long-enough-secret")),
    ("launch token", 401, "unauthorized", "Unauthorized", lambda b: b.register("0" * 64)),
    ("register scope", 403, "scope_violation", "Forbidden", lambda b: b.register(requested_scope=["write:data:x"])),
    ("delegate scope", 403, "scope_violation", "Forbidden", lambda b: b.delegate(b.agent().token, "spiffe://x", ["write:data:x"])),
    ("delegate depth", 403, "scope_violation", "Forbidden", depth),
    ("endpoint scope", 403, "insufficient_scope", "Forbidden", lambda b: b.post("/v1/revoke", {}, token=b.agent().token)),
    ("app ceiling", 403, "forbidden", "Forbidden", over_ceiling),
    ("reserved family", 403, "forbidden", "Forbidden", lambda b: b.launch(["admin:revoke:*"])),
    ("path", 404, "not_found", "Not Found", lambda b: b.get("/v1/nowhere")),
    ("app id", 404, "not_found", "Not Found", lambda b: b.get("/v1/admin/apps/app-none-000000", token=b.admin)),
    ("delegate", 404, "not_found", "Not Found", lambda b: b.delegate(b.agent().token, "spiffe://x", ["read:data:x"])),
    ("method", 405, "method_not_allowed", "Method Not Allowed", lambda b: b.put("/v1/health")),
    ("duplicate", 409, "conflict", "Conflict", twice),
    ("body", 413, "payload_too_large", "Request Entity Too Large", lambda b: b.post("/v1/revoke", raw=b" " * (MIB + 1))),
    ("rate", 429, "rate_limited", "Too Many Requests", limited),
]


@pytest.mark.parametrize(("status", "code", "title", "case"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_error_type_has_its_status_title_and_urn(broker: Broker, status: int, code: str, title: str, case: Case) -> None:
    problem = expect(case(broker), status, code)
    assert problem["title"] == title
    assert problem["type"] == "urn:agentwrit:error:" + code
    assert all(value is not None for value in problem.values())


def test_instance_is_the_path_without_the_query(broker: Broker) -> None:
    reply = broker.get("/v1/nowhere/at/all?token=secret&x=1")
    assert reply.json["instance"] == "/v1/nowhere/at/all"
    assert b"secret" not in reply.body
    assert broker.post("/v1/token/validate?a=b", raw=b"{").json["instance"] == "/v1/token/validate"


def test_a_scope_error_says_what_to_do(broker: Broker) -> None:
    problem = expect(broker.register(requested_scope=["write:data:x"]), 403, "scope_violation", "requested scope exceeds allowed scope")
    assert problem["hint"] == "requested scope must be a subset of allowed scope"


def test_errors_never_repeat_what_was_secret(broker: Broker) -> None:
    canary = "canary-5up3r-53cr3t-value"
    replies = [
        broker.login(canary),
        broker.register(canary),
        broker.post("/v1/token/renew", token=canary),
        broker.elsewhere().post("/v1/app/auth", {"client_id": "x", "client_secret": canary}),
        broker.post("/v1/token/validate", raw=b'{"token": "%s"' % canary.encode()),
    ]
    for reply in replies:
        assert canary.encode() not in reply.body, reply
