"""docs/wire-contract.md §8: registration, step by step, with what each step leaves burned."""

from __future__ import annotations

import base64
import re
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from blackbox.driver import Broker, Start, at_once, details, types
from blackbox.jose import claims_of, raw_public
from blackbox.wire import Reply, expect, ok

STRINGS = ["launch_token", "nonce", "public_key", "signature", "orch_id", "task_id"]
NOT_FOUND = "launch token not found"
NO_NONCE = "nonce not found or expired"


def send(broker: Broker, body: dict[str, Any]) -> Reply:
    return broker.post("/v1/register", body)


def test_a_registration(broker: Broker) -> None:
    reply = broker.register(broker.launch_token(["read:data:*", "write:data:*"]), requested_scope=["write:data:b", "read:data:a", "write:data:b"], orch_id="orch.1", task_id="Task_2-x")
    body = ok(reply)
    assert list(body) == ["agent_id", "access_token", "expires_in"]
    assert re.fullmatch(r"spiffe://agentwrit\.local/agent/orch\.1/Task_2-x/[0-9a-f]{16}", body["agent_id"])
    assert body["expires_in"] == 300
    claims = claims_of(body["access_token"])
    assert claims["sub"] == body["agent_id"]
    assert claims["scope"] == ["write:data:b", "read:data:a", "write:data:b"], "verbatim, in order"
    assert (claims["orch_id"], claims["task_id"]) == ("orch.1", "Task_2-x")
    assert claims["exp"] - claims["iat"] == 300


def test_a_registration_is_audited_in_order(broker: Broker) -> None:
    body = broker.registration(orch_id="orch-audit", task_id="task-audit")
    reply, events = broker.during(lambda: send(broker, body))
    agent_id = ok(reply)["agent_id"]
    assert types(events) == ["agent_registered", "token_issued"]
    for event in events:
        assert (event["agent_id"], event["task_id"], event["orch_id"], event["outcome"]) == (agent_id, "task-audit", "orch-audit", "success")
    for secret in ("launch_token", "nonce", "signature"):
        assert body[secret] not in details(events)
    assert reply.json["access_token"] not in details(events)


def test_the_app_of_the_launch_token_is_in_the_trail(broker: Broker) -> None:
    app = broker.app()
    launch = ok(broker.launch(token=broker.app_token(app), path="/v1/app/launch-tokens"), 201)["launch_token"]
    reply, events = broker.during(lambda: broker.register(launch))
    ok(reply)
    assert app.id in details([event for event in events if event["event_type"] == "agent_registered"])


def test_a_registration_is_counted(broker: Broker) -> None:
    body = broker.registration(broker.launch_token(["count:first:*", "count:second:*"]), requested_scope=["count:second:x", "count:first:x"])
    moved = broker.moved(lambda: ok(send(broker, body)))
    assert moved['registrations_total{status="success"}'] == 1
    assert moved['tokens_issued_total{scope="count:second:x"}'] == 1


@pytest.mark.parametrize("name", STRINGS)
@pytest.mark.parametrize("value", ["", None])
def test_each_string_is_required(broker: Broker, name: str, value: str | None) -> None:
    """Nothing is burned: the same body registers once it is whole."""
    whole = broker.registration()
    body = {**whole, name: value} if value is not None else {key: item for key, item in whole.items() if key != name}
    moved = broker.moved(lambda: expect(send(broker, body), 400, "invalid_request"))
    assert send(broker, body).json["detail"].startswith("missing required field")
    assert moved['registrations_total{status="failure"}'] == 1
    ok(send(broker, whole))


@pytest.mark.parametrize("value", [[], None])
def test_the_scope_list_is_required(broker: Broker, value: list | None) -> None:
    whole = broker.registration()
    problem = expect(send(broker, {**whole, "requested_scope": value}), 400, "invalid_request")
    assert problem["detail"].startswith("missing required field")
    ok(send(broker, whole))


