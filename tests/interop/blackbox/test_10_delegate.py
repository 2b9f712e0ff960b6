"""docs/wire-contract.md §10: delegation, its records, its hash, and how far it reaches."""

from __future__ import annotations

import hashlib
import re
import time
from datetime import datetime, timezone
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from blackbox.driver import INVALID, Broker, Start, at_once, types
from blackbox.jose import claims_of, raw_public
from blackbox.wire import compact, expect, ok

CHAIN_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z")
OVER = "delegated scope exceeds delegator scope"


def verify_record(broker: Broker, record: dict[str, Any]) -> None:
    signed = "|".join([record["agent"], ",".join(record["scope"]), record["delegated_at"]])
    public = Ed25519PublicKey.from_public_bytes(raw_public(broker.forge.key))
    public.verify(bytes.fromhex(record["signature"]), signed.encode())


def chain_hash(chain: list[dict[str, Any]]) -> str:
    return hashlib.sha256(compact(chain)).hexdigest()


# -- the request -------------------------------------------------------------------------------------------------


def test_a_delegation(broker: Broker) -> None:
    agent, other = broker.agent(orch_id="orch-d", task_id="task-d"), broker.agent(["x:y:z"], orch_id="orch-2", task_id="task-2")
    body = ok(broker.delegate(agent.token, other.id, ["read:data:x"]))
    assert list(body) == ["access_token", "expires_in", "delegation_chain"]
    assert body["expires_in"] == 60
    claims = claims_of(body["access_token"])
    assert (claims["sub"], claims["scope"]) == (other.id, ["read:data:x"])
    assert (claims["orch_id"], claims["task_id"]) == ("orch-d", "task-d"), "the caller's"
    assert claims["exp"] - claims["iat"] == 60
    assert claims["delegation_chain"] == body["delegation_chain"]
    assert broker.stands(body["access_token"])
    assert broker.stands(agent.token)


def test_the_record(broker: Broker) -> None:
    agent = broker.agent(["write:data:b", "read:data:*"])
    before = datetime.now(timezone.utc)
    body = ok(broker.delegate(agent.token, agent.id, ["read:data:x"]))
    (record,) = body["delegation_chain"]
    assert list(record) == ["agent", "scope", "delegated_at", "signature"]
    assert record["agent"] == agent.id
    assert record["scope"] == ["write:data:b", "read:data:*"], "the caller's scope, not what is granted"
    assert CHAIN_TIME.fullmatch(record["delegated_at"])
    assert abs(datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", record["delegated_at"])) - before).total_seconds() < 5
    assert re.fullmatch("[0-9a-f]{128}", record["signature"])
    verify_record(broker, record)


def test_the_chain_hash_is_in_the_token_only(broker: Broker) -> None:
    agent = broker.agent()
    body = ok(broker.delegate(agent.token, agent.id, ["read:data:x"]))
    assert "chain_hash" not in body
    claims = claims_of(body["access_token"])
    assert claims["chain_hash"] == chain_hash(claims["delegation_chain"])


def test_the_chain_hash_is_over_gos_escaping(broker: Broker) -> None:
    scope = ["read:data:<a>&\u2028é\"\\\t"]
    agent = broker.agent(scope)
    claims = claims_of(broker.delegated(agent.token, agent.id, scope))
    assert claims["chain_hash"] == chain_hash(claims["delegation_chain"])
    verify_record(broker, claims["delegation_chain"][0])


def test_each_hop_appends_a_record_and_keeps_the_earlier_ones(broker: Broker) -> None:
    agents = [broker.agent(["read:data:*"], orch_id=f"hop-{number}") for number in range(4)]
    token, chain = agents[0].token, []
    for number in (1, 2, 3):
        body = ok(broker.delegate(token, agents[number].id, ["read:data:*"]))
        assert body["delegation_chain"][:-1] == chain
        chain, token = body["delegation_chain"], body["access_token"]
        assert [record["agent"] for record in chain] == [agent.id for agent in agents[:number]]
        assert claims_of(token)["orch_id"] == "hop-0"
        assert claims_of(token)["chain_hash"] == chain_hash(chain)
        for record in chain:
            verify_record(broker, record)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"scope": ["read:data:x"]},
        {"delegate_to": "", "scope": ["read:data:x"]},
        {"delegate_to": None, "scope": ["read:data:x"]},
        {"delegate_to": "spiffe://x"},
        {"delegate_to": "spiffe://x", "scope": []},
        {"delegate_to": "spiffe://x", "scope": None},
    ],
)
def test_target_and_scope_are_required(broker: Broker, body: dict) -> None:
    agent = broker.agent()
    reply, events = broker.during(lambda: broker.post("/v1/delegate", body, token=agent.token))
    expect(reply, 400, "invalid_request")
    assert "delegation_created" not in types(events)


