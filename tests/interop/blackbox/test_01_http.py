"""docs/wire-contract.md §1: HTTP basics, request id, security headers, body limit, unknown routes and methods."""

from __future__ import annotations

import json
import re
import socket

import pytest

from blackbox.driver import Broker, unique
from blackbox.wire import JSON, PROBLEM, Reply, compact, expect, ok, parse, read_all

MIB = 1_048_576
POSTS = [
    "/v1/token/validate",
    "/v1/register",
    "/v1/token/renew",
    "/v1/token/release",
    "/v1/delegate",
    "/v1/revoke",
    "/v1/admin/auth",
    "/v1/admin/launch-tokens",
    "/v1/app/launch-tokens",
    "/v1/app/auth",
]
GETS = ["/v1/challenge", "/v1/health", "/v1/metrics", "/v1/audit/events"]
# §1.4 and §5: every route with its Allow list.
ALLOW = {
    **dict.fromkeys(POSTS, "POST"),
    **dict.fromkeys(GETS, "GET, HEAD"),
    "/v1/admin/apps": "GET, HEAD, POST",
    "/v1/admin/apps/app-x-000000": "DELETE, GET, HEAD, PUT",
}
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]


def test_health_has_the_contract_version(broker: Broker) -> None:
    assert ok(broker.get("/v1/health"))["version"] == "2.0.0"


@pytest.mark.parametrize("call", ["health", "challenge", "validate", "events", "launch", "apps"])
def test_success_is_one_compact_json_line(broker: Broker, call: str) -> None:
    reply = {
        "health": lambda: broker.get("/v1/health"),
        "challenge": lambda: broker.get("/v1/challenge"),
        "validate": lambda: broker.post("/v1/token/validate", {"token": broker.admin}),
        "events": lambda: broker.get("/v1/audit/events?limit=3", token=broker.admin),
        "launch": lambda: broker.launch(),
        "apps": lambda: broker.get("/v1/admin/apps", token=broker.admin),
    }[call]()
    body = ok(reply, 201 if call == "launch" else 200)
    assert reply.header("Content-Type") == JSON
    assert reply.body == compact(body) + b"\n"


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "nonsense", "application/json; charset=utf-16"])
@pytest.mark.parametrize("path", ["/v1/token/validate", "/v1/admin/auth", "/v1/admin/launch-tokens"])
def test_request_content_type_is_never_inspected(broker: Broker, path: str, content_type: str | None) -> None:
    bodies = {
        "/v1/token/validate": ({"token": "x"}, 200),
        "/v1/admin/auth": ({"secret": "not-the-secret-but-long-enough"}, 401),
        "/v1/admin/launch-tokens": ({"agent_name": "a", "allowed_scope": ["read:data:x"]}, 201),
    }
    body, status = bodies[path]
    headers = {"Content-Type": content_type} if content_type else {}
    headers["Authorization"] = "Bearer " + broker.admin
    reply = broker.elsewhere().send("POST", path, json.dumps(body).encode(), headers)
    assert reply.status == status, reply


@pytest.mark.parametrize("path", [*GETS, "/v1/admin/apps", "APP", "UNKNOWN-APP"])
@pytest.mark.parametrize("with_token", [True, False])
def test_head_is_answered_wherever_get_is(broker: Broker, path: str, with_token: bool) -> None:
    if path == "APP":
        path = "/v1/admin/apps/" + broker.app().id
    if path == "UNKNOWN-APP":
        path = "/v1/admin/apps/app-none-000000"
    token = broker.admin if with_token else None
    got, head = broker.get(path, token=token), broker.call("HEAD", path, token=token)
    assert head.status == got.status
    assert head.header("Content-Type") == got.header("Content-Type")


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("//v1/health", "/v1/health"),
        ("/v1//health", "/v1/health"),
        ("/v1/./health", "/v1/health"),
        ("/v1/x/../health", "/v1/health"),
        ("/../v1/health", "/v1/health"),
        ("//nowhere", "/nowhere"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_unclean_paths_are_redirected_to_the_clean_path(broker: Broker, method: str, path: str, clean: str) -> None:
    reply = broker.call(method, path)
    assert reply.status in (301, 307), reply
    assert reply.header("Location") == clean


def test_a_trailing_slash_is_another_path(broker: Broker) -> None:
    for path in ("/v1/health/", "/v1/admin/apps/", "/v1/token/validate/"):
        expect(broker.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/%68ealth", 200),
        ("/%761/health", 200),
        ("/v1%2Fhealth", 404),
        ("/v1%2fhealth", 404),
        ("/v1/health%2F", 404),
        ("/v1/heal%74h?x=%2F", 200),
    ],
)
def test_paths_are_decoded_but_encoded_slashes_do_not_match(broker: Broker, path: str, status: int) -> None:
    assert broker.get(path).status == status


