"""docs/wire-contract.md §9: renewal and release."""

from __future__ import annotations

import time

import pytest

from blackbox.driver import INVALID, Broker, Start, at_once, types
from blackbox.jose import claims_of
from blackbox.wire import expect, ok

REVOKED = "token has been revoked"
BODIES = [None, b"", b"{}", b"not-json", b"[1", b"\x00\xff", b'{"ttl": 999999}', b" " * 100_000]


# -- 9.1 renew -------------------------------------------------------------------------------------------------


def test_a_renewal_answers_a_token_and_its_lifetime(broker: Broker) -> None:
    body = ok(broker.renew(broker.agent().token))
    assert list(body) == ["access_token", "expires_in"]
    assert body["expires_in"] == 300


@pytest.mark.parametrize("body", BODIES)
def test_the_body_of_a_renewal_is_ignored(broker: Broker, body: bytes | None) -> None:
    assert ok(broker.renew(broker.agent().token, raw=body))["expires_in"] == 300


def test_a_renewed_token_keeps_what_it_stood_for(broker: Broker) -> None:
    agent = broker.agent(["write:data:b", "read:data:a"], orch_id="orch-n", task_id="task-n", max_ttl=77)
    old, new = agent.claims, claims_of(broker.renewed(agent.token))
    kept = ["iss", "sub", "scope", "orch_id", "task_id", "sid"]
    assert {name: old.get(name) for name in kept} == {name: new.get(name) for name in kept}
    assert new["jti"] != old["jti"]
    assert new["exp"] - new["iat"] == 77
    assert new["nbf"] == new["iat"] >= old["iat"]
    assert list(new) == list(old)


def test_a_renewed_delegated_token_keeps_its_chain(broker: Broker) -> None:
    agent = broker.agent()
    token = broker.delegated(agent.token, agent.id, ["read:data:x"])
    old, new = claims_of(token), claims_of(broker.renewed(token))
    for name in ("sub", "scope", "delegation_chain", "chain_hash", "sid"):
        assert new[name] == old[name]


def test_the_old_token_is_dead_at_once(broker: Broker) -> None:
    old = broker.agent().token
    new = broker.renewed(old)
    assert broker.validate(old) == INVALID
    expect(broker.renew(old), 403, "insufficient_scope", REVOKED)
    expect(broker.get("/v1/audit/events", token=old), 403, "insufficient_scope", REVOKED)
    assert broker.stands(new)


def test_renewals_may_follow_each_other(broker: Broker) -> None:
    agent = broker.agent(max_ttl=50)
    token, seen = agent.token, {agent.token}
    for _ in range(10):
        body = ok(broker.renew(token))
        token = body["access_token"]
        assert body["expires_in"] == 50
        assert claims_of(token)["sub"] == agent.id
        seen.add(token)
    assert len(seen) == 11


def test_a_renewal_is_audited_and_counted_as_a_renewal_only(broker: Broker) -> None:
    agent = broker.agent(["renew:count:x"], orch_id="orch-e", task_id="task-e")
    moved, events = broker.during(lambda: broker.moved(lambda: ok(broker.renew(agent.token))))
    assert [(event["event_type"], event["outcome"], event["agent_id"], event["task_id"], event["orch_id"]) for event in events] == [
        ("token_renewed", "success", agent.id, "task-e", "orch-e")
    ]
    assert moved['tokens_issued_total{scope="renew:count:x"}'] == 1
    assert not [name for name in moved if name.startswith("tokens_revoked_total")]


def test_of_parallel_renewals_one_wins(broker: Broker) -> None:
    """§20.1 W2."""
    agent = broker.agent()
    replies = at_once(32, lambda _: broker.renew(agent.token))
    winners = [reply for reply in replies if reply.status == 200]
    assert len(winners) == 1
    for reply in replies:
        if reply.status != 200:
            assert (reply.status, reply.json["detail"]) in ((403, REVOKED), (401, "token verification failed"), (401, "token renewal failed")), reply
    assert broker.stands(winners[0].json["access_token"])
    assert types(broker.events(agent_id=agent.id)).count("token_renewed") == 1


@pytest.mark.parametrize("kind", ["admin", "app"])
def test_only_agents_renew(broker: Broker, kind: str) -> None:
    """§20.1 W16."""
    token = ok(broker.login())["access_token"] if kind == "admin" else broker.ceiling(["read:data:*"])
    expect(broker.renew(token), 403, "insufficient_scope")
    assert broker.validate(token)["valid"] is True