def test_bad_json(broker: Broker) -> None:
    expect(broker.post("/v1/delegate", raw=b"{", token=broker.agent().token), 400, "invalid_request", "malformed JSON body")


@pytest.mark.parametrize(
    ("held", "asked", "fits"),
    [
        (["read:data:*"], ["read:data:*"], True),
        (["read:data:*"], ["read:data:x"], True),
        (["read:data:*", "write:data:x"], ["write:data:x", "read:data:q", "read:data:q"], True),
        (["read:data:x"], ["read:data:*"], False),
        (["read:data:*"], ["write:data:x"], False),
        (["read:data:*"], ["read:data:x", "read:orders:x"], False),
        (["read:data:*"], ["read:data"], False),
        (["read:data:*"], [""], False),
        (["read:data:*"], ["admin:revoke:*"], False),
    ],
)
def test_scope_may_narrow_and_never_grow(broker: Broker, held: list[str], asked: list[str], fits: bool) -> None:
    agent = broker.agent(held, orch_id="orch-w", task_id="task-w")
    reply, events = broker.during(lambda: broker.delegate(agent.token, agent.id, asked))
    if fits:
        assert claims_of(ok(reply)["access_token"])["scope"] == asked
        return
    expect(reply, 403, "scope_violation", OVER)
    (event,) = events
    assert (event["event_type"], event["outcome"]) == ("delegation_attenuation_violation", "denied")
    assert (event["agent_id"], event["task_id"], event["orch_id"]) == (agent.id, "task-w", "orch-w")
    assert event.get("deleg_depth", 0) == 0
    assert "resource" not in event


def test_a_refused_scope_has_the_depth_of_the_caller(broker: Broker) -> None:
    agent = broker.agent()
    token = broker.delegated(broker.delegated(agent.token, agent.id, ["read:data:*"]), agent.id, ["read:data:x"])
    reply, events = broker.during(lambda: broker.delegate(token, agent.id, ["read:data:y"]))
    expect(reply, 403, "scope_violation", OVER)
    assert events[0]["deleg_depth"] == 2


def test_scope_narrows_at_each_hop(broker: Broker) -> None:
    agent = broker.agent()
    narrowed = broker.delegated(agent.token, agent.id, ["read:data:x"])
    expect(broker.delegate(narrowed, agent.id, ["read:data:*"]), 403, "scope_violation", OVER)
    expect(broker.delegate(narrowed, agent.id, ["read:data:y"]), 403, "scope_violation", OVER)
    ok(broker.delegate(narrowed, agent.id, ["read:data:x"]))


@pytest.mark.parametrize("target", ["spiffe://agentwrit.local/agent/o/t/0000000000000000", "x", "admin", "app:app-x-000000", " "])
def test_a_target_that_is_no_agent(broker: Broker, target: str) -> None:
    expect(broker.delegate(broker.agent().token, target, ["read:data:x"]), 404, "not_found", "delegate agent not found")


def test_scope_is_checked_before_the_target(broker: Broker) -> None:
    expect(broker.delegate(broker.agent().token, "nobody", ["write:data:x"]), 403, "scope_violation", OVER)


