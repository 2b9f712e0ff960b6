"""A byte-exact HTTP client for the black-box cases.

Every reply that passes through it is held to what the contract promises for *every* response (§1 and §2), so
each case checks those promises too, whatever else it is about.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
from dataclasses import dataclass, field
from typing import Any

JSON = "application/json"
PROBLEM = "application/problem+json"
TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
PROBLEM_KEYS = ["type", "title", "status", "detail", "instance", "error_code", "request_id", "hint"]
SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
NEW_REQUEST_ID = re.compile(r"[0-9a-f]{16}\Z")


@dataclass
class Reply:
    """One response, with the request that it answers."""

    method: str
    target: str
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    sent: dict[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"{self.method} {self.target} -> {self.status} {self.body[:400]!r}"


def compact(value: Any) -> bytes:
    """The compact JSON of a parsed object, keys in their order, as the contract's encoder writes it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for raw, escaped in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029")):
        text = text.replace(raw, escaped)
    return text.encode()


def hold_every_promise(reply: Reply) -> None:
    """What §1.1, §1.2 and §2 promise for every response."""
    assert reply.header("X-Content-Type-Options") == "nosniff", reply
    kept = reply.target.startswith("/.well-known/") and reply.status in (200, 304)
    assert (reply.header("Cache-Control") == "no-store") != kept, reply
    assert reply.header("X-Frame-Options") == "DENY", reply
    request_id = reply.header("X-Request-ID")
    assert request_id, f"no X-Request-ID: {reply}"
    inbound = reply.sent.get("X-Request-ID", "")
    if SAFE_REQUEST_ID.match(inbound):
        assert request_id == inbound, reply
    else:
        assert NEW_REQUEST_ID.match(request_id), f"{request_id!r}: {reply}"
    assert not [name for name in reply.headers if name.lower().startswith("access-control-")], reply
    if reply.method == "HEAD" or reply.status == 204:
        assert reply.body == b"", reply
    elif reply.status >= 400 and reply.target != "/readyz":  # a probe's own JSON
        hold_problem(reply, request_id)
    elif 200 <= reply.status < 300 and reply.header("Content-Type") == JSON:
        assert reply.body.endswith(b"}\n") and reply.body.startswith(b"{"), reply
        assert reply.body[:-1].count(b"\n") == 0, reply


def hold_problem(reply: Reply, request_id: str) -> None:
    """The error object of §2."""
    assert reply.header("Content-Type") == PROBLEM, f"{reply.header('Content-Type')}: {reply}"
    problem = reply.json
    keys = list(problem)
    assert keys == [key for key in PROBLEM_KEYS if key in problem], f"key order {keys}: {reply}"
    assert set(PROBLEM_KEYS) - {"hint"} <= set(keys), reply
    assert problem["type"] == "urn:agentwrit:error:" + problem["error_code"], reply
    assert problem["status"] == reply.status, reply
    assert problem["title"] == TITLES[reply.status], reply
    assert problem["request_id"] == request_id, reply
    assert problem["instance"].split("?")[0] == problem["instance"], reply
    assert isinstance(problem["detail"], str) and problem["detail"], reply
    assert isinstance(problem.get("hint", "x"), str), reply


class Client:
    """Sends one request per connection, from a loopback address of the caller's choice."""

    def __init__(self, address: tuple[str, int], source: str | None = None) -> None:
        self.address = address
        self.source = source

    def connect(self, timeout: float = 20) -> socket.socket:
        source = (self.source, 0) if self.source else None
        return socket.create_connection(self.address, timeout=timeout, source_address=source)

    def send(self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
        """One request exactly as given; http.client adds Host and, for a body, Content-Length only."""
        sent = dict(headers or {})
        connection = http.client.HTTPConnection(*self.address, timeout=20)
        connection.sock = self.connect()
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in sent.items():
                connection.putheader(name, value)
            if body is not None and not {"content-length", "transfer-encoding"} & {name.lower() for name in sent}:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            reply = Reply(method, target, answer.status, answer.headers, answer.read(), sent)
        finally:
            connection.close()
        hold_every_promise(reply)
        return reply

    def call(
        self,
        method: str,
        target: str,
        json_body: Any = None,
        *,
        raw: bytes | None = None,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """A JSON or raw body, and a bearer token."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        body = raw
        if json_body is not None:
            body = json.dumps(json_body).encode()
            sent.setdefault("Content-Type", JSON)
        return self.send(method, target, body, sent)

    def get(self, target: str, **options: Any) -> Reply:
        return self.call("GET", target, **options)

    def post(self, target: str, json_body: Any = None, **options: Any) -> Reply:
        return self.call("POST", target, json_body, **options)

    def put(self, target: str, json_body: Any = None, **options: Any) -> Reply:
        return self.call("PUT", target, json_body, **options)

    def delete(self, target: str, **options: Any) -> Reply:
        return self.call("DELETE", target, **options)

    def raw(self, data: bytes, timeout: float = 20) -> bytes:
        """All bytes that come back until the server closes."""
        with self.connect(timeout) as sock:
            try:
                sock.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it may have answered and closed before it read everything
            return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    received = bytearray()
    while True:
        try:
            chunk = sock.recv(65536)
        except ConnectionResetError:
            break
        if not chunk:
            break
        received += chunk
    return bytes(received)


class _Bytes:
    """What http.client needs of a socket to parse a response out of bytes."""

    def __init__(self, data: bytes) -> None:
        self.stream = io.BytesIO(data)

    def makefile(self, *_args: Any, **_kwargs: Any) -> io.BytesIO:
        return self.stream


def parse(data: bytes, method: str = "POST", target: str = "") -> list[Reply]:
    """The responses in a byte stream, one after the other."""
    stream = io.BytesIO(data)
    replies = []
    while stream.tell() < len(data):
        answer = http.client.HTTPResponse(_Bytes(b""), method=method)  # type: ignore[arg-type]
        answer.fp = stream  # type: ignore[assignment]
        answer.begin()
        answer.fp = None  # else its end of life closes the stream
        length = answer.headers.get("Content-Length")
        body = stream.read(int(length)) if length is not None else stream.read()
        replies.append(Reply(method, target, answer.status, answer.headers, body))
    return replies


def expect(reply: Reply, status: int, code: str, detail: str | None = None, *, contains: str | None = None) -> dict[str, Any]:
    """The reply is this problem; `detail` is compared byte for byte."""
    assert reply.status == status, reply
    problem = reply.json
    assert problem["error_code"] == code, reply
    if detail is not None:
        assert problem["detail"] == detail, reply
    if contains is not None:
        assert contains in problem["detail"], reply
    return problem


def ok(reply: Reply, status: int = 200) -> dict[str, Any]:
    """The reply is this success."""
    assert reply.status == status, reply
    assert reply.header("Content-Type") == JSON, reply
    body: dict[str, Any] = reply.json
    assert reply.body == compact(body) + b"\n", reply
    assert "request_id" not in body, reply
    return body
