"""docs/wire-contract.md §15: the audit trail, its hash chain recomputed by these few lines, and its query."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from blackbox.driver import Broker, Start, at_once, types, unique
from blackbox.wire import expect, ok

QUERY = "/v1/audit/events"
FIELDS = [
    "id", "timestamp", "event_type", "agent_id", "task_id", "orch_id", "detail", "resource", "outcome",
    "deleg_depth", "deleg_chain_hash", "bytes_transferred",
]  # fmt: skip
# Members of docs/kubernetes-api.md; they stand after bytes_transferred and before hash.
EXTRA = {"actor", "source", "correlation_id", "policy_uid", "pod_uid", "error_kind", "ext_hash"}
NUMBERS = {"deleg_depth", "bytes_transferred"}
REQUIRED = {"id", "timestamp", "event_type", "detail", "hash", "prev_hash"}
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z")


def event_hash(event: dict[str, Any]) -> str:
    values = [event["prev_hash"]]
    values += [str(event.get(name, 0 if name in NUMBERS else "")) for name in FIELDS]
    return hashlib.sha256("|".join(values).encode()).hexdigest()


def verify(events: list[dict[str, Any]]) -> None:
    """The whole trail from its first event: ids, order, hashes, shape."""
    previous = "0" * 64
    for number, event in enumerate(events, 1):
        assert event["id"] == f"evt-{number:06d}"
        assert event["prev_hash"] == previous
        assert event["hash"] == event_hash(event), event
        previous = event["hash"]
        assert REQUIRED <= set(event)
        known = [name for name in event if name not in EXTRA]
        assert known == [name for name in [*FIELDS, "hash", "prev_hash"] if name in event], list(event)
        assert STAMP.fullmatch(event["timestamp"]), event
        for name in set(event) - {"detail"}:
            assert event[name] not in ("", 0, None), f"{name} is empty: {event}"
        assert event.get("outcome") in (None, "success", "denied")


def busy(broker: Broker) -> None:
    """Some of everything."""
    agent = broker.agent(["read:data:*", "é:<&>:|"])
    app = broker.app()
    broker.app_login(app)
    broker.login("wrong-but-long-enough")
    broker.register(requested_scope=["x:y:z"])
    token = broker.delegated(agent.token, agent.id, ["read:data:x"])
    broker.delegate(token, agent.id, ["write:data:x"])
    broker.renewed(agent.token)
    broker.release(token)
    broker.post("/v1/revoke", token=token)
    broker.post("/v1/revoke")
    broker.revoke("task", unique("task|x"))
    broker.post("/v1/admin/launch-tokens", {}, token=broker.admin)


def test_the_whole_chain_verifies(start: Start) -> None:
    broker = start()
    busy(broker)
    events = broker.events()
    verify(events)
    assert len(events) == broker.count() == ok(broker.get("/v1/health"))["audit_events_count"]
    assert len(set(types(events))) >= 15


def test_the_chain_goes_on_after_a_restart_and_a_kill(start: Start) -> None:
    broker = start()
    broker.agent()
    before = broker.events()
    broker.restart()
    assert broker.get("/v1/metrics").status == 200
    assert broker.metrics()["agentwrit_audit_events_loaded"] >= len(before)
    broker.agent()
    broker.crash()
    broker.agent()
    after = broker.events()
    assert after[: len(before)] == before
    verify(after)


def test_parallel_events_make_one_chain(start: Start) -> None:
    broker = start()
    admin = broker.admin
    at_once(24, lambda number: [broker.launch(token=admin, agent_name=f"n{number}-{turn}") for turn in range(5)])
    events = broker.events()
    verify(events)
    assert types(events).count("launch_token_issued") == 120


def test_a_bar_in_a_value_is_hashed_as_it_is(broker: Broker) -> None:
    _, events = broker.during(lambda: broker.revoke("agent", "a|b|c"))
    assert events[0]["agent_id"] == "a|b|c"
    assert events[0]["hash"] == event_hash(events[0])


def test_timestamps_are_utc_and_ascend(broker: Broker) -> None:
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    _, events = broker.during(lambda: [broker.launch_token() for _ in range(3)])
    stamps = [instant(event["timestamp"]) for event in events]
    assert stamps == sorted(stamps)
    assert before < stamps[0] and stamps[-1] <= datetime.now(timezone.utc) + timedelta(seconds=1)


def instant(stamp: str) -> datetime:
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", stamp))


def test_every_event_shows_in_the_metric(broker: Broker) -> None:
    moved = broker.moved(lambda: broker.launch_token())
    assert moved['audit_events_total{event_type="launch_token_issued"}'] == 1


# -- 15.5 the query ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trail(broker: Broker) -> dict[str, Any]:
    """Six events that nothing else shares the task of: 3 registrations, 3 issues."""
    task = unique("trail")
    agents = [broker.agent(task_id=task, orch_id="trail") for _ in range(3)]
    return {"task": task, "agents": agents, "events": broker.events(task_id=task)}


def test_the_answer(broker: Broker, trail: dict[str, Any]) -> None:
    body = broker.audit(task_id=trail["task"])
    assert list(body) == ["events", "total", "offset", "limit"]
    assert (body["total"], body["offset"], body["limit"]) == (6, 0, 100)
    ids = [event["id"] for event in body["events"]]
    assert ids == sorted(ids)
    assert types(body["events"]) == ["agent_registered", "token_issued"] * 3


def test_filters_combine(broker: Broker, trail: dict[str, Any]) -> None:
    task, agent = trail["task"], trail["agents"][1]
    assert broker.audit(task_id=task, event_type="token_issued")["total"] == 3
    assert broker.audit(agent_id=agent.id)["total"] == 2
    assert broker.audit(agent_id=agent.id, task_id=task, event_type="token_issued", outcome="success")["total"] == 1
    assert broker.audit(agent_id=agent.id, outcome="denied")["total"] == 0
    assert {event["outcome"] for event in broker.audit(outcome="denied", limit=50)["events"]} == {"denied"}


def test_an_empty_filter_is_none(broker: Broker, trail: dict[str, Any]) -> None:
    body = ok(broker.get(f"{QUERY}?task_id={trail['task']}&agent_id=&event_type=&outcome=&since=&until=&limit=&offset=", token=broker.admin))
    assert (body["total"], body["limit"], body["offset"]) == (6, 100, 0)


@pytest.mark.parametrize("query", ["agent_id=none", "task_id=none", "event_type=none", "outcome=maybe", "event_type=TOKEN_ISSUED", "agent_id=spiffe"])
def test_an_unknown_value_matches_nothing(broker: Broker, query: str) -> None:
    reply = broker.get(f"{QUERY}?{query}", token=broker.admin)
    assert reply.body == b'{"events":[],"total":0,"offset":0,"limit":100}\n'


@pytest.mark.parametrize("query", ["agent_id='", "task_id=%25", "task_id=__", "agent_id=%00", "event_type=x'%20OR%201=1--", "agent_id=%ff", "task_id=%F0%9F%98%80"])
def test_filters_are_values_not_patterns_or_code(broker: Broker, query: str) -> None:
    assert ok(broker.get(f"{QUERY}?{query}", token=broker.admin))["total"] == 0


def test_paging(broker: Broker, trail: dict[str, Any]) -> None:
    task, whole = trail["task"], trail["events"]
    for offset in range(8):
        for limit in (1, 2, 6, 7):
            body = broker.audit(task_id=task, offset=offset, limit=limit)
            assert body["events"] == whole[offset : offset + limit]
            assert (body["total"], body["offset"], body["limit"]) == (6, offset, limit)
    assert broker.audit(task_id=task, offset=10**9)["events"] == []


def test_a_limit_above_a_thousand_is_a_thousand(start: Start) -> None:
    """§20.1 W24."""
    broker = start()
    for number in range(251):
        broker.post("/v1/admin/launch-tokens", {"agent_name": str(number), "allowed_scope": ["a:b:c"]}, token=broker.admin)
    for limit in ("1000", "1001", "5000", "9223372036854775807"):
        body = broker.audit(limit=limit)
        assert body["limit"] == 1000
        assert body["total"] == len(body["events"]) == 252
    assert len(broker.audit()["events"]) == 100


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=-1", "limit=x", "limit=1.5", "limit=1e3", "limit=99999999999999999999", "limit=%20",
        "offset=-1", "offset=x", "since=yesterday", "until=x", "since=2026-01-01", "until=2026-13-01T00:00:00Z", "since=2026-01-01T00:00:00",
        "since=1767225600", "until=2026-01-01T00:00:00+01:00", "since=2026-01-01%2000:00:00Z", "since=2026-01-01t00:00:00Z",
        "until=2026-01-01T00:00:00z", "until=2026-12-31T23:59:60Z",
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_and_named(broker: Broker, query: str) -> None:
    """§20.1 W24. An unescaped `+` arrives as a space."""
    expect(broker.get(f"{QUERY}?{query}", token=broker.admin), 400, "invalid_request", contains=query.split("=")[0])


def test_since_and_until_include_their_ends(broker: Broker, trail: dict[str, Any]) -> None:
    task, events = trail["task"], trail["events"]
    stamps = [event["timestamp"] for event in events]
    for at, stamp in enumerate(stamps):
        assert broker.audit(task_id=task, since=stamp)["total"] == 6 - stamps.index(stamp)
        assert broker.audit(task_id=task, until=stamp)["total"] == 6 - stamps[::-1].index(stamp)
        same = broker.audit(task_id=task, since=stamp, until=stamp)["events"]
        assert events[at] in same
    assert broker.audit(task_id=task, since=stamps[-1], until=stamps[0])["total"] == (6 if stamps[0] == stamps[-1] else 0)


@pytest.mark.parametrize("form", ["{}Z", "{}.0Z", "{}.000000000Z", "{}+00:00", "{}-00:00"])
def test_time_forms(broker: Broker, trail: dict[str, Any], form: str) -> None:
    stamp = form.format((datetime.now(timezone.utc) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S"))
    assert broker.audit(task_id=trail["task"], until=stamp)["total"] == 6
    assert broker.audit(task_id=trail["task"], since=stamp)["total"] == 0


def test_offsets_of_zones_count(broker: Broker, trail: dict[str, Any]) -> None:
    now = datetime.now(timezone.utc)
    east = now.astimezone(timezone(timedelta(hours=5))).isoformat(timespec="seconds")
    assert "+05:00" in east
    assert broker.audit(task_id=trail["task"], until=(now + timedelta(seconds=2)).astimezone(timezone(timedelta(hours=5))).isoformat())["total"] == 6
    assert broker.audit(task_id=trail["task"], since=(now + timedelta(seconds=60)).astimezone(timezone(timedelta(hours=-8))).isoformat())["total"] == 0


def test_reading_is_not_audited(broker: Broker) -> None:
    _, events = broker.during(lambda: [broker.audit() for _ in range(5)])
    assert events == []


def test_unknown_parameters_are_ignored(broker: Broker, trail: dict[str, Any]) -> None:
    assert ok(broker.get(f"{QUERY}?task_id={trail['task']}&colour=red", token=broker.admin))["total"] == 6


# -- 15.4 the types: who emits which is in the files of the endpoints; here that nothing else is emitted -----------------------

TYPES = {
    "admin_auth", "admin_auth_failed", "launch_token_issued", "launch_token_denied", "scope_ceiling_exceeded",
    "agent_registered", "token_issued", "registration_policy_violation", "token_renewed", "token_renewal_failed",
    "token_released", "token_revoked", "delegation_created", "delegation_attenuation_violation", "token_auth_failed",
    "token_revoked_access", "scope_violation", "app_registered", "app_updated", "app_deregistered", "app_authenticated",
    "app_auth_failed", "resource_accessed", "scopes_ceiling_updated", "app_rate_limited",
    # docs/kubernetes-api.md
    "attestation_denied", "policy_applied", "policy_removed", "pod_ended", "agent_superseded", "pod_quarantined",
    "pod_released", "bulk_revocation", "registration_denied", "store_restored", "clock_accepted", "installation_adopted", "audit_checkpoint",
    "audit_segment_dropped",
}  # fmt: skip


def test_only_known_types_are_emitted(broker: Broker) -> None:
    busy(broker)
    assert set(types(broker.events())) <= TYPES


@pytest.mark.last
def test_after_all_that_happened_the_shared_trail_verifies(broker: Broker) -> None:
    verify(broker.events())