def test_a_broken_percent_escape_is_refused(broker: Broker) -> None:
    reply = broker.get("/v1/%zz")
    assert reply.status in (400, 404), reply


def test_every_route_is_under_v1(broker: Broker) -> None:
    for path in ("/health", "/challenge", "/token/validate", "/", "/v2/health", "/v1", "/V1/health", "/v1/Health"):
        expect(broker.get(path), 404, "not_found")


# -- 1.1 request id ------------------------------------------------------------------------------------------


def every_status(broker: Broker, headers: dict[str, str]) -> dict[int, Reply]:
    """One reply of each kind, with these request headers."""
    bearer = {**headers, "Authorization": "Bearer " + broker.admin}
    agent = broker.agent()
    limited = broker.elsewhere()
    for _ in range(11):
        last = limited.send("POST", "/v1/admin/auth", b"{", headers)
    replies = [
        broker.send("GET", "/v1/health", None, headers),
        broker.send("POST", "/v1/admin/launch-tokens", b'{"agent_name":"a","allowed_scope":["a:b:c"]}', bearer),
        broker.send("POST", "/v1/token/release", None, {**headers, "Authorization": "Bearer " + agent.token}),
        broker.send("GET", "/v1//health", None, headers),
        broker.send("POST", "/v1/token/validate", b"{", headers),
        broker.send("POST", "/v1/revoke", b"{}", headers),
        broker.send("POST", "/v1/app/launch-tokens", b"{}", bearer),
        broker.send("GET", "/nowhere", None, headers),
        broker.send("DELETE", "/v1/health", None, headers),
        broker.send("POST", "/v1/token/validate", b" " * (MIB + 1), headers),
        last,
    ]
    return {307 if reply.status == 301 else reply.status: reply for reply in replies}


EVERY_STATUS = {200, 201, 204, 307, 400, 401, 403, 404, 405, 413, 429}


def test_inbound_request_id_is_echoed_on_every_kind_of_response(broker: Broker) -> None:
    replies = every_status(broker, {"X-Request-ID": "Case-1.1_x"})
    assert set(replies) == EVERY_STATUS
    for reply in replies.values():
        assert reply.header("X-Request-ID") == "Case-1.1_x", reply
        if reply.status >= 400:
            assert reply.json["request_id"] == "Case-1.1_x"


def test_without_a_request_id_each_response_gets_a_new_one(broker: Broker) -> None:
    replies = every_status(broker, {})
    assert set(replies) == EVERY_STATUS
    ids = [reply.header("X-Request-ID") or "" for reply in replies.values()]
    assert all(re.fullmatch("[0-9a-f]{16}", request_id) for request_id in ids)
    assert len(set(ids)) == len(ids)


def test_an_empty_request_id_counts_as_none(broker: Broker) -> None:
    assert re.fullmatch("[0-9a-f]{16}", broker.send("GET", "/v1/health", None, {"X-Request-ID": ""}).header("X-Request-ID") or "")


@pytest.mark.parametrize("inbound", ["x", "A" * 128, "..", "0-9_a.Z"])
def test_a_safe_request_id_is_kept(broker: Broker, inbound: str) -> None:
    assert broker.send("GET", "/v1/health", None, {"X-Request-ID": inbound}).header("X-Request-ID") == inbound


@pytest.mark.parametrize("inbound", ["A" * 129, "a b", "a/b", "a\tb", "é", '"x"', "a;b", "<script>"])
def test_an_unsafe_request_id_is_replaced(broker: Broker, inbound: str) -> None:
    reply = broker.send("GET", "/nowhere", None, {"X-Request-ID": inbound})
    assert re.fullmatch("[0-9a-f]{16}", reply.json["request_id"])


# -- 1.2 security headers: wire.py holds them on every reply of this suite ---------------------------------------