def test_bad_json_is_not_counted(broker: Broker) -> None:
    moved = broker.moved(lambda: expect(broker.post("/v1/register", raw=b"{"), 400, "invalid_request", "malformed JSON body"))
    assert not [name for name in moved if name.startswith("registrations_total")]


# -- step 3: the launch token ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("launch", ["x", "0" * 64, "é", " ", "a" * 10_000, "' OR 1=1 --"])
def test_an_unknown_launch_token(broker: Broker, launch: str) -> None:
    moved = broker.moved(lambda: expect(broker.register(launch), 401, "unauthorized", contains=NOT_FOUND))
    assert moved['registrations_total{status="failure"}'] == 1


def test_a_launch_token_is_compared_exactly(broker: Broker) -> None:
    launch = broker.launch_token()
    for other in (launch.upper(), launch + " ", launch[:-1], launch + "0", "launch token: " + launch):
        if other != launch:
            expect(broker.register(other), 401, "unauthorized", contains=NOT_FOUND)
    ok(broker.register(launch))


def test_a_consumed_launch_token(broker: Broker) -> None:
    launch = broker.launch_token()
    ok(broker.register(launch))
    expect(broker.register(launch), 401, "unauthorized", contains="launch token already consumed")


@pytest.mark.real_time("a launch token lives one second at least")
def test_an_expired_launch_token_uses_up_nothing_else(broker: Broker) -> None:
    launch = broker.launch_token(ttl=1)
    many = broker.launch_token(ttl=1, single_use=False)
    used = broker.launch_token(ttl=1)
    body = broker.registration(launch)
    ok(broker.register(used))
    time.sleep(1.05)
    for late in (launch, many):
        expect(broker.register(late), 401, "unauthorized", contains="launch token expired")
    # Known, then not expired, then not consumed: expiry is asked first.
    expect(broker.register(used), 401, "unauthorized", contains="launch token expired")
    expect(send(broker, body), 401, "unauthorized", contains="launch token expired")
    ok(send(broker, {**body, "launch_token": broker.launch_token()}))


def test_a_failed_launch_token_uses_up_no_nonce(broker: Broker) -> None:
    body = broker.registration("0" * 64)
    expect(send(broker, body), 401, "unauthorized", contains=NOT_FOUND)
    ok(send(broker, {**body, "launch_token": broker.launch_token()}))


# -- step 4: scope ---------------------------------------------------------------------------------------------------


def test_a_scope_too_wide_is_audited_and_uses_up_nothing(broker: Broker) -> None:
    body = broker.registration(orch_id="orch-over", task_id="task-over")
    for asked in (["write:data:x"], ["read:data:x", "write:data:x"], ["read:data"], ["not a scope"], [""], ["*:*:*"], ["admin:revoke:*"]):
        reply, events = broker.during(lambda: send(broker, {**body, "requested_scope": asked}))
        expect(reply, 403, "scope_violation", "requested scope exceeds allowed scope")
        assert [(event["event_type"], event["outcome"], event["task_id"], event["orch_id"]) for event in events] == [
            ("registration_policy_violation", "denied", "task-over", "orch-over")
        ]
        assert "agent_id" not in events[0]
    ok(send(broker, body))


# -- step 5: the nonce -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonce", ["0" * 64, "x", "f" * 63, "zz" * 32, "é"])
def test_an_unknown_nonce(broker: Broker, nonce: str) -> None:
    expect(broker.register(nonce=nonce), 401, "unauthorized", contains=NO_NONCE)


def test_a_nonce_is_compared_exactly(broker: Broker) -> None:
    nonce = broker.nonce()
    while nonce == nonce.upper():
        nonce = broker.nonce()
    flipped = nonce[:-1] + ("0" if nonce[-1] != "0" else "1")
    for other in (nonce.upper(), " " + nonce, nonce + "00", nonce[:-2], flipped, "nonce: " + nonce):
        expect(broker.register(nonce=other), 401, "unauthorized", contains=NO_NONCE)
    ok(broker.register(nonce=nonce))


