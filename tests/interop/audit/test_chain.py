"""The hash chain of the audit trail, checked by code that shares nothing with the broker."""

from __future__ import annotations

import copy
import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import chain
import pytest

from harness import Broker


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


def test_an_event_sealed_anew_breaks_the_next(events):
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


def test_broker_and_verifier_name_the_same_event_of_a_database_that_was_changed(broker):
    make_history(broker)
    broker.stop()
    with sqlite3.connect(broker.folder / "data.db") as database:
        rows = dict(database.execute("SELECT seq, json FROM audit_events ORDER BY seq"))
        assert chain.first_fault(map(json.loads, rows.values())) is None
        victim = next(seq for seq, text in rows.items() if "admin_auth_failed" in text)
        rows[victim] = rows[victim].replace("denied", "success")
        database.execute("UPDATE audit_events SET json = ? WHERE seq = ?", (rows[victim], victim))
    fault = chain.first_fault(map(json.loads, rows.values()))
    assert fault == (f"evt-{victim:06d}", "hash does not match the event")
    broker.start()
    assert broker.stderr.wait_for(f"FAIL.*audit chain is broken at event {victim}:"), broker.stderr.text
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
