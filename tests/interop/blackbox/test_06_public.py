"""docs/wire-contract.md §6: the challenge and the public validation of tokens."""

from __future__ import annotations

import re
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blackbox.driver import INVALID, Broker, Start
from blackbox.jose import Forge, claims_of, claims_text
from blackbox.wire import expect, ok


def test_a_challenge_is_64_lower_hex_for_30_seconds(broker: Broker) -> None:
    body = ok(broker.get("/v1/challenge"))
    assert list(body) == ["nonce", "expires_in"]
    assert re.fullmatch("[0-9a-f]{64}", body["nonce"])
    assert body["expires_in"] == 30


def test_challenges_differ_and_are_neither_audited_nor_refused(broker: Broker) -> None:
    nonces, events = broker.during(lambda: [broker.nonce() for _ in range(50)])
    assert len(set(nonces)) == 50
    assert events == []


def test_a_challenge_needs_no_auth_and_ignores_one(broker: Broker) -> None:
    assert broker.get("/v1/challenge", headers={"Authorization": "nonsense"}).status == 200


@pytest.mark.parametrize("body", [{}, {"token": None}, {"token": ""}, {"Token2": "x"}])
def test_validate_needs_a_token(broker: Broker, body: dict) -> None:
    expect(broker.post("/v1/token/validate", body), 400, "invalid_request", "token field is required")


def test_validate_refuses_bad_json(broker: Broker) -> None:
    expect(broker.post("/v1/token/validate", raw=b"not-json"), 400, "invalid_request", "malformed JSON body")


def invalid_tokens(broker: Broker) -> dict[str, str]:
    now = int(time.time())
    released = broker.agent().token
    broker.release(released)
    revoked = broker.agent()
    broker.revoke("agent", revoked.id)
    other = Forge(Ed25519PrivateKey.generate())
    return {
        "garbage": "garbage",
        "blank": " ",
        "dots": "..",
        "released": released,
        "revoked": revoked.token,
        "expired": broker.forge.token(iat=now - 400, nbf=now - 400, exp=now - 2),
        "wrong key": other.sign(broker.forge.claims(), broker.forge.header()),
        "wrong kid": other.token(),
        "long": "a" * 100_000,
    }


def test_every_invalid_token_gets_the_same_answer(broker: Broker) -> None:
    for name, token in invalid_tokens(broker).items():
        reply = broker.post("/v1/token/validate", {"token": token})
        assert reply.body == b'{"valid":false,"error":"token is invalid or expired"}\n', f"{name}: {reply}"
        assert reply.status == 200


def test_an_unwanted_issuer_is_not_valid(start: Start) -> None:
    broker = start()
    token = broker.agent().token
    assert claims_of(token)["iss"] == ""
    broker.restart(AA_ISSUER="https://issuer.example")
    assert broker.validate(token) == INVALID
    assert broker.validate(broker.agent().token)["claims"]["iss"] == "https://issuer.example"
    expect(broker.renew(token), 401, "unauthorized", "token verification failed")


@pytest.mark.parametrize("kind", ["admin", "app", "agent", "delegated", "renewed"])
def test_valid_tokens_of_each_kind_show_their_claims(broker: Broker, kind: str) -> None:
    agent = broker.agent()
    token = {
        "admin": lambda: broker.admin,
        "app": lambda: broker.ceiling(["read:data:*"]),
        "agent": lambda: agent.token,
        "delegated": lambda: broker.delegated(agent.token, agent.id, ["read:data:x"]),
        "renewed": lambda: broker.renewed(agent.token),
    }[kind]()
    reply = broker.post("/v1/token/validate", {"token": token})
    body = ok(reply)
    assert list(body) == ["valid", "claims"]
    assert body["valid"] is True
    assert body["claims"] == claims_of(token)
    assert list(body["claims"]) == list(claims_of(token))
    # Exactly as in the token: byte for byte.
    assert claims_text(token) in reply.body


def test_validate_is_neither_audited_nor_counted(broker: Broker) -> None:
    token = broker.agent().token

    def strike() -> None:
        for presented in (token, "x", "", broker.forge.token(sub="")):
            broker.post("/v1/token/validate", {"token": presented})

    moved, events = broker.during(lambda: broker.moved(strike))
    # The count of events includes none of the four; reading the trail is not audited either.
    assert events == []
    assert not [name for name in moved if "token" in name.split("{")[0]], moved


def test_validate_needs_no_auth_and_ignores_one(broker: Broker) -> None:
    reply = broker.post("/v1/token/validate", {"token": "x"}, headers={"Authorization": "Bearer nonsense"})
    assert ok(reply) == INVALID
