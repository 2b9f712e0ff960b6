"""docs/wire-contract.md §20 and §20.1: most of it is tested where its endpoint is; the rest is here."""

from __future__ import annotations

import http.client
import json
import socket

import pytest

from blackbox.driver import Broker, Start, at_once, details, types, unique
from blackbox.jose import claims_of
from blackbox.wire import Reply, expect, ok, parse, read_all
from harness import until
from stores import STORE

MIB = 1_048_576


# -- W18, W21, W36: what can't be committed is not answered as done -------------------------------------------------


def test_a_failed_commit_is_503_and_changes_nothing(start: Start) -> None:
    broker = start()
    agent, other = broker.agent(), broker.agent()
    admin, launch = broker.admin, broker.launch_token()
    body = broker.registration(launch)
    before = broker.count()
    with STORE.locked(broker.process.folder):

        def ask(number: int) -> Reply:
            return [
                lambda: broker.renew(agent.token),
                lambda: broker.release(other.token),
                lambda: broker.post("/v1/revoke", {"level": "agent", "target": agent.id}, token=admin),
                lambda: broker.post("/v1/register", body),
                lambda: broker.post("/v1/admin/launch-tokens", {"agent_name": "a", "allowed_scope": ["a:b:c"]}, token=admin),
                lambda: broker.delegate(agent.token, other.id, ["read:data:x"]),
            ][number]()

        for reply in at_once(6, ask):
            expect(reply, 503, "unavailable")
            assert reply.header("Retry-After") == "1"
        # Reads of tokens need no store.
        assert broker.validate(agent.token)["valid"] is True
    until(lambda: broker.get("/readyz").status == 200)
    assert broker.stands(agent.token) and broker.stands(other.token)
    ok(broker.post("/v1/register", body))
    ok(broker.renew(agent.token))
    done = {"agent_registered", "token_issued", "token_renewed", "token_released", "token_revoked", "delegation_created", "launch_token_issued"}
    happened = [kind for kind in types(broker.audit(offset=before, limit=1000)["events"]) if kind in done]
    assert happened == ["agent_registered", "token_issued", "token_renewed"]


def test_a_store_that_fails_is_unready_and_alive(start: Start) -> None:
    broker = start()
    with STORE.locked(broker.process.folder):
        assert broker.post("/v1/admin/launch-tokens", {"agent_name": "a", "allowed_scope": ["a:b:c"]}, token=broker.forge.token(sub="admin", scope=["admin:launch-tokens:*"])).status == 503
        ready = broker.get("/readyz")
        assert ready.status == 503 and b"store" in ready.body
        assert broker.get("/livez").status == 200
        assert broker.get("/v1/health").status == 200
    until(lambda: broker.get("/readyz").status == 200)


# -- W13, W14: the trail says who and why ----------------------------------------------------------------------------


def test_an_unknown_delegate_is_audited(broker: Broker) -> None:
    reply, events = broker.during(lambda: broker.delegate(broker.agent().token, "spiffe://x/nobody", ["read:data:x"]))
    assert reply.status == 404
    assert [event for event in events if event.get("outcome") == "denied" and event["detail"]]


@pytest.mark.parametrize("what", ["revoke", "app"])
def test_the_trail_names_the_actor(broker: Broker, what: str) -> None:
    _, events = broker.during(lambda: broker.revoke("token", unique()) if what == "revoke" else broker.app())
    assert "admin" in json.dumps([events[-1].get("actor"), events[-1]["detail"]])


# -- W11: what strangers can make the broker keep ---------------------------------------------------------------------


def test_many_idle_connections_delay_no_client(broker: Broker) -> None:
    idle = [broker.connect() for _ in range(300)]
    try:
        assert broker.get("/v1/health").status == 200
        assert broker.agent()
    finally:
        for sock in idle:
            sock.close()


def test_many_unfinished_requests_delay_no_client(broker: Broker) -> None:
    slow = []
    try:
        for _ in range(100):
            sock = broker.connect()
            sock.sendall(b"POST /v1/register HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")
            slow.append(sock)
        assert broker.get("/v1/health").status == 200
        assert broker.agent()
    finally:
        for sock in slow:
            sock.close()


def test_challenges_and_unknown_names_leave_no_metric(broker: Broker) -> None:
    before = len(broker.metrics())
    for number in range(50):
        broker.nonce()
        broker.get(f"/v1/nowhere/{number}")
        broker.elsewhere().post("/v1/app/auth", {"client_id": f"nobody-{number}"})
    assert len(broker.metrics()) - before < 60


# -- hostile bytes (issue 4) --------------------------------------------------------------------------------------------

STRANGE = ["\x00", "\u202e\u2066", "\ufeff", "a\u0301", "\U000e0001", "‮evil", "\r\nX-Injected: 1", "<script>alert(1)</script>", "${jndi:ldap://x}", "%s%n", "'; DROP TABLE audit_events; --", "a" * 8_000]


def cut(text: str) -> str:
    """The end of a text that was cut."""
    return f"… ({len(text.encode())} bytes)"