def test_a_nonce_serves_once(broker: Broker) -> None:
    body = broker.registration()
    ok(send(broker, body))
    again = expect(send(broker, {**body, "launch_token": broker.launch_token()}), 401, "unauthorized")
    assert any(text in again["detail"] for text in ("nonce already consumed", NO_NONCE)), again


def test_a_nonce_failure_uses_up_no_launch_token(broker: Broker) -> None:
    launch = broker.launch_token()
    expect(broker.register(launch, nonce="0" * 64), 401, "unauthorized", contains=NO_NONCE)
    ok(broker.register(launch))


# -- steps 6 and 7: key and signature ------------------------------------------------------------------------------------


def burned_nonce(broker: Broker, body: dict[str, Any], whole: dict[str, Any]) -> None:
    """After this failure the nonce is gone, the launch token is not."""
    again = expect(send(broker, whole), 401, "unauthorized")
    assert "nonce" in again["detail"] and "signature" not in again["detail"], again
    ok(broker.register(body["launch_token"]))


KEY = base64.b64encode(bytes(range(32))).decode()
UNDECODABLE = {
    "no padding": KEY.rstrip("="),
    "url-safe": base64.urlsafe_b64encode(b"\xfb\xff\xfe" * 10 + b"\xfb\xff").decode(),
    "not base64": "!!!!",
    "blank inside": KEY[:10] + " " + KEY[10:],
    "hex": "+" + "ab" * 32,
    "too much padding": KEY + "=",
}


@pytest.mark.parametrize("key", UNDECODABLE.values(), ids=UNDECODABLE.keys())
def test_a_public_key_that_is_not_standard_base64(broker: Broker, key: str) -> None:
    whole = broker.registration()
    expect(send(broker, {**whole, "public_key": key}), 401, "unauthorized", "invalid Ed25519 public key: base64 decode failed")
    burned_nonce(broker, whole, whole)


@pytest.mark.parametrize("size", [1, 31, 33, 44, 64, 1000])
def test_a_public_key_of_another_size(broker: Broker, size: int) -> None:
    whole = broker.registration()
    key = base64.b64encode(b"k" * size).decode()
    expect(send(broker, {**whole, "public_key": key}), 401, "unauthorized", "invalid Ed25519 public key: wrong key size")
    burned_nonce(broker, whole, whole)


def test_a_public_key_in_der(broker: Broker) -> None:
    der = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    reply = broker.register(public_key=base64.b64encode(der).decode())
    expect(reply, 401, "unauthorized", "invalid Ed25519 public key: wrong key size")


def test_line_ends_inside_base64_are_tolerated(broker: Broker) -> None:
    key = Ed25519PrivateKey.generate()
    nonce = broker.nonce()
    public = base64.b64encode(raw_public(key)).decode()
    signature = base64.b64encode(key.sign(bytes.fromhex(nonce))).decode()
    ok(broker.register(nonce=nonce, public_key=f"{public[:20]}\r\n{public[20:]}\n", signature=f"{signature[:40]}\n{signature[40:]}\r\n"))


# The points of small order of the curve, and their encodings that are not canonical (y at or above p).
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]
# A signature that verifies under the identity for any message: R = identity, S = 0.
ANY_MESSAGE = base64.b64encode(bytes.fromhex(SMALL_ORDER[0]) + bytes(32)).decode()


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_weak_public_key(broker: Broker, point: str) -> None:
    """§20.1 W33."""
    reply = broker.register(public_key=base64.b64encode(bytes.fromhex(point)).decode(), signature=ANY_MESSAGE)
    expect(reply, 401, "unauthorized", "invalid Ed25519 public key: weak key")


def test_32_bytes_that_are_no_point(broker: Broker) -> None:
    # y = 2 has no x on the curve: it is step 7 that fails, and there the signature's base64 comes first.
    point = base64.b64encode(b"\x02" + bytes(31)).decode()
    expect(broker.register(public_key=point), 401, "unauthorized", "nonce signature verification failed")
    reply = broker.register(public_key=point, signature="!!!!")
    expect(reply, 401, "unauthorized", "nonce signature verification failed: base64 decode failed")


