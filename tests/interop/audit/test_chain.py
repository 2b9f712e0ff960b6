"""The hash chain of the audit trail, checked by code that shares nothing with the broker."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import chain
import pytest

from harness import Broker
from stores import STORE


def make_history(broker: Broker) -> list[dict]:
    """Events of many types: with and without subject, denials, extra fields, more than one page."""
    agent = broker.agent(["read:data:*"], orch_id="orch-1", task_id="task-1")
    renewed = broker.post("/v1/token/renew", token=agent.token).json()["access_token"]
    broker.post("/v1/token/renew", token=agent.token)
    broker.post("/v1/revoke", {"level": "task", "target": "task-1"}, token=renewed)
    broker.get("/v1/audit/events")
    broker.post("/v1/admin/auth", {"secret": "not the secret of this broker"})
    broker.post("/v1/register", broker.registration(requested_scope=["write:data:x"], launch_token=broker.launch_token()))
    broker.post("/v1/revoke", {"level": "agent", "target": agent.agent_id}, token=broker.admin_token())
    lead, helper = broker.agent(), broker.agent()
    broker.delegated(lead.token, helper.agent_id, ["read:data:<a&b>"])
    broker.post("/v1/delegate", {"delegate_to": helper.agent_id, "scope": ["write:data:x"]}, token=lead.token)
    broker.post("/v1/token/release", token=lead.token)
    return broker.events()


@pytest.fixture(scope="module")
def history(shared_broker: Broker) -> list[dict]:
    return make_history(shared_broker)


@pytest.fixture
def events(history: list[dict]) -> list[dict]:
    """A copy, to tamper with."""
    return copy.deepcopy(history)


def test_the_chain_holds_from_the_first_event_on(events):
    types = {event["event_type"] for event in events}
    assert types >= {
        "admin_auth",
        "admin_auth_failed",
        "launch_token_issued",
        "agent_registered",
        "token_issued",
        "token_renewed",
        "token_revoked_access",
        "scope_violation",
        "token_auth_failed",
        "registration_policy_violation",
        "token_revoked",
        "token_released",
        "delegation_created",
        "delegation_attenuation_violation",
    }
    assert any(event.get("deleg_depth") == 1 and event.get("deleg_chain_hash") for event in events)
    assert any(chain.extra_hash(event) for event in events)
    assert chain.first_fault(events) is None


def test_the_chain_holds_over_page_ends_filters_and_restarts(broker):
    make_history(broker)
    broker.restart()
    broker.agent()
    whole = broker.events()
    assert chain.first_fault(whole) is None
    paged: list[dict] = []
    while len(paged) < len(whole):
        paged += broker.events(limit="7", offset=str(len(paged)))
    assert paged == whole
    denied = broker.events(outcome="denied")
    assert denied == [event for event in whole if event.get("outcome") == "denied"]
    assert all(chain.event_hash(event) == event["hash"] for event in denied)


@pytest.mark.parametrize(
    "field",
    ["timestamp", "event_type", "agent_id", "task_id", "orch_id", "detail", "resource", "outcome", "hash", "prev_hash", "id"]
    + ["deleg_depth", "deleg_chain_hash", "bytes_transferred"],
)
def test_a_changed_field_is_found_at_its_event(events, field):
    victim = events[len(events) // 2]
    victim[field] = 7 if field in ("deleg_depth", "bytes_transferred") else victim.get(field, "") + "x"
    fault = chain.first_fault(events)
    assert fault is not None and fault[0] == victim["id"]


@pytest.mark.parametrize("change", ["alter", "remove", "remove all"])
def test_a_changed_extra_field_is_found_at_its_event(events, change):
    victim = next(event for event in events if chain.extra_hash(event))
    fields = [name for name in chain.EXTRA_FIELDS if victim.get(name)]
    if change == "alter":
        victim[fields[0]] += "x"
    else:
        for name in fields if change == "remove all" else fields[:1]:
            del victim[name]
    assert chain.first_fault(events) is not None
    assert chain.first_fault(events)[0] == victim["id"]


def test_a_removed_a_swapped_and_an_inserted_event_are_found(events):
    gone, swapped, added = copy.deepcopy(events), copy.deepcopy(events), copy.deepcopy(events)
    del gone[3]
    assert chain.first_fault(gone) == (events[4]["id"], "evt-000004 is missing")
    swapped[3], swapped[4] = swapped[4], swapped[3]
    assert chain.first_fault(swapped)[0] == events[4]["id"]
    added.insert(3, copy.deepcopy(events[3]))
    assert chain.first_fault(added)[0] == events[3]["id"]


def test_a_rewritten_event_breaks_the_next(events):
    events[3]["outcome"] = "denied"
    events[3]["hash"] = chain.event_hash(events[3])
    assert chain.first_fault(events) == (events[4]["id"], "prev_hash is not the hash of the event before")


def test_the_page_of_the_docs_verifies_a_saved_answer(shared_broker, history):
    whole = shared_broker.get("/v1/audit/events", params={"limit": "1000"}, token=shared_broker.admin_token())
    script = Path(__file__).parent / "chain.py"

    def run(text: str) -> tuple[int, str]:
        done = subprocess.run([sys.executable, script], input=text, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stdout

    assert run(whole.text) == (0, "the chain holds\n")
    forged = whole.json()
    forged["events"][2]["detail"] = "nothing happened"
    assert run(json.dumps(forged)) == (1, "evt-000003: hash does not match the event\n")


def test_broker_and_verifier_name_the_same_changed_event(broker):
    make_history(broker)
    broker.stop()
    rows = STORE.events(broker.folder)
    assert chain.first_fault(map(json.loads, rows.values())) is None
    victim = next(seq for seq, text in rows.items() if "admin_auth_failed" in text)
    rows[victim] = rows[victim].replace("denied", "success")
    STORE.rewrite(broker.folder, victim, rows[victim])
    assert STORE.events(broker.folder) == rows
    fault = chain.first_fault(map(json.loads, rows.values()))
    assert fault == (f"evt-{victim:06d}", "hash does not match the event")
    broker.start()
    assert broker.stderr.wait_for(f"FAIL.*audit chain is broken: evt-{victim:06d}: "), broker.stderr.text
    assert broker.get("/v1/health").json()["db_connected"] is False


@pytest.fixture(scope="module")
def long_history(shared_broker: Broker, history: list[dict]) -> tuple[list[dict], dict]:
    """More events than fit between two checkpoints, and the key set."""
    bearer = {"Authorization": "Bearer nobodys"}
    while shared_broker.get("/v1/health").json()["audit_events_count"] <= 2 * chain.MOST_UNSIGNED:
        for _ in range(100):
            assert shared_broker.post("/v1/token/renew", headers=bearer).status_code == 401
    events: list[dict] = []
    while page := shared_broker.events(offset=str(len(events))):
        events += page
    return events, shared_broker.get("/.well-known/jwks.json").json()


def test_checkpoints_are_frequent_and_signed_by_a_published_key(long_history):
    events, keys = long_history
    assert len([event for event in events if event["event_type"] == "audit_checkpoint"]) >= 2
    assert chain.first_fault(events, keys) is None


def sealed_anew(events: list[dict]) -> list[dict]:
    """The whole chain made to fit again, as someone could who has the database and no key."""
    prev_hash = chain.GENESIS
    for number, event in enumerate(events, 1):
        event |= {"id": f"evt-{number:06d}", "prev_hash": prev_hash}
        event["hash"] = prev_hash = chain.event_hash(event)
    return events


def test_checkpoints_reveal_a_trail_that_was_rewritten_whole(long_history):
    events, keys = long_history
    changed = copy.deepcopy(events)
    victim = next(event for event in changed if event["event_type"] == "admin_auth_failed")
    victim["outcome"] = "success"
    sealed_anew(changed)
    assert chain.first_fault(changed) is None, "the hashes alone can't tell"
    found, why = chain.first_fault(changed, keys)
    assert found > victim["id"] and why == "it is a checkpoint of another chain"
    # Nor does it help to sign with another key, or to leave the checkpoints out.
    checkpoint = next(event for event in changed if event["id"] == found)
    head = checkpoint["prev_hash"]
    checkpoint["detail"] = chain.CHECKPOINT.sub(
        lambda match: match[0].replace(match["head"], head), checkpoint["detail"], count=1
    )
    assert chain.first_fault(sealed_anew(changed), keys) == (found, "its signature is not of that key")
    bare = sealed_anew([event for event in copy.deepcopy(events) if event["event_type"] != "audit_checkpoint"])
    assert chain.first_fault(bare) is None
    assert chain.first_fault(bare, keys) == ("evt-001000", "there should have been a checkpoint")


def test_a_trail_whose_beginning_was_dropped_has_to_say_so(long_history):
    events, keys = long_history
    rest = copy.deepcopy(events[999:])
    assert chain.first_fault(rest, keys) == ("evt-000999", "it and all before it are missing, and nothing says that they were dropped")
    for last, fault in (("evt-000999", None), ("evt-000998", "evt-000999")):
        told = {
            "id": f"evt-{len(events) + 1:06d}",
            "timestamp": rest[-1]["timestamp"],
            "event_type": "audit_segment_dropped",
            "detail": f"first=evt-000001 last={last} first_hash={'a' * 64} last_hash={'b' * 64} rule=age exported=no",
            "outcome": "success",
            "prev_hash": rest[-1]["hash"],
        }
        told["hash"] = chain.event_hash(told)
        found = chain.first_fault([*rest, told], keys)
        assert (found and found[0]) == fault, found


def test_a_trail_that_was_cut_off_is_noticed_at_the_next_start(broker):
    make_history(broker)
    broker.stop()
    *rest, last = STORE.events(broker.folder)
    STORE.cut_off(broker.folder, last)
    rows = STORE.events(broker.folder)
    assert list(rows) == rest
    assert chain.first_fault(map(json.loads, rows.values())) is None, "a shorter chain is a good chain"
    broker.start()
    assert broker.stderr.wait_for(r"FAIL.*\| InitDB \|.*audit"), broker.stderr.text
    assert broker.get("/v1/health").json()["db_connected"] is False


def test_details_are_sanitised_before_they_are_hashed(broker):
    table = {
        "secret=hunter2": "secret=***REDACTED***",
        "PASSWORD=a=b": "PASSWORD=***REDACTED***",
        "my private_key=x and more": "my private_key=***REDACTED***",
        "token_value=1": "token_value=***REDACTED***",
        "plain=kept": "plain=kept",
    }
    for target in table:
        assert broker.post("/v1/revoke", {"level": "task", "target": target}, token=broker.admin_token()).status_code == 200
    events = broker.events()
    details = [event["detail"].split(" ext_hash=")[0] for event in events if event["event_type"] == "token_revoked"]
    assert [detail.split(": ", 1)[1] for detail in details] == list(table.values())
    assert chain.first_fault(events) is None


def test_no_event_holds_a_credential(broker):
    admin = broker.admin_token()
    agent = broker.agent()
    broker.post("/v1/admin/auth", {"secret": "a-wrong-secret-that-someone-typed"})
    broker.get("/v1/audit/events", token="not.a.token-but-someones")
    text = json.dumps(broker.events())
    for credential in (broker.secret, admin, agent.token, agent.launch_token, "a-wrong-secret-that-someone-typed", "someones"):
        assert credential not in text
