"""docs/wire-contract.md §11: revocation at its four levels."""

from __future__ import annotations

import time

import pytest

from blackbox.driver import INVALID, Broker, Start, at_once, types, unique
from blackbox.jose import claims_of
from blackbox.wire import expect, ok

LEVELS = ["token", "agent", "task", "chain"]
REVOKED = "token has been revoked"


@pytest.mark.parametrize("level", LEVELS)
def test_the_answer_echoes_and_counts_one_entry(broker: Broker, level: str) -> None:
    for target in (unique("nothing-has-this"), "é <&> \U0001f600 / : %", "x" * 500):
        for _ in range(2):  # idempotent
            body = broker.revoke(level, target)
            assert body == {"revoked": True, "level": level, "target": target, "count": 1}
            assert list(body) == ["revoked", "level", "target", "count"]


@pytest.mark.parametrize("body", [{}, {"level": "token"}, {"target": "x"}, {"level": "", "target": "x"}, {"level": "token", "target": ""}, {"level": None, "target": "x"}])
def test_both_fields_are_required(broker: Broker, body: dict) -> None:
    reply, events = broker.during(lambda: broker.post("/v1/revoke", body, token=broker.admin))
    expect(reply, 400, "invalid_request", "level and target are required")
    assert events == []


def test_bad_json(broker: Broker) -> None:
    expect(broker.post("/v1/revoke", raw=b"not-json", token=broker.admin), 400, "invalid_request", "malformed JSON body")


@pytest.mark.parametrize("level", ["Token", "jti", "all", " token", "release", "x" * 100])
def test_another_level(broker: Broker, level: str) -> None:
    reply, events = broker.during(lambda: broker.post("/v1/revoke", {"level": level, "target": "x"}, token=broker.admin))
    problem = expect(reply, 400, "invalid_request")
    assert problem["detail"].startswith("invalid revocation level: ")
    assert events == []


def test_level_token_hits_that_token_only(broker: Broker) -> None:
    one, other = broker.agent(), broker.agent()
    broker.revoke("token", one.claims["jti"])
    assert broker.validate(one.token) == INVALID
    expect(broker.renew(one.token), 403, "insufficient_scope", REVOKED)
    assert broker.stands(other.token)


def test_level_token_of_an_older_jti_hits_nothing_else(broker: Broker) -> None:
    agent = broker.agent()
    new = broker.renewed(agent.token)
    broker.revoke("token", agent.claims["jti"])
    assert broker.stands(new)


def test_level_token_is_for_admin_and_app_tokens_too(broker: Broker) -> None:
    token = ok(broker.login())["access_token"]
    app = broker.app_token(broker.app())
    for victim in (token, app):
        broker.revoke("token", claims_of(victim)["jti"])
        assert broker.validate(victim) == INVALID
        expect(broker.get("/v1/audit/events", token=victim), 403, "insufficient_scope", REVOKED)
    assert broker.validate(broker.admin)["valid"] is True


def test_level_agent_hits_all_of_that_subject(broker: Broker) -> None:
    agent, other = broker.agent(), broker.agent()
    renewed = broker.renewed(agent.token)
    broker.revoke("agent", agent.id)
    assert not broker.stands(renewed)
    expect(broker.renew(renewed), 403, "insufficient_scope", REVOKED)
    assert broker.stands(other.token)


def test_level_agent_hits_tokens_delegated_to_it(broker: Broker) -> None:
    agent, other = broker.agent(), broker.agent()
    to_it = broker.delegated(other.token, agent.id, ["read:data:x"])
    broker.revoke("agent", agent.id)
    assert not broker.stands(to_it)
    assert broker.stands(other.token)


def test_level_task_ends_the_task_of_any_orchestrator(broker: Broker) -> None:
    task = unique("task")
    one, two, other = broker.agent(task_id=task, orch_id="o1"), broker.agent(task_id=task, orch_id="o2"), broker.agent(task_id=task + "x")
    broker.revoke("task", task)
    assert [broker.stands(agent.token) for agent in (one, two, other)] == [False, False, True]


def test_level_task_hits_what_was_delegated_within_it(broker: Broker) -> None:
    task = unique("task")
    agent, other = broker.agent(task_id=task), broker.agent()
    delegated = broker.delegated(agent.token, other.id, ["read:data:x"])
    broker.revoke("task", task)
    assert not broker.stands(delegated)
    assert broker.stands(other.token)


def test_level_task_hits_no_token_without_a_task(broker: Broker) -> None:
    broker.revoke("task", " ")
    assert broker.validate(broker.admin)["valid"] is True


