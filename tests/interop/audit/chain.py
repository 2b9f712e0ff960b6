"""The audit chain, verified from the contract's text alone (section 15.2; kubernetes-api.md section 4 "Audit").

It reads events as GET /v1/audit/events gives them. Run it on a saved answer: python3 chain.py < events.json
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any
from collections.abc import Iterable

import rfc8785

GENESIS = "0" * 64
EXTRA_FIELDS = ("actor", "source", "correlation_id", "policy_uid", "pod_uid", "error_kind")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def event_hash(event: dict[str, Any]) -> str:
    """Thirteen values, joined by bars; absent text is empty, an absent number is 0."""
    texts = ("prev_hash", "id", "timestamp", "event_type", "agent_id", "task_id", "orch_id", "detail", "resource", "outcome")
    values = [event.get(name, "") for name in texts]
    values += [str(event.get("deleg_depth", 0)), event.get("deleg_chain_hash", ""), str(event.get("bytes_transferred", 0))]
    return sha256("|".join(values).encode())


def extra_hash(event: dict[str, Any]) -> str | None:
    """The hash that binds the fields beside the contract's, or None when the event has none."""
    extra = {name: event[name] for name in EXTRA_FIELDS if event.get(name)}
    return sha256(rfc8785.dumps(extra)) if extra else None


def first_fault(events: Iterable[dict[str, Any]], number: int = 1, prev_hash: str = GENESIS) -> tuple[str, str] | None:
    """Id of the first event that does not continue the chain, and why; None when all do."""
    for event in events:
        name = str(event.get("id"))
        if name != f"evt-{number:06d}":
            return name, f"evt-{number:06d} is missing"
        if event.get("prev_hash") != prev_hash:
            return name, "prev_hash is not the hash of the event before"
        if event.get("hash") != event_hash(event):
            return name, "hash does not match the event"
        bound, mark = extra_hash(event), " ext_hash="
        if bound is not None and not event["detail"].endswith(mark + bound):
            return name, "ext_hash does not match the extra fields"
        # An extra field that was taken away leaves its hash behind.
        if bound is None and mark in event["detail"]:
            return name, "extra fields are missing"
        number, prev_hash = number + 1, event["hash"]
    return None


if __name__ == "__main__":
    fault = first_fault(json.load(sys.stdin)["events"])
    print("the chain holds" if fault is None else f"{fault[0]}: {fault[1]}")
    sys.exit(fault is not None)