SIGNATURE = base64.b64encode(bytes(64)).decode()


@pytest.mark.parametrize("signature", ["!!!!", SIGNATURE.rstrip("="), base64.urlsafe_b64encode(b"\xff" * 64).decode(), SIGNATURE + "="])
def test_a_signature_that_is_not_standard_base64(broker: Broker, signature: str) -> None:
    whole = broker.registration()
    expect(send(broker, {**whole, "signature": signature}), 401, "unauthorized", "nonce signature verification failed: base64 decode failed")
    burned_nonce(broker, whole, whole)


def wrong_signatures(key: Ed25519PrivateKey, nonce: str) -> dict[str, bytes]:
    signed = bytes.fromhex(nonce)
    good = key.sign(signed)
    order = 2**252 + 27742317777372353535851937790883648493
    mauled = good[:32] + (int.from_bytes(good[32:], "little") + order).to_bytes(32, "little")
    return {
        "text": key.sign(nonce.encode()),
        "other message": key.sign(bytes(32)),
        "other key": Ed25519PrivateKey.generate().sign(signed),
        "zeros": bytes(64),
        "short": good[:63],
        "long": good + b"\x00",
        "malleable": mauled,
        "flipped": bytes([good[0] ^ 1]) + good[1:],
    }


@pytest.mark.parametrize("kind", ["text", "other message", "other key", "zeros", "short", "long", "malleable", "flipped"])
def test_a_signature_that_does_not_verify(broker: Broker, kind: str) -> None:
    key = Ed25519PrivateKey.generate()
    whole = broker.registration(key=key)
    signature = base64.b64encode(wrong_signatures(key, whole["nonce"])[kind]).decode()
    expect(send(broker, {**whole, "signature": signature}), 401, "unauthorized", "nonce signature verification failed")
    burned_nonce(broker, whole, whole)


# -- step 9 comes first: ids that make no SPIFFE id --------------------------------------------------------------------------

ILLEGAL = ["a b", "a/b", "a:b", "a%20b", "é", ".", "..", "a\x00", "a\n", "/", "a?b", "a#b", "‮", "a" * 254, "a+b", "~"]


@pytest.mark.parametrize("name", ["orch_id", "task_id"])
@pytest.mark.parametrize("value", ILLEGAL)
def test_an_illegal_id_is_named_and_uses_up_nothing(broker: Broker, name: str, value: str) -> None:
    """§20.1 W5: before step 3, so whatever else is wrong."""
    whole = broker.registration()
    expect(send(broker, {**whole, name: value}), 400, "invalid_request", contains=name)
    expect(send(broker, {**whole, name: value, "launch_token": "0" * 64}), 400, "invalid_request", contains=name)
    ok(send(broker, whole))


@pytest.mark.parametrize("value", ["a", "A-Z.0_9", "...", "-", "_", "a" * 253, "0", ".a"])
def test_a_legal_id_becomes_a_segment(broker: Broker, value: str) -> None:
    agent = broker.agent(orch_id=value, task_id=value)
    assert agent.id.startswith(f"spiffe://agentwrit.local/agent/{value}/{value}/")


# -- the order of the steps ------------------------------------------------------------------------------------------------------

BROKEN: list[tuple[str, dict[str, Any], int, str]] = [
    ("field", {"task_id": ""}, 400, "missing required field"),
    ("id", {"orch_id": "a b"}, 400, "orch_id"),
    ("launch token", {"launch_token": "0" * 64}, 401, NOT_FOUND),
    ("scope", {"requested_scope": ["write:data:x"]}, 403, "requested scope exceeds allowed scope"),
    ("nonce", {"nonce": "0" * 64}, 401, NO_NONCE),
    ("key", {"public_key": "!"}, 401, "invalid Ed25519 public key"),
    ("signature", {"signature": "!"}, 401, "nonce signature verification failed"),
]