def test_level_chain_ends_what_the_target_delegated_not_itself(broker: Broker) -> None:
    root, middle = broker.agent(), broker.agent()
    first = broker.delegated(root.token, middle.id, ["read:data:*"])
    second = broker.delegated(first, root.id, ["read:data:*"])
    elsewhere = broker.delegated(middle.token, root.id, ["read:data:*"])
    broker.revoke("chain", root.id)
    assert [broker.stands(token) for token in (first, second)] == [False, False]
    assert [broker.stands(token) for token in (root.token, middle.token, elsewhere)] == [True, True, True]


def test_level_chain_hits_later_delegations_of_that_root(broker: Broker) -> None:
    root = broker.agent()
    broker.revoke("chain", root.id)
    reply = broker.delegate(root.token, root.id, ["read:data:x"])
    assert reply.status != 200 or not broker.stands(reply.json["access_token"])


@pytest.mark.parametrize("level", LEVELS)
def test_a_revocation_is_audited_and_counted(broker: Broker, level: str) -> None:
    target = unique("audit-target")
    moved, events = broker.during(lambda: broker.moved(lambda: broker.revoke(level, target)))
    (event,) = events
    assert (event["event_type"], event["outcome"], event["agent_id"]) == ("token_revoked", "success", target)
    assert not {"task_id", "orch_id"} & set(event)
    assert level in event["detail"]
    assert moved[f'tokens_revoked_total{{level="{level}"}}'] == 1


@pytest.mark.parametrize("target", ["admin", "app:app-x-000000", "app:"])
def test_level_agent_never_locks_operators_out(broker: Broker, target: str) -> None:
    """§20.1 W17."""
    expect(broker.post("/v1/revoke", {"level": "agent", "target": target}, token=broker.admin), 400, "invalid_request")
    assert broker.validate(broker.admin)["valid"] is True


def test_a_revocation_cannot_be_withdrawn(broker: Broker) -> None:
    agent = broker.agent()
    broker.revoke("agent", agent.id)
    for method in ("DELETE", "GET", "PUT"):
        assert broker.call(method, "/v1/revoke", token=broker.admin).status == 405


def test_revocation_is_immediate_under_parallel_use(broker: Broker) -> None:
    agents = [broker.agent() for _ in range(16)]
    for agent in agents:
        assert broker.stands(agent.token)  # so that whatever caches tokens has them

    def revoke_then_use(number: int) -> bool:
        broker.revoke("token", agents[number].claims["jti"])
        return broker.stands(agents[number].token)

    assert at_once(16, revoke_then_use) == [False] * 16


def test_all_levels_survive_a_restart_and_a_kill(start: Start) -> None:
    broker = start()
    by_token, by_agent, by_task, root, free = (broker.agent(task_id=unique("task")) for _ in range(5))
    child = broker.delegated(root.token, free.id, ["read:data:x"], ttl=200)
    broker.revoke("token", by_token.claims["jti"])
    broker.revoke("agent", by_agent.id)
    broker.revoke("task", by_task.claims["task_id"])
    broker.revoke("chain", root.id)
    for again in (broker.restart, broker.crash):
        again()
        for token in (by_token.token, by_agent.token, by_task.token, child):
            assert broker.validate(token) == INVALID
            expect(broker.renew(token), 403, "insufficient_scope", REVOKED)
        assert [broker.stands(token) for token in (root.token, free.token)] == [True, True]


def test_parallel_revocations_are_all_kept(start: Start) -> None:
    """§19 rows 23 and 24, §20 W37: under parallel callers each is done, audited, and there after a restart."""
    broker = start()
    agents = [broker.agent() for _ in range(40)]
    token = broker.admin
    halves = {
        "renewed": agents[:10],
        "released": agents[10:20],
        "token": agents[20:30],
        "agent": agents[30:],
    }

    def end(number: int) -> int:
        agent = agents[number]
        if agent in halves["renewed"]:
            return broker.renew(agent.token).status
        if agent in halves["released"]:
            return broker.release(agent.token).status
        level, target = ("token", agent.claims["jti"]) if agent in halves["token"] else ("agent", agent.id)
        return broker.post("/v1/revoke", {"level": level, "target": target}, token=token).status

    assert sorted(at_once(40, end)) == [200] * 30 + [204] * 10
    broker.crash()
    assert [broker.validate(agent.token) for agent in agents] == [INVALID] * 40
    kinds = types(broker.events())
    assert (kinds.count("token_renewed"), kinds.count("token_released"), kinds.count("token_revoked")) == (10, 10, 20)


def test_revoking_an_expired_tokens_jti_is_fine(broker: Broker) -> None:
    now = int(time.time())
    claims = broker.forge.claims(iat=now - 400, nbf=now - 400, exp=now - 2)
    assert broker.revoke("token", claims["jti"])["count"] == 1
