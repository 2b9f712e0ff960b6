"""docs/wire-contract.md §3: how request bodies are decoded, on every endpoint that takes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from blackbox.driver import Broker, unique
from blackbox.wire import Reply, expect, ok
from harness import ADMIN_SECRET as SECRET

MALFORMED = "malformed JSON body"


@dataclass
class Endpoint:
    """Where a body goes, with what bearer, and what `{}` is answered."""

    method: str
    path: Callable[[Broker], str]
    token: Callable[[Broker], str | None]
    empty: str
    strings: list[str]

    def send(self, broker: Broker, body: bytes) -> Reply:
        return broker.elsewhere().call(self.method, self.path(broker), raw=body, token=self.token(broker))


def nobody(_: Broker) -> None:
    return None


def admin(broker: Broker) -> str:
    return broker.admin


_memory: dict[tuple[int, str], Any] = {}


def once(broker: Broker, what: str, make: Callable[[], Any]) -> Any:
    """Made once for each broker: which agent or app it is does not matter to these cases."""
    key = (id(broker), what)
    if key not in _memory:
        _memory[key] = make()
    return _memory[key]


def agent(broker: Broker) -> str:
    return str(once(broker, "agent", lambda: broker.agent().token))


def app(broker: Broker) -> str:
    return broker.ceiling(["read:data:*"])


def app_path(broker: Broker) -> str:
    return "/v1/admin/apps/" + once(broker, "app", broker.app).id


def at(path: str) -> Callable[[Broker], str]:
    return lambda _: path


LAUNCH_FIELDS = ["agent_name"]
REGISTER_FIELDS = ["launch_token", "nonce", "public_key", "signature", "orch_id", "task_id"]
ENDPOINTS = {
    "validate": Endpoint("POST", at("/v1/token/validate"), nobody, "token field is required", ["token"]),
    "admin auth": Endpoint("POST", at("/v1/admin/auth"), nobody, "secret is required", ["secret"]),
    "admin launch": Endpoint("POST", at("/v1/admin/launch-tokens"), admin, "agent_name is required", LAUNCH_FIELDS),
    "app launch": Endpoint("POST", at("/v1/app/launch-tokens"), app, "agent_name is required", LAUNCH_FIELDS),
    "register": Endpoint("POST", at("/v1/register"), nobody, "missing required field", REGISTER_FIELDS),
    "delegate": Endpoint("POST", at("/v1/delegate"), agent, "", ["delegate_to"]),
    "revoke": Endpoint("POST", at("/v1/revoke"), admin, "level and target are required", ["level", "target"]),
    "app create": Endpoint("POST", at("/v1/admin/apps"), admin, "name is required", ["name"]),
    "app update": Endpoint("PUT", app_path, admin, "", []),
    "app auth": Endpoint("POST", at("/v1/app/auth"), nobody, "client_id and client_secret are required", ["client_id", "client_secret"]),
}
endpoints = pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS.keys())

NOT_AN_OBJECT = {
    "empty": b"",
    "blank": b" \n\t ",
    "open": b"{",
    "word": b"not-json",
    "array": b"[]",
    "string": b'"x"',
    "number": b"5",
    "true": b"true",
    "bom": b"\xef\xbb\xbf{}",
    "single quotes": b"{'a': 1}",
    "trailing comma": b'{"a": 1,}',
    "no colon": b'{"a" 1}',
    "bare key": b"{a: 1}",
    "comment": b"{/* x */}",
    "nan": b'{"a": NaN}',
    "leading zero": b'{"a": 01}',
    "bad escape": b'{"a": "\\x41"}',
    "short escape": b'{"a": "\\u12"}',
    "control": b'{"a": "x\x01y"}',
    "newline": b'{"a": "x\ny"}',
    "nul": b'{"a": "x\x00y"}',
    "closed twice": b"}",
    "utf-16": '{"a":1}'.encode("utf-16"),
}


@endpoints
def test_what_is_not_an_object_is_malformed(broker: Broker, endpoint: Endpoint) -> None:
    for name, body in NOT_AN_OBJECT.items():
        reply = endpoint.send(broker, body)
        assert (reply.status, reply.json["error_code"], reply.json["detail"]) == (400, "invalid_request", MALFORMED), f"{name}: {reply}"


@endpoints
def test_null_is_an_empty_object_and_unknown_members_are_ignored(broker: Broker, endpoint: Endpoint) -> None:
    for body in (b"null", b"{}", b' { "unknown" : [1, {"a": null}] } ', b"\r\n\tnull\n"):
        problem = expect(endpoint.send(broker, body), 400, "invalid_request")
        assert problem["detail"] != MALFORMED
        assert problem["detail"].startswith(endpoint.empty)


STRING_FIELDS = [(endpoint, name) for endpoint in ENDPOINTS.values() for name in endpoint.strings]


@pytest.mark.parametrize(("endpoint", "name"), STRING_FIELDS, ids=[f"{key}.{name}" for key, endpoint in ENDPOINTS.items() for name in endpoint.strings])
def test_a_field_of_another_type_is_malformed_and_null_absent(broker: Broker, endpoint: Endpoint, name: str) -> None:
    for wrong in (b"5", b"true", b"[]", b"{}", b'["x"]', b"1.5"):
        expect(endpoint.send(broker, b'{"%s": %s}' % (name.encode(), wrong)), 400, "invalid_request", MALFORMED)
    absent = endpoint.send(broker, b"{}").json["detail"]
    assert expect(endpoint.send(broker, b'{"%s": null}' % name.encode()), 400, "invalid_request")["detail"] == absent


LIST_FIELDS = {
    "admin launch": "allowed_scope",
    "app launch": "allowed_scope",
    "register": "requested_scope",
    "delegate": "scope",
    "app create": "scopes",
    "app update": "scopes",
}


@pytest.mark.parametrize("key", LIST_FIELDS)
def test_a_scope_list_of_another_type_is_malformed(broker: Broker, key: str) -> None:
    name = LIST_FIELDS[key].encode()
    for wrong in (b'"x"', b"5", b"{}", b"[5]", b'["a:b:c", true]', b"[[]]", b'[{"a":1}]'):
        expect(ENDPOINTS[key].send(broker, b'{"%s": %s}' % (name, wrong)), 400, "invalid_request", MALFORMED)


INTEGER_FIELDS = [
    ("admin launch", "max_ttl"),
    ("admin launch", "ttl"),
    ("app launch", "max_ttl"),
    ("app launch", "ttl"),
    ("register", "requested_ttl"),
    ("delegate", "ttl"),
    ("app create", "token_ttl"),
    ("app update", "token_ttl"),
]


@pytest.mark.parametrize(("key", "name"), INTEGER_FIELDS)
def test_what_is_not_an_integer_of_64_bits_is_malformed(broker: Broker, key: str, name: str) -> None:
    for wrong in (b'"30"', b"30.0", b"3e1", b"1.5", b"true", b"[]", b"{}", b"9223372036854775808", b"-9223372036854775809", b"1e400", b"-0.0"):
        reply = ENDPOINTS[key].send(broker, b'{"%s": %s}' % (name.encode(), wrong))
        expect(reply, 400, "invalid_request", MALFORMED)


def test_single_use_of_another_type_is_malformed(broker: Broker) -> None:
    for wrong in (b'"true"', b"1", b"[]"):
        expect(ENDPOINTS["admin launch"].send(broker, b'{"single_use": %s}' % wrong), 400, "invalid_request", MALFORMED)


def launch(broker: Broker, body: bytes) -> Reply:
    return broker.post("/v1/admin/launch-tokens", raw=body, token=broker.admin)


def test_the_last_of_duplicate_members_wins(broker: Broker) -> None:
    body = ok(launch(broker, b'{"agent_name":"a","allowed_scope":["a:b:first"],"max_ttl":10,"allowed_scope":["a:b:last"],"max_ttl":20}'), 201)
    assert body["policy"] == {"allowed_scope": ["a:b:last"], "max_ttl": 20}
    assert broker.post("/v1/token/validate", raw=b'{"token":"x","token":""}').status == 400
    assert broker.post("/v1/token/validate", raw=b'{"token":"","token":"x"}').status == 200


def test_unknown_members_beside_known_ones_are_ignored(broker: Broker) -> None:
    assert ok(launch(broker, b'{"x":{"y":[null,1.5e300,"\\u0000"]},"agent_name":"a","allowed_scope":["a:b:c"],"":0}'), 201)


def test_explicit_null_counts_as_absent(broker: Broker) -> None:
    body = ok(launch(broker, b'{"agent_name":"a","allowed_scope":["a:b:c"],"max_ttl":null,"single_use":null,"ttl":null}'), 201)
    assert body["policy"]["max_ttl"] == 300
    # single_use null means the default, true.
    token = body["launch_token"]
    ok(broker.register(token, requested_scope=["a:b:c"]))
    assert broker.register(token, requested_scope=["a:b:c"]).status == 401


TRAILING = {"word": b" nonsense", "object": b'{"secret":"other"}', "brace": b"}", "array": b"[1", "nul": b"\x00", "comma": b","}


@pytest.mark.parametrize("trailing", TRAILING.values(), ids=TRAILING.keys())
def test_bytes_after_the_first_value_are_ignored(broker: Broker, trailing: bytes) -> None:
    assert ok(broker.post("/v1/token/validate", raw=b'{"token":"x"}' + trailing))["valid"] is False
    assert launch(broker, b'{"agent_name":"a","allowed_scope":["a:b:c"]}' + trailing).status == 201
    revoke = broker.post("/v1/revoke", raw=b'{"level":"task","target":"nothing-has-this"}' + trailing, token=broker.admin)
    assert revoke.status == 200
    expect(broker.post("/v1/token/validate", raw=b"null" + trailing), 400, "invalid_request")


@pytest.mark.parametrize("trailing", TRAILING.values(), ids=TRAILING.keys())
def test_bytes_after_the_json_make_an_admin_login_malformed(broker: Broker, trailing: bytes) -> None:
    login = b'{"secret":"%s"}' % SECRET.encode()
    expect(broker.elsewhere().post("/v1/admin/auth", raw=login + trailing), 400, "invalid_request", MALFORMED)
    assert broker.elsewhere().post("/v1/admin/auth", raw=login + b" \r\n\t").status == 200


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"\xff", "\ufffd"),
        (b"a\xc3z", "a\ufffdz"),
        (b"\\ud800", "\ufffd"),
        (b"\\udc00x", "\ufffdx"),
        (b"\\ud800\\u0041", "\ufffdA"),
        (b"\\ud83d\\ude00", "\U0001f600"),
        ("\U0001f600é".encode(), "\U0001f600é"),
        (b"\\u0000", "\x00"),
        ("\u202e".encode(), "\u202e"),
    ],
)
def test_invalid_text_is_replaced_and_valid_text_is_kept(broker: Broker, written: bytes, read: str) -> None:
    reply = launch(broker, b'{"agent_name":"a","allowed_scope":["read:data:' + written + b'"]}')
    assert ok(reply, 201)["policy"]["allowed_scope"] == ["read:data:" + read]


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_refused_and_moderate_nesting_is_not(broker: Broker, opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"

    def nested(depth: int) -> Reply:
        inside = opening * depth + b"1" + closing * depth
        return broker.post("/v1/token/validate", raw=b'{"deep":' + inside + b',"token":"x"}')

    assert nested(60).status == 200
    assert nested(9000).status in (200, 400)
    for depth in (10_001, 100_000):
        expect(nested(depth), 400, "invalid_request", MALFORMED)
    assert broker.get("/v1/health").status == 200


def test_deep_nesting_without_an_end_is_malformed(broker: Broker) -> None:
    expect(broker.post("/v1/token/validate", raw=b"[" * 1_000_000), 400, "invalid_request", MALFORMED)
    expect(broker.post("/v1/token/validate", raw=b'{"a":' * 200_000), 400, "invalid_request", MALFORMED)


def test_output_escapes_what_gos_encoder_escapes(broker: Broker) -> None:
    scope = "read:data:<a>&\u2028\u2029é\"\\"
    reply = broker.launch([scope])
    assert ok(reply, 201)["policy"]["allowed_scope"] == [scope]
    assert b"\\u003ca\\u003e\\u0026\\u2028\\u2029\xc3\xa9\\\"\\\\" in reply.body


def test_a_field_of_a_megabyte_is_only_long(broker: Broker) -> None:
    assert ok(broker.post("/v1/token/validate", {"token": "a" * 1_000_000}))["valid"] is False
    assert broker.post("/v1/revoke", {"level": "x" * 500_000, "target": unique()}, token=broker.admin).status == 400