@pytest.mark.parametrize("first", range(len(BROKEN)), ids=[row[0] for row in BROKEN])
def test_of_all_that_is_wrong_the_first_step_answers(broker: Broker, first: int) -> None:
    body = broker.registration()
    for _, change, _, _ in BROKEN[first:]:
        body.update(change)
    _, _, status, text = BROKEN[first]
    reply = send(broker, body)
    assert reply.status == status, reply
    assert text in reply.json["detail"], reply


# -- lifetime ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_ttl", "requested", "granted"),
    [(300, None, 300), (300, 100, 100), (300, 1000, 300), (300, 1, 1), (5, None, 5), (300, 0, 300), (300, -5, 300), (300, 2**63 - 1, 300), (3600, 3600, 3600)],
)
def test_the_shortest_lifetime_counts(broker: Broker, max_ttl: int, requested: int | None, granted: int) -> None:
    body = ok(broker.register(broker.launch_token(max_ttl=max_ttl), requested_ttl=requested))
    assert body["expires_in"] == granted
    claims = claims_of(body["access_token"])
    assert claims["exp"] - claims["iat"] == granted


@pytest.mark.parametrize(("ceiling", "granted"), [("60", 60), ("0", 400_000), ("86400", 86400)])
def test_the_ceiling_clamps_and_zero_is_none(start: Start, ceiling: str, granted: int) -> None:
    broker = start(AA_MAX_TTL=ceiling)
    assert ok(broker.register(broker.launch_token(max_ttl=400_000), requested_ttl=500_000))["expires_in"] == granted


# -- uses and races ---------------------------------------------------------------------------------------------------------------------


def test_each_registration_of_one_key_is_another_instance(broker: Broker) -> None:
    key = Ed25519PrivateKey.generate()
    launch = broker.launch_token(single_use=False)
    ids = {ok(broker.register(launch, key=key))["agent_id"] for _ in range(4)}
    assert len(ids) == 4
    assert len({agent_id.rsplit("/", 1)[0] for agent_id in ids}) == 1


def test_of_parallel_uses_of_a_launch_token_one_wins(broker: Broker) -> None:
    launch = broker.launch_token()
    bodies = [broker.registration(launch) for _ in range(32)]
    replies = at_once(32, lambda number: send(broker, bodies[number]))
    assert sorted(reply.status for reply in replies) == [200] + [401] * 31
    for reply in replies:
        if reply.status == 401:
            assert "launch token already consumed" in reply.json["detail"], reply


def test_of_parallel_users_of_one_nonce_one_wins(broker: Broker) -> None:
    whole = broker.registration(broker.launch_token(single_use=False))
    replies = at_once(32, lambda _: send(broker, whole))
    assert sorted(reply.status for reply in replies) == [200] + [401] * 31


def test_parallel_registrations_all_succeed(broker: Broker) -> None:
    bodies = [broker.registration() for _ in range(32)]
    replies = at_once(16, lambda number: send(broker, bodies[number]))
    assert {reply.status for reply in replies} == {200}
    assert len({reply.json["agent_id"] for reply in replies}) == 16


def test_registering_ignores_a_bearer(broker: Broker) -> None:
    ok(broker.post("/v1/register", broker.registration(), headers={"Authorization": "nonsense"}))


def test_refused_registrations_are_audited_with_a_reason(broker: Broker) -> None:
    """§20.1 W13."""
    whole = broker.registration()
    refusals = [{"launch_token": "0" * 64}, {"nonce": "0" * 64}, {"public_key": "!"}]
    for change in refusals:
        reply, events = broker.during(lambda: send(broker, {**whole, **change}))
        assert reply.status == 401
        assert [(event["event_type"], event["outcome"]) for event in events] == [("registration_denied", "denied")]
        assert events[0]["detail"]
        assert whole["launch_token"] not in details(events)
