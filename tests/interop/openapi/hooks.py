"""What JSON Schema can't say about a body, said to schemathesis before it sends one."""

from __future__ import annotations

import os
import re
from typing import Any

import schemathesis

# A point of the curve; of all texts of its form, some are none.
PUBLIC_KEY = "GX9rI+FshTLGq8g4+tRO5e+pvXe7Uo8mGPxYMwzSg0k="


def whole(value: Any) -> Any:
    """Integers without a fraction: to JSON Schema 30.0 is one, and the contract (section 3) refuses it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, list):
        return [whole(item) for item in value]
    if isinstance(value, dict):
        return {name: whole(member) for name, member in value.items()}
    return value


@schemathesis.hook
def before_call(context: Any, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    # One or the other; where both are sound, the cursor alone.
    if case.query and case.query.get("cursor") and re.fullmatch("[0-9]+", str(case.query.get("offset"))):
        del case.query["offset"]
    if not isinstance(case.body, dict):
        return
    body = whole(case.body)
    key = body.get("public_key")
    if isinstance(key, str) and re.fullmatch("[A-Za-z0-9+/]{43}=", key):
        body["public_key"] = PUBLIC_KEY
    # Nobody but the test knows an agent.
    if str(body.get("delegate_to")).startswith("spiffe://"):
        body["delegate_to"] = os.environ["AGENT_ID"]
    case.body = body