def test_five_hops_and_no_sixth(broker: Broker) -> None:
    agent = broker.agent()
    token = agent.token
    for depth in range(1, 6):
        body = ok(broker.delegate(token, agent.id, ["read:data:*"]))
        token = body["access_token"]
        assert len(body["delegation_chain"]) == depth
    assert broker.stands(token)
    for target, scope in ((agent.id, ["read:data:*"]), ("nobody", ["write:data:x"])):
        reply, events = broker.during(lambda: broker.delegate(token, target, scope))
        expect(reply, 403, "scope_violation", "delegation depth limit exceeded")
        # §20.1 W13: audited, with a reason.
        assert [event["outcome"] for event in events] == ["denied"]
        assert events[0]["detail"]


def test_delegating_to_oneself_is_allowed(broker: Broker) -> None:
    agent = broker.agent()
    token = broker.delegated(agent.token, agent.id, ["read:data:*"])
    assert claims_of(token)["sub"] == agent.id


@pytest.mark.parametrize("kind", ["admin", "app"])
def test_only_agents_delegate(broker: Broker, kind: str) -> None:
    """§20.1 W16."""
    agent = broker.agent()
    token = broker.admin if kind == "admin" else broker.ceiling(["read:data:*"])
    scope = claims_of(token)["scope"][:1]
    expect(broker.delegate(token, agent.id, scope), 403, "insufficient_scope")


def test_a_delegation_is_audited_and_counted(broker: Broker) -> None:
    agent, other = broker.agent(["deleg:count:*"], orch_id="orch-c", task_id="task-c"), broker.agent(["x:y:z"])
    first = broker.delegated(agent.token, other.id, ["deleg:count:*"])
    moved, events = broker.during(lambda: broker.moved(lambda: ok(broker.delegate(first, other.id, ["deleg:count:x"]))))
    (event,) = events
    assert (event["event_type"], event["outcome"]) == ("delegation_created", "success")
    assert (event["agent_id"], event["task_id"], event["orch_id"]) == (other.id, "task-c", "orch-c")
    assert event["deleg_depth"] == 2
    assert re.fullmatch("[0-9a-f]{64}", event["deleg_chain_hash"])
    assert moved['tokens_issued_total{scope="deleg:count:x"}'] == 1


def test_the_audited_hash_is_the_one_in_the_token(broker: Broker) -> None:
    agent = broker.agent()
    reply, events = broker.during(lambda: broker.delegate(agent.token, agent.id, ["read:data:x"]))
    assert events[0]["deleg_chain_hash"] == claims_of(ok(reply)["access_token"])["chain_hash"]


# -- lifetime ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ttl", "granted"), [(None, 60), (30, 30), (200, 200), (1, 1)])
def test_the_lifetime_is_as_asked(broker: Broker, ttl: int | None, granted: int) -> None:
    agent = broker.agent()
    fields = {} if ttl is None else {"ttl": ttl}
    body = ok(broker.delegate(agent.token, agent.id, ["read:data:x"], **fields))
    assert body["expires_in"] == granted
    claims = claims_of(body["access_token"])
    assert claims["exp"] - claims["iat"] == granted


@pytest.mark.parametrize("ttl", [0, -1])
def test_a_lifetime_of_zero_or_less_is_the_default(broker: Broker, ttl: int) -> None:
    agent = broker.agent()
    assert ok(broker.delegate(agent.token, agent.id, ["read:data:x"], ttl=ttl))["expires_in"] == 60


@pytest.mark.parametrize("ttl", [301, 100_000, 2**63 - 1])
def test_a_delegated_token_never_outlives_the_delegating_one(broker: Broker, ttl: int) -> None:
    """§20.1 W4."""
    agent = broker.agent()
    body = ok(broker.delegate(agent.token, agent.id, ["read:data:x"], ttl=ttl))
    claims = claims_of(body["access_token"])
    assert claims["exp"] <= agent.claims["exp"]
    assert body["expires_in"] == claims["exp"] - claims["iat"] > 290