def test_an_expired_token_is_not_renewed(broker: Broker) -> None:
    now = int(time.time())
    token = broker.forge.token(iat=now - 400, nbf=now - 400, exp=now - 2)
    expect(broker.renew(token), 401, "unauthorized", "token verification failed")


def test_a_lower_ceiling_reaches_renewals(start: Start) -> None:
    broker = start()
    agent = broker.agent(max_ttl=600)
    broker.restart(AA_MAX_TTL="100")
    body = ok(broker.renew(agent.token))
    assert body["expires_in"] == 100
    claims = claims_of(body["access_token"])
    assert claims["exp"] - claims["iat"] == 100


@pytest.mark.real_time("the age of a session is counted in whole seconds, and one must pass")
def test_a_session_that_is_too_old_is_not_renewed(start: Start) -> None:
    """§20.1 W15."""
    broker = start(AA_MAX_SESSION_AGE="1")
    agent = broker.agent(orch_id="orch-o", task_id="task-o")
    time.sleep(2.05)
    reply, events = broker.during(lambda: broker.renew(agent.token))
    expect(reply, 401, "unauthorized", "token renewal failed")
    assert [(event["event_type"], event["outcome"], event["agent_id"], event["task_id"], event["orch_id"]) for event in events] == [
        ("token_renewal_failed", "denied", agent.id, "task-o", "orch-o")
    ]
    assert events[0]["detail"] and "resource" not in events[0]
    assert broker.validate(agent.token)["valid"] is True, "a failed renewal burns nothing"


# -- 9.2 release -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", BODIES)
def test_a_release_has_no_body_and_ignores_one(broker: Broker, body: bytes | None) -> None:
    reply = broker.release(broker.agent().token, raw=body)
    assert (reply.status, reply.body) == (204, b"")
    assert reply.header("Content-Length") in (None, "0")


def test_a_released_token_is_dead_and_a_second_release_says_so(broker: Broker) -> None:
    token = broker.agent().token
    assert broker.release(token).status == 204
    assert broker.validate(token) == INVALID
    for _ in range(2):
        expect(broker.release(token), 403, "insufficient_scope", REVOKED)
    expect(broker.renew(token), 403, "insufficient_scope", REVOKED)


def test_a_release_is_audited_and_counted(broker: Broker) -> None:
    agent = broker.agent(orch_id="orch-l", task_id="task-l")
    moved, events = broker.during(lambda: broker.moved(lambda: broker.release(agent.token)))
    assert [(event["event_type"], event["outcome"], event["agent_id"], event["task_id"], event["orch_id"]) for event in events] == [
        ("token_released", "success", agent.id, "task-l", "orch-l")
    ]
    revoked = {name: value for name, value in moved.items() if name.startswith("tokens_revoked_total")}
    assert revoked in ({'tokens_revoked_total{level="release"}': 1}, {'tokens_revoked_total{level="token"}': 1})


def test_a_release_leaves_other_sessions_of_the_same_task_alone(broker: Broker) -> None:
    one, other = broker.agent(), broker.agent()
    broker.release(one.token)
    assert broker.stands(other.token)


def test_releasing_the_predecessor_does_not_end_the_successor(broker: Broker) -> None:
    agent = broker.agent()
    new = broker.renewed(agent.token)
    expect(broker.release(agent.token), 403, "insufficient_scope", REVOKED)
    assert broker.stands(new)


def test_parallel_releases_are_audited_once_each(broker: Broker) -> None:
    agent = broker.agent()
    statuses = sorted(reply.status for reply in at_once(16, lambda _: broker.release(agent.token)))
    assert set(statuses) <= {204, 403} and 204 in statuses
    assert types(broker.events(agent_id=agent.id)).count("token_released") == statuses.count(204)


def test_renewals_and_releases_survive_a_restart(start: Start) -> None:
    broker = start()
    kept = broker.agent()
    replaced, released = broker.agent(), broker.agent()
    successor = broker.renewed(replaced.token)
    broker.release(released.token)
    broker.restart()
    assert [broker.stands(token) for token in (kept.token, successor, replaced.token, released.token)] == [True, True, False, False]
    broker.crash()
    assert [broker.stands(token) for token in (kept.token, successor, replaced.token, released.token)] == [True, True, False, False]
