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


# Members of the body of revoke-matching, of which exactly one may be given.
SELECTORS = {"namespace": 63, "app": 317, "policy": 317, "node": 253, "service_account": 317}


def selects_soundly(body: dict[str, Any]) -> bool:
    """Whether all that the document says of a body of revoke-matching holds."""
    texts = {**SELECTORS, "installation": 2**20}
    sound = (body.get(name) is None or (isinstance(body[name], str) and len(body[name]) <= most) for name, most in texts.items())
    flags = (body.get(name) is None or isinstance(body[name], bool) for name in ("all", "dry_run"))
    return all(sound) and all(flags)


LABEL_VALUE = "([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"


def mend_selector(spec: Any) -> None:
    """Gives values to the operators that take some, and none to the others, where all else is sound."""
    selector = spec.get("pod_selector") if isinstance(spec, dict) else None
    for requirement in selector if isinstance(selector, list) else []:
        if not isinstance(requirement, dict):
            continue
        values = requirement.get("values", [])
        if not isinstance(values, list) or not all(isinstance(one, str) and re.fullmatch(LABEL_VALUE, one) for one in values):
            continue
        if requirement.get("operator") in ("Exists", "DoesNotExist") and len(values) <= 32:
            requirement.pop("values", None)
        elif not values:
            requirement["values"] = ["web"]


def mend_client(spec: Any) -> None:
    """Of two secrets of a client one counts until it is replaced, and no more: JSON Schema can't count by a member."""
    client = spec.get("client") if isinstance(spec, dict) else None
    secrets = client.get("secrets") if isinstance(client, dict) else None
    if not isinstance(secrets, list) or len(secrets) != 2 or not all(isinstance(one, dict) for one in secrets):
        return
    if not any("until" in one for one in secrets):
        secrets[1]["until"] = 1764547200


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
    # Which operators of a label selector take values, which names a selector of pods takes, and that one is given: JSON
    # Schema could say that at great length only.
    mend_selector(body.get("spec"))
    mend_client(body.get("spec"))
    if case.operation.path.endswith("/revoke-matching") and selects_soundly(body):
        body = {"namespace": "shop", "dry_run": body.get("dry_run")}
    case.body = body