def test_a_renewed_delegated_token_still_does_not_outlive_it(broker: Broker) -> None:
    """§20.1 W4."""
    agent = broker.agent(max_ttl=20)
    token = broker.delegated(agent.token, agent.id, ["read:data:x"], ttl=20)
    for _ in range(3):
        token = broker.renewed(token)
        assert claims_of(token)["exp"] <= agent.claims["exp"]


def test_the_ceiling_clamps_delegated_tokens(start: Start) -> None:
    broker = start()
    agent = broker.agent(max_ttl=600)
    broker.restart(AA_MAX_TTL="40")
    assert ok(broker.delegate(agent.token, agent.id, ["read:data:x"], ttl=500))["expires_in"] == 40
    assert ok(broker.delegate(agent.token, agent.id, ["read:data:x"]))["expires_in"] == 40


def test_the_audience_is_the_callers(start: Start) -> None:
    broker = start(AA_AUDIENCE="here")
    agent = broker.agent()
    assert claims_of(broker.delegated(agent.token, agent.id, ["read:data:x"]))["aud"] == ["here"]


# -- the chain is verified at every use (§20.1 W3) ------------------------------------------------------------------------


def maulings(broker: Broker, claims: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Tokens signed by the broker's own key whose chain is not what the broker wrote."""
    chain = claims["delegation_chain"]
    first = chain[0]

    def with_chain(changed: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {**claims, "delegation_chain": changed, "chain_hash": chain_hash(changed), **more}

    return {
        "hash of another chain": {**claims, "chain_hash": "0" * 64},
        "no hash": {name: value for name, value in claims.items() if name != "chain_hash"},
        "other agent": with_chain([{**first, "agent": "spiffe://agentwrit.local/agent/a/b/0000000000000000"}]),
        "wider scope": with_chain([{**first, "scope": ["*:*:*"]}]),
        "other time": with_chain([{**first, "delegated_at": "2020-01-01T00:00:00Z"}]),
        "no signature": with_chain([{name: value for name, value in first.items() if name != "signature"}]),
        "signature of zeros": with_chain([{**first, "signature": "0" * 128}]),
        "one record twice": with_chain([first, first], chain_hash="0" * 64),
        "scope beyond the chain": {**claims, "scope": ["write:data:x"]},
    }


@pytest.mark.parametrize(
    "kind",
    ["hash of another chain", "no hash", "other agent", "wider scope", "other time", "no signature", "signature of zeros", "one record twice", "scope beyond the chain"],
)
def test_a_chain_that_was_tampered_with_does_not_verify(broker: Broker, kind: str) -> None:
    agent = broker.agent()
    claims = claims_of(broker.delegated(agent.token, agent.id, ["read:data:x"]))
    assert broker.stands(broker.forge.sign(claims)), "re-signed as it is, it is the same token"
    mauled = broker.forge.sign(maulings(broker, claims)[kind])
    assert broker.validate(mauled) == INVALID
    expect(broker.release(mauled), 401, "unauthorized", "token verification failed")
    expect(broker.delegate(mauled, agent.id, ["read:data:x"]), 401, "unauthorized", "token verification failed")


def test_parallel_delegations_all_succeed(broker: Broker) -> None:
    agent = broker.agent()
    replies = at_once(16, lambda number: broker.delegate(agent.token, agent.id, [f"read:data:{number}"]))
    assert {reply.status for reply in replies} == {200}
    assert len({claims_of(reply.json["access_token"])["jti"] for reply in replies}) == 16


def test_a_delegation_by_an_expired_token(broker: Broker) -> None:
    now = int(time.time())
    token = broker.forge.token(iat=now - 400, nbf=now - 400, exp=now - 2)
    expect(broker.delegate(token, broker.agent().id, ["read:data:x"]), 401, "unauthorized", "token verification failed")
