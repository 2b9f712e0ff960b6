"""The audit chain, verified from the contract's text alone (section 15.2; docs/kubernetes-api.md section 4 "Audit").

It reads events as GET /v1/audit/events gives them. Run it on a saved answer: python3 chain.py < events.json
With the broker's key set it also checks the signed checkpoints (docs/operate.md): python3 chain.py jwks.json < events.json
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from typing import Any
from collections.abc import Iterable
from pathlib import Path

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

GENESIS = "0" * 64
MOST_UNSIGNED = 999
CHECKPOINT = re.compile(r"sequence=(?P<sequence>\d+) head=(?P<head>[0-9a-f]{64}) kid=(?P<kid>\S+) signature=(?P<signature>\S+)")
DROPPED = re.compile(
    r"first=(?P<first>evt-\d+) last=(?P<last>evt-\d+) first_hash=[0-9a-f]{64} last_hash=[0-9a-f]{64} rule=(age|bytes|full) "
    r"exported=(no|\S+ sha256=[0-9a-f]{64})"
)
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


def from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def checkpoint_fault(event: dict[str, Any], number: int, prev_hash: str, keys: dict[str, Any]) -> str | None:
    """What is wrong with a checkpoint: it must name the event before it, under a signature of a published key."""
    match = CHECKPOINT.fullmatch(event["detail"])
    if match is None:
        return "it is no checkpoint"
    if (int(match["sequence"]), match["head"]) != (number - 1, prev_hash):
        return "it is a checkpoint of another chain"
    jwk = next((key for key in keys["keys"] if key["kid"] == match["kid"]), None)
    if jwk is None:
        return "its key is not published"
    lines = ("agentwrit audit checkpoint v1", match["sequence"], match["head"], event["timestamp"])
    try:
        key = Ed25519PublicKey.from_public_bytes(from_base64url(jwk["x"]))
        key.verify(from_base64url(match["signature"]), "".join(f"{line}\n" for line in lines).encode())
    except InvalidSignature:
        return "its signature is not of that key"
    return None


def first_fault(events: Iterable[dict[str, Any]], keys: dict[str, Any] | None = None) -> tuple[str, str] | None:
    """Id of the first event that does not continue the chain, and why; None when all do. Given a key set, a trail with too
    few checkpoints is at fault too: whoever rewrites it all has no key to sign it with. A trail whose beginning was dropped
    begins with a checkpoint, and has to tell of the segment that ended right before it."""
    number, prev_hash, unsigned, gone = 1, GENESIS, 0, ""
    for event in events:
        name = str(event.get("id"))
        begins = number == 1 and name != "evt-000001" and event.get("event_type") == "audit_checkpoint"
        if begins and (match := CHECKPOINT.fullmatch(str(event.get("detail")))):
            number, prev_hash, gone = int(match["sequence"]) + 1, match["head"], f"evt-{int(match['sequence']):06d}"
        if gone and event.get("event_type") == "audit_segment_dropped":
            told = DROPPED.fullmatch(event["detail"])
            gone = "" if told and told["last"] == gone else gone
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
        unsigned = 0 if event["event_type"] == "audit_checkpoint" else unsigned + 1
        if keys is not None:
            if unsigned > MOST_UNSIGNED:
                return name, "there should have been a checkpoint"
            if unsigned == 0 and (fault := checkpoint_fault(event, number, prev_hash, keys)):
                return name, fault
        number, prev_hash = number + 1, event["hash"]
    if gone:
        return gone, "it and all before it are missing, and nothing says that they were dropped"
    return None


if __name__ == "__main__":
    key_set = json.loads(Path(sys.argv[1]).read_text()) if len(sys.argv) > 1 else None
    fault = first_fault(json.load(sys.stdin)["events"], key_set)
    print("the chain holds" if fault is None else f"{fault[0]}: {fault[1]}")
    sys.exit(fault is not None)
