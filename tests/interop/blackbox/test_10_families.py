"""docs/wire-contract.md §10 and §20.1 W3, W4: what ends with a delegating token."""

from __future__ import annotations

import pytest

from blackbox.driver import Broker, Start
from blackbox.jose import claims_of
from blackbox.wire import ok


def family(broker: Broker) -> dict[str, str]:
    """root -> child -> grandchild, and a sibling of the child."""
    root, target = broker.agent(), broker.agent()
    child = broker.delegated(root.token, target.id, ["read:data:*"])
    return {
        "root": root.token,
        "child": child,
        "grandchild": broker.delegated(child, root.id, ["read:data:*"]),
        "sibling": broker.delegated(root.token, target.id, ["read:data:*"]),
    }


def standing(broker: Broker, tokens: dict[str, str]) -> set[str]:
    return {name for name, token in tokens.items() if broker.stands(token)}


def test_a_family_shares_its_session(broker: Broker) -> None:
    tokens = family(broker)
    assert standing(broker, tokens) == {"root", "child", "grandchild", "sibling"}
    sids = {claims_of(token)["sid"] for token in tokens.values()}
    assert len(sids) == 1 and sids.pop()


@pytest.mark.parametrize(
    ("released", "left"),
    [
        ("root", set()),
        ("child", {"root", "sibling"}),
        ("grandchild", {"root", "child", "sibling"}),
        ("sibling", {"root", "child", "grandchild"}),
    ],
)
def test_a_release_ends_descendants_not_ancestors_or_siblings(broker: Broker, released: str, left: set[str]) -> None:
    tokens = family(broker)
    assert broker.release(tokens[released]).status == 204
    assert standing(broker, tokens) == left


@pytest.mark.parametrize(("revoked", "left"), [("root", set()), ("child", {"root", "sibling"}), ("grandchild", {"root", "child", "sibling"})])
def test_a_revoked_jti_ends_the_descendants(broker: Broker, revoked: str, left: set[str]) -> None:
    tokens = family(broker)
    broker.revoke("token", claims_of(tokens[revoked])["jti"])
    assert standing(broker, tokens) == left


def test_a_renewal_kills_no_child(broker: Broker) -> None:
    tokens = family(broker)
    renewed = broker.renewed(tokens["root"])
    assert standing(broker, tokens) == {"child", "grandchild", "sibling"}
    # And the successor is still their ancestor.
    broker.release(renewed)
    assert standing(broker, tokens) == set()


def test_a_renewed_child_is_still_a_child(broker: Broker) -> None:
    tokens = family(broker)
    renewed = broker.renewed(tokens["child"])
    assert broker.stands(tokens["grandchild"])
    broker.release(tokens["root"])
    assert not broker.stands(renewed)
    assert not broker.stands(tokens["grandchild"])


def test_a_revoked_agent_ends_what_it_delegated(broker: Broker) -> None:
    root, target = broker.agent(), broker.agent()
    child = broker.delegated(root.token, target.id, ["read:data:*"])
    broker.revoke("agent", root.id)
    assert not broker.stands(root.token)
    assert not broker.stands(child)
    assert broker.stands(target.token)


def test_a_revoked_agent_is_no_target(broker: Broker) -> None:
    """§20.1 W17."""
    root, target = broker.agent(), broker.agent()
    broker.revoke("agent", target.id)
    reply = broker.delegate(root.token, target.id, ["read:data:x"])
    assert reply.status in (403, 404), reply


def test_delegation_survives_a_restart(start: Start) -> None:
    """§17.6: agents are kept, so they can still be delegated to; what was ended stays so."""
    broker = start()
    tokens = family(broker)
    target = claims_of(tokens["child"])["sub"]
    broker.release(tokens["sibling"])
    broker.restart()
    assert standing(broker, tokens) == {"root", "child", "grandchild"}
    ok(broker.delegate(tokens["root"], target, ["read:data:x"]))
    broker.release(tokens["child"])
    assert standing(broker, tokens) == {"root"}
