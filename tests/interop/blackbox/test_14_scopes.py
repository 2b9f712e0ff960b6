"""docs/wire-contract.md §14: scopes and SPIFFE ids, through the endpoints that decide by them."""

from __future__ import annotations

import pytest

from blackbox.driver import Broker, Start
from blackbox.wire import expect, ok

# requested, allowed, covered. The allowed ones that are no scopes themselves can't be launched with (§20.1 W8).
COVERING = [
    ("read:data:x", "read:data:*", True),
    ("read:data:*", "read:data:*", True),
    ("read:data:x", "read:data:x", True),
    ("read:data:*", "read:data:x", False),
    ("read:data:xyz", "read:data:x*", False),
    ("read:data:x*", "read:data:x*", True),
    ("write:data:x", "read:data:*", False),
    ("read:orders:x", "read:data:*", False),
    ("read:data:x", "*:*:*", False),
    ("read:data:x", "*:data:x", False),
    ("read:data:x", "read:*:x", False),
    ("*:*:*", "*:*:*", True),
    ("*:*:x", "*:*:*", True),
    ("Read:data:x", "read:data:x", False),
    ("read:Data:x", "read:data:x", False),
    ("read:data:X", "read:data:x", False),
    ("read:data", "read:data:*", False),
    ("read::x", "read:data:*", False),
    ("read:data:", "read:data:*", False),
    ("", "read:data:*", False),
    (":data:x", "read:data:*", False),
    ("read:data:a:b", "read:data:*", True),
    ("read:data:a:b", "read:data:a:b", True),
    ("read:data:a:b", "read:data:a:*", False),
    ("read:data:a:b", "read:data:a", False),
    ("read:data:*", "read:data:**", False),
    (" read:data:x", "read:data:*", False),
    ("read:data:x ", "read:data:x", False),
    ("read:data: ", "read:data:*", True),
    ("read:data:**", "read:data:*", True),
]
covering = pytest.mark.parametrize(("requested", "allowed", "covered"), COVERING)


@covering
def test_a_registration_is_covered(broker: Broker, requested: str, allowed: str, covered: bool) -> None:
    reply = broker.register(broker.launch_token([allowed]), requested_scope=[requested])
    if covered:
        ok(reply)
    else:
        expect(reply, 403, "scope_violation", "requested scope exceeds allowed scope")


@covering
def test_a_delegation_is_covered(broker: Broker, requested: str, allowed: str, covered: bool) -> None:
    agent = broker.agent([allowed])
    reply = broker.delegate(agent.token, agent.id, [requested])
    if covered:
        ok(reply)
    else:
        expect(reply, 403, "scope_violation", "delegated scope exceeds delegator scope")


@covering
def test_an_apps_launch_token_is_covered(broker: Broker, requested: str, allowed: str, covered: bool) -> None:
    token = broker.ceiling([allowed])
    reply = broker.launch([requested], token=token, path="/v1/app/launch-tokens")
    if covered:
        ok(reply, 201)
    else:
        expect(reply, 403, "forbidden", contains="ceiling")


def test_each_of_the_requested_needs_one_of_the_allowed(broker: Broker) -> None:
    launch = broker.launch_token(["a:b:*", "c:d:e"], single_use=False)
    ok(broker.register(launch, requested_scope=["c:d:e", "a:b:x", "a:b:y", "a:b:*"]))
    expect(broker.register(launch, requested_scope=["c:d:e", "a:b:x", "c:d:f"]), 403, "scope_violation")


def test_many_and_long_scopes(broker: Broker) -> None:
    many = [f"read:data:{number}" for number in range(500)]
    agent = broker.agent(many)
    assert agent.claims["scope"] == many
    long = "read:data:" + "x" * 5000
    assert broker.agent([long]).claims["scope"] == [long]


# -- 14.3 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", ["a", "agents.example.org", "a_b-c.d0", "x" * 200])
def test_the_trust_domain_is_a_setting(start: Start, domain: str) -> None:
    agent = start(AA_TRUST_DOMAIN=domain).agent(orch_id="o", task_id="t")
    assert agent.id.startswith(f"spiffe://{domain}/agent/o/t/")


def test_a_whole_id_fits_into_2048_bytes(start: Start) -> None:
    # 9 + 255 + 7 + 253 + 1 + 253 + 1 + 16 is far below it: with a legal trust domain segments decide.
    broker = start(AA_TRUST_DOMAIN="d" * 255)
    assert len(broker.agent(orch_id="o" * 253, task_id="t" * 253).id) == 795
