"""`awrit audit verify` and the verifier of this folder share nothing but the description of the chain: over many broken trails,
both have to name the same event."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import chain
import pytest

from harness import Broker, program


def awrit(broker: Broker | None, *arguments: str) -> tuple[int, str]:
    env = {"AACTL_BROKER_URL": broker.url, "AACTL_ADMIN_SECRET": broker.secret} if broker else {}
    done = subprocess.run(
        [program("AGENTWRIT_AWRIT"), "audit", *arguments], env=env, capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def export(shared_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict], Path]:
    """The events of a trail with delegations, denials and extra fields, as awrit exports them, and the key set's file."""
    lead, helper = shared_broker.agent(task_id="lead"), shared_broker.agent()
    shared_broker.delegated(lead.token, helper.agent_id, ["read:data:<x>"])
    shared_broker.post("/v1/admin/auth", {"secret": "not the secret of this broker"})
    shared_broker.post("/v1/revoke", {"level": "task", "target": "secret=x | y"}, token=shared_broker.admin_token())
    folder = tmp_path_factory.mktemp("export")
    assert awrit(shared_broker, "verify")[0] == 0
    code, text = awrit(shared_broker, "export", "--file", str(folder / "events.jsonl"))
    assert code == 0, text
    keys = folder / "jwks.json"
    keys.write_text(shared_broker.get("/.well-known/jwks.json").text)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert {event["event_type"] for event in events} >= {"delegation_created", "admin_auth_failed", "token_revoked"}
    return events, keys


def verdicts(events: list[dict], keys: Path, folder: Path) -> tuple[str | None, str | None]:
    """The event that chain.py names, and the one that awrit names; None for an intact trail."""
    path = folder / "events.jsonl"
    # awrit wants the broker's own spelling of each line: compact, and Go's escapes.
    path.write_text("".join(go_json(event) + "\n" for event in events))
    fault = chain.first_fault(events, json.loads(keys.read_text()))
    code, text = awrit(None, "verify", "--file", str(path), "--jwks", str(keys))
    named = re.search(r"broken at (evt-\d{6,}): ", text)
    assert (code == 0) == (named is None), text
    return fault and fault[0], named and named[1]


def go_json(event: dict) -> str:
    text = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def test_both_find_an_exported_trail_intact(export, tmp_path):
    assert verdicts(*export, tmp_path) == (None, None)


def test_both_name_the_event_whose_member_was_changed(export, tmp_path):
    events, keys = export
    tried = 0
    for index in range(0, len(events), 3):
        for member in events[index]:
            changed = [dict(event) for event in events]
            value = changed[index][member]
            changed[index][member] = value + 1 if isinstance(value, int) else value + "0"
            ours, theirs = verdicts(changed, keys, tmp_path)
            assert ours == changed[index]["id"] and theirs == events[index]["id"], (index, member)
            tried += 1
    assert tried > 30


def test_both_name_the_first_missing_or_misplaced_event(export, tmp_path):
    events, keys = export
    for index in range(0, len(events) - 1, 2):
        without = events[:index] + events[index + 1 :]
        swapped = [*events[:index], events[index + 1], events[index], *events[index + 2 :]]
        for trail in (without, swapped):
            ours, theirs = verdicts(trail, keys, tmp_path)
            # The one names the event that stands there, the other the event that should.
            assert (ours, theirs) == (events[index + 1]["id"], events[index]["id"])