def test_every_response_has_security_headers_and_no_hsts(broker: Broker) -> None:
    replies = every_status(broker, {})
    assert set(replies) == EVERY_STATUS
    for reply in replies.values():
        assert (reply.header("X-Content-Type-Options"), reply.header("Cache-Control"), reply.header("X-Frame-Options")) == ("nosniff", "no-store", "DENY")
        assert reply.header("Strict-Transport-Security") is None


def test_there_is_no_cors(broker: Broker) -> None:
    asked = {"Origin": "https://example.com", "Access-Control-Request-Method": "POST"}
    reply = broker.send("OPTIONS", "/v1/token/validate", None, asked)
    expect(reply, 405, "method_not_allowed")
    assert not [name for name in reply.headers if name.lower().startswith("access-control")]


# -- 1.3 body limit ------------------------------------------------------------------------------------------------


def test_a_body_of_exactly_one_mebibyte_is_read(broker: Broker) -> None:
    body = b'{"token":"x"}'
    assert broker.post("/v1/token/validate", raw=body + b" " * (MIB - len(body))).status == 200


LIMITED = [
    ("POST", "/v1/token/validate"),
    ("POST", "/v1/register"),
    ("POST", "/v1/revoke"),
    ("POST", "/v1/token/renew"),
    ("POST", "/v1/admin/auth"),
    ("POST", "/v1/app/auth"),
    ("GET", "/v1/health"),
    ("GET", "/v1/audit/events"),
    ("DELETE", "/v1/health"),
    ("PUT", "/nowhere"),
]


@pytest.mark.parametrize(("method", "path"), LIMITED)
def test_one_byte_more_is_too_large_before_routing_and_auth(broker: Broker, method: str, path: str) -> None:
    reply = broker.elsewhere().call(method, path, raw=b" " * (MIB + 1))
    expect(reply, 413, "payload_too_large", "request body must not exceed 1 MB")
    assert reply.json["title"] == "Request Entity Too Large"
    assert reply.json["instance"] == path


def chunked(body: bytes, size: int = 65536) -> bytes:
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def chunked_request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def test_chunked_bodies_are_counted_decoded(broker: Broker) -> None:
    body = b'{"token":"x"}'
    fits = chunked(body + b" " * (MIB - len(body)), 1000)
    assert len(fits) > MIB
    assert parse(broker.raw(chunked_request("/v1/token/validate", fits)))[0].status == 200
    too_large = chunked(body + b" " * (MIB - len(body) + 1))
    reply = parse(broker.raw(chunked_request("/v1/token/validate", too_large)), target="/v1/token/validate")[0]
    expect(reply, 413, "payload_too_large", "request body must not exceed 1 MB")


def test_a_body_announced_too_large_is_refused_unread(broker: Broker) -> None:
    with broker.connect() as sock:
        sock.sendall(b"POST /v1/revoke HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\nConnection: close\r\n\r\n")
        reply = parse(read_all(sock))[0]
    expect(reply, 413, "payload_too_large")


@pytest.mark.parametrize("broken", [b"zz\r\nnot a chunk\r\n0\r\n\r\n", b"5\r\nabc", b"-1\r\n\r\n"])
def test_a_body_that_cannot_be_read_is_a_bad_request(broker: Broker, broken: bytes) -> None:
    with broker.connect() as sock:
        sock.sendall(chunked_request("/v1/token/validate", broken))
        sock.shutdown(socket.SHUT_WR)
        answer = read_all(sock)
    # A client that is gone in the middle may get no answer at all; what it gets is this one.
    if broken.startswith(b"zz") or answer:
        expect(parse(answer)[0], 400, "invalid_request", "failed to read request body")


# -- 1.4 unknown routes and methods --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_path_is_a_problem_whatever_the_method(broker: Broker, method: str) -> None:
    reply = broker.call(method, "/v1/nowhere")
    assert reply.status == 404
    assert reply.header("Content-Type") == PROBLEM
    if method != "HEAD":
        assert reply.json["error_code"] == "not_found"


@pytest.mark.parametrize("path", ALLOW)
def test_a_wrong_method_is_a_problem_with_the_allow_list(broker: Broker, path: str) -> None:
    for method in METHODS:
        if method in ALLOW[path].split(", "):
            continue
        reply = broker.call(method, path)
        assert reply.status == 405, reply
        assert reply.header("Allow") == ALLOW[path]
        assert reply.header("Content-Type") == PROBLEM
        if method != "HEAD":
            assert reply.json["error_code"] == "method_not_allowed"