@pytest.mark.parametrize("text", STRANGE, ids=range(len(STRANGE)))
def test_strange_text_goes_in_and_comes_out_as_it_is(broker: Broker, text: str) -> None:
    reply, events = broker.during(lambda: broker.launch([f"read:data:{text}"], agent_name=text))
    assert ok(reply, 201)["policy"]["allowed_scope"] == [f"read:data:{text}"]
    assert types(events) == ["launch_token_issued"]
    assert reply.header("X-Injected") is None
    assert ok(broker.post("/v1/revoke", {"level": "task", "target": text}, token=broker.admin))["target"] == text
    told = broker.audit(agent_id=text)["events"][-1]["agent_id"]
    # An event is bounded: what is too long for it is cut, and says how long it was.
    assert told == text or (len(text) > 800 and told == f"{text[:len(told) - len(cut(text))]}{cut(text)}" and len(told.encode()) <= 800)
    assert broker.validate(text) == {"valid": False, "error": "token is invalid or expired"}


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "Forwarded"])
def test_headers_that_other_servers_obey_do_nothing(broker: Broker, header: str) -> None:
    reply = broker.get("/v1/health", headers={header: "/v1/admin/apps" if "URL" in header else "DELETE"})
    assert ok(reply)["status"] == "ok"


def test_expect_continue_is_answered_before_the_body(broker: Broker) -> None:
    with broker.connect() as sock:
        sock.sendall(b"POST /v1/token/validate HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 13\r\nConnection: close\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b'{"token":"x"}')
        assert parse(read_all(sock))[0].status == 200
    with broker.connect() as sock:
        head = f"POST /v1/token/validate HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {MIB + 1}\r\nConnection: close\r\n\r\n"
        sock.sendall(head.encode())
        assert read_all(sock).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_leaves_early_hurts_no_other(broker: Broker) -> None:
    for cut in (b"POST /v1/regi", b"POST /v1/register HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n"):
        for _ in range(20):
            with broker.connect() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                sock.sendall(cut)
    assert broker.get("/v1/health").status == 200


def test_one_connection_serves_many_requests(broker: Broker) -> None:
    connection = http.client.HTTPConnection(*broker.address, timeout=10)
    ids = set()
    for number in range(50):
        connection.request("GET", "/v1/health" if number % 2 else "/v1/nowhere")
        reply = connection.getresponse()
        reply.read()
        ids.add(reply.headers["X-Request-ID"])
    connection.close()
    assert len(ids) == 50


# -- W2, W37: side by side ------------------------------------------------------------------------------------------------


def test_whole_lives_of_agents_side_by_side(start: Start) -> None:
    """Nothing is refused, lost or mixed up, and the trail holds each step once."""
    broker = start()
    launch = broker.launch_token(["read:data:*"], single_use=False, ttl=600)

    def live(number: int) -> str:
        reply = ok(broker.register(launch, task_id=f"life-{number}", requested_scope=[f"read:data:{number}"]))
        token = reply["access_token"]
        for _ in range(3):
            token = broker.renewed(token)
        child = broker.delegated(token, reply["agent_id"], [f"read:data:{number}"])
        assert claims_of(child)["scope"] == [f"read:data:{number}"]
        assert broker.release(child).status == 204
        assert broker.release(token).status == 204
        return str(reply["agent_id"])

    ids = at_once(24, live)
    assert len(set(ids)) == 24
    for number, agent_id in enumerate(ids):
        events = broker.events(task_id=f"life-{number}")
        assert types(events) == ["agent_registered", "token_issued", "token_renewed", "token_renewed", "token_renewed", "delegation_created", "token_released", "token_released"]
        assert {event["agent_id"] for event in events} == {agent_id}


def test_readers_are_served_while_writers_write(start: Start) -> None:
    broker = start()
    admin = broker.admin

    def use(number: int) -> set[int]:
        if number % 2:
            return {broker.launch(token=admin).status for _ in range(10)}
        return {broker.get("/v1/audit/events?limit=5", token=admin).status for _ in range(10)}

    assert set.union(*at_once(16, use)) == {200, 201}


# -- W7: no way for an agent to an operator's authority ----------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["admin:revoke:*", "admin:audit:*", "admin:launch-tokens:*", "app:launch-tokens:*"])
def test_no_flow_gives_an_agent_a_reserved_scope(broker: Broker, scope: str) -> None:
    expect(broker.launch([scope]), 403, "forbidden")
    expect(broker.launch(["read:data:*", scope]), 403, "forbidden")
    launch = broker.launch_token(["*:*:*"])
    expect(broker.register(launch, requested_scope=[scope]), 403, "scope_violation")
    agent = broker.agent(["*:*:*"])
    expect(broker.delegate(agent.token, agent.id, [scope]), 403, "scope_violation")


def test_secrets_of_every_kind_stay_out_of_the_store(start: Start) -> None:
    """Issue 4: the canary, seen from outside: the folder after a stop."""
    broker = start()
    launch, app = broker.launch_token(), broker.app()
    body = broker.registration(launch)
    agent = ok(broker.post("/v1/register", body))["access_token"]
    token = broker.app_token(app)
    broker.post("/v1/token/renew", token="canary-bearer-of-a-stranger")
    secrets = [launch, app.client_secret, agent, token, broker.admin, broker.process.secret, body["signature"], "canary-bearer-of-a-stranger"]
    trail = details(broker.events())
    broker.process.stop()
    others = [path for path in broker.process.folder.iterdir() if path.is_file() and path.name != "signing.key"]
    content = STORE.content(broker.process.folder) + b"".join(path.read_bytes() for path in others)
    assert app.client_id.encode() in content
    for secret in secrets:
        assert secret not in trail
        assert secret.encode() not in content and secret.encode().hex().encode() not in content
