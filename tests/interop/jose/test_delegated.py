"""Delegated tokens offline: verified like any other, and their chain checked from the contract's text (section 10)."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from verifiers import by_node, by_pyjwt

from harness import Broker, claims_of

# Scopes hold any character: the last one has every one that Go's JSON writes as an escape (contract section 3).
SCOPES = {"plain": ["read:data:*", "write:data:b"], "escapes": ["read:data:<a&b>\u2028\u2029", 'read:data:\u00e4\U0001f511"\\']}


def go_json(value: object) -> str:
    """Compact JSON as Go's encoder writes it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@pytest.fixture(params=SCOPES)
def delegated(request, shared_broker: Broker) -> tuple[Broker, str, str, list[str]]:
    """Broker, the first agent's id, and the token of a second hop."""
    scope = SCOPES[request.param]
    lead, middle, last = (shared_broker.agent(scope, task_id=name) for name in ("lead", "middle", "last"))
    first = shared_broker.delegated(lead.token, middle.agent_id, scope)
    second = shared_broker.delegated(first["access_token"], last.agent_id, scope[:1], ttl=90)
    assert second["delegation_chain"] == claims_of(second["access_token"])["delegation_chain"]
    return shared_broker, lead.agent_id, second["access_token"], scope


@pytest.mark.parametrize("verify", [by_pyjwt, by_node], ids=["pyjwt", "node-jose"])
def test_a_delegated_token_verifies_like_any_other(delegated, verify):
    broker, root, token, scope = delegated
    verified = verify(broker.url + "/.well-known/jwks.json", token, None, None)
    assert verified.claims == broker.validate(token)["claims"]
    assert verified.claims["scope"] == scope[:1]
    assert verified.claims["delegation_chain"][0]["agent"] == root
    assert verified.claims["exp"] - verified.claims["iat"] <= 60, "no longer than the hop before"


def test_every_record_is_signed_by_the_brokers_key(delegated):
    broker, _, token, scope = delegated
    jwk = broker.get("/.well-known/jwks.json").json()["keys"][0]
    key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(jwk["x"] + "="))
    chain = claims_of(token)["delegation_chain"]
    assert len(chain) == 2
    for record in chain:
        assert list(record) == ["agent", "scope", "delegated_at", "signature"] and record["scope"] == scope
        signed = "|".join([record["agent"], ",".join(record["scope"]), record["delegated_at"]]).encode()
        key.verify(bytes.fromhex(record["signature"]), signed)
        with pytest.raises(InvalidSignature):
            key.verify(bytes.fromhex(record["signature"]), signed + b"x")


def test_chain_hash_is_the_hash_of_the_chain_as_the_token_has_it(delegated):
    _, _, token, _ = delegated
    claims = claims_of(token)
    text = go_json(claims["delegation_chain"])
    assert claims["chain_hash"] == hashlib.sha256(text.encode()).hexdigest()
    payload = base64.urlsafe_b64decode(token.split(".")[1] + "==").decode()
    assert f'"delegation_chain":{text}' in payload, "byte for byte"