def test_unknown_paths_and_methods_need_no_login_and_no_audit(broker: Broker) -> None:
    def strike() -> None:
        for path in ("/v1/nowhere", "/v1/admin/apps/", "/v1/admin/apps/x/y"):
            assert broker.get(path, headers={"Authorization": "nonsense"}).status == 404
        for path in ("/v1/revoke", "/v1/token/renew"):
            assert broker.get(path, headers={"Authorization": "nonsense"}).status == 405

    _, events = broker.during(strike)
    assert events == []


# -- broken HTTP ------------------------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(broker: Broker) -> None:
    requests = b""
    for number in range(20):
        path = "/v1/health" if number % 2 else "/v1/nowhere"
        requests += f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Request-ID: p{number}\r\n".encode()
        requests += b"Connection: close\r\n\r\n" if number == 19 else b"\r\n"
    replies = parse(broker.raw(requests), method="GET")
    assert [reply.header("X-Request-ID") for reply in replies] == [f"p{number}" for number in range(20)]
    assert [reply.status for reply in replies] == [404, 200] * 10


def test_http_1_0_is_served(broker: Broker) -> None:
    replies = parse(broker.raw(b"GET /v1/health HTTP/1.0\r\n\r\n"), method="GET")
    assert replies[0].status == 200


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00", b"NONSENSE\r\n\r\n", b"GET /v1/health\r\n\r\n", b"GET  HTTP/1.1\r\n\r\n", b"\x00" * 64 + b"\r\n\r\n"])
def test_what_is_not_http_is_dropped_and_the_broker_lives_on(broker: Broker, garbage: bytes) -> None:
    with broker.connect() as sock:
        sock.sendall(garbage)
        sock.shutdown(socket.SHUT_WR)
        answer = read_all(sock)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4") or answer.startswith(b"HTTP/1.0 4"), answer[:200]
    assert broker.get("/v1/health").status == 200


def test_conflicting_lengths_are_not_smuggled(broker: Broker) -> None:
    head = b"POST /v1/token/validate HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"
    answer = broker.raw(head + b"{}   GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b" 200 " not in answer.split(b"\r\n")[0]
    both = b"POST /v1/token/validate HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\nGET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n"
    assert broker.raw(both).count(b'"uptime"') == 0


def test_header_blocks_of_up_to_a_mebibyte_are_served(broker: Broker) -> None:
    def answer(size: int) -> bytes:
        line = b"X-Pad: " + b"a" * 8000 + b"\r\n"
        head = b"GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + line * (size // len(line)) + b"\r\n"
        return broker.raw(head)

    assert answer(64 * 1024).startswith(b"HTTP/1.1 200 ")
    assert answer(700 * 1024).startswith(b"HTTP/1.1 200 ")
    refused = answer(2 * MIB)
    assert refused == b"" or refused.startswith(b"HTTP/1.1 4"), refused[:100]
    assert broker.get("/v1/health").status == 200


def test_many_header_lines_are_served(broker: Broker) -> None:
    assert broker.send("GET", "/v1/health", None, {f"X-Line-{number}": "x" for number in range(200)}).status == 200
    many = b"".join(b"X-Line-%d: x\r\n" % number for number in range(50_000))
    refused = broker.raw(b"GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + many + b"\r\n")
    assert refused == b"" or refused.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200 ")), refused[:100]
    assert broker.get("/v1/health").status == 200


def test_ids_in_a_path_are_one_segment(broker: Broker) -> None:
    app = broker.app(name="seg" + unique())
    expect(broker.get(f"/v1/admin/apps/{app.id}/x", token=broker.admin), 404, "not_found")
    expect(broker.get(f"/v1/admin/apps/{app.id}%2Fx", token=broker.admin), 404, "not_found")
    escaped = app.id.replace("-", "%2D")
    assert ok(broker.get(f"/v1/admin/apps/{escaped}", token=broker.admin))["app_id"] == app.id


# -- timeouts: opened first, looked at last ----------------------------------------------------------------------------


@pytest.mark.last
def test_a_header_that_dribbles_is_cut_off_after_five_seconds(idlers: dict[str, socket.socket]) -> None:
    sock = idlers["header"]
    answer = read_all(sock)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]


@pytest.mark.last
def test_a_body_that_dribbles_is_cut_off_after_fifteen_seconds(idlers: dict[str, socket.socket]) -> None:
    answer = read_all(idlers["body"])
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer[:200]
