"""docs/wire-contract.md §13: the tokens as such, read and forged by other people's code."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blackbox.driver import INVALID, Broker, Start
from blackbox.jose import b64url, claims_of, claims_text, header_of, raw_public, thumbprint, unb64url
from blackbox.wire import compact, expect, ok

ORDER = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "scope", "task_id", "orch_id", "delegation_chain", "chain_hash"]
ALWAYS = {"iss", "sub", "exp", "nbf", "iat", "jti", "scope"}
# §20.1 W3: what binds a delegation beyond the contract's claims is in a claim that readers may ignore.
EXTRA = {"delegation_nodes"}
OF_KIND = {
    "admin": ALWAYS,
    "app": ALWAYS,
    "agent": ALWAYS | {"task_id", "orch_id", "sid"},
    "delegated": ALWAYS | {"task_id", "orch_id", "sid", "delegation_chain", "chain_hash"},
}


def token_of(broker: Broker, kind: str) -> str:
    if kind == "admin":
        return broker.admin
    if kind == "app":
        return broker.ceiling(["read:data:*"])
    agent = broker.agent()
    return agent.token if kind == "agent" else broker.delegated(agent.token, agent.id, ["read:data:x"])


@pytest.mark.parametrize("kind", OF_KIND)
def test_the_header(broker: Broker, kind: str) -> None:
    token = token_of(broker, kind)
    kid = thumbprint(raw_public(broker.forge.key))
    assert unb64url(token.split(".")[0]) == b'{"alg":"EdDSA","typ":"JWT","kid":"%s"}' % kid.encode()
    assert re.fullmatch(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}", token)


@pytest.mark.parametrize("kind", OF_KIND)
def test_the_claims_their_order_and_their_types(broker: Broker, kind: str) -> None:
    token = token_of(broker, kind)
    claims = claims_of(token)
    assert [name for name in claims if name not in EXTRA] == [name for name in ORDER if name in OF_KIND[kind]]
    assert claims_text(token) == compact(claims)
    assert claims["iss"] == ""
    assert re.fullmatch("[0-9a-f]{32}", claims["jti"])
    for name in ("exp", "nbf", "iat"):
        assert type(claims[name]) is int
    assert claims["nbf"] == claims["iat"]
    assert abs(claims["iat"] - time.time()) < 400
    assert claims["exp"] > claims["iat"]
    assert isinstance(claims["scope"], list)


def test_issuer_and_audience_when_set(start: Start) -> None:
    broker = start(AA_ISSUER="issuer", AA_AUDIENCE="audience")
    for kind in OF_KIND:
        claims = claims_of(token_of(broker, kind))
        assert claims["iss"] == "issuer"
        assert claims["aud"] == ["audience"]
        assert [name for name in claims if name not in EXTRA] == [name for name in ORDER if name in OF_KIND[kind] | {"aud"}]


@pytest.mark.parametrize("kind", OF_KIND)
def test_pyjwt_verifies_it(broker: Broker, kind: str) -> None:
    token = token_of(broker, kind)
    assert jwt.decode(token, broker.forge.key.public_key(), algorithms=["EdDSA"]) == claims_of(token)
    assert jwt.get_unverified_header(token) == header_of(token)


def test_every_token_has_a_jti_of_its_own(broker: Broker) -> None:
    agent = broker.agent()
    tokens = [ok(broker.login())["access_token"], agent.token, broker.renewed(agent.token), broker.agent().token]
    assert len({claims_of(token)["jti"] for token in tokens}) == 4


def test_the_key_is_published(broker: Broker) -> None:
    """§20 W32."""
    body = json.loads(broker.get("/.well-known/jwks.json").body)
    kid = broker.forge.kid
    (key,) = [key for key in body["keys"] if key["kid"] == kid]
    assert (key["kty"], key["crv"]) == ("OKP", "Ed25519")
    assert unb64url(key["x"]) == raw_public(broker.forge.key)
    assert "d" not in key
    token = broker.agent().token
    assert jwt.decode(token, jwt.PyJWK(key).key, algorithms=["EdDSA"]) == claims_of(token)


def test_the_issuer_leads_to_the_key(start: Start) -> None:
    path = "/.well-known/openid-configuration"
    expect(start(AA_ISSUER="agentwrit").get(path), 404, "not_found")
    body = ok(start(AA_ISSUER="https://broker.example").get(path))
    assert (body["issuer"], body["jwks_uri"]) == ("https://broker.example", "https://broker.example/.well-known/jwks.json")
    assert body["id_token_signing_alg_values_supported"] == ["EdDSA"]


# -- 13.3 verification --------------------------------------------------------------------------------------------------
# Tokens signed by the broker's own key, so that exactly one thing about each is wrong.


def test_a_token_signed_by_the_key_is_valid(broker: Broker) -> None:
    """What makes the cases below mean something. A token needs no record of its issue."""
    assert broker.stands(broker.forge.token())
    admin = broker.forge.token(sub="admin", scope=["admin:audit:*"], task_id=None, orch_id=None)
    assert broker.get("/v1/audit/events?limit=1", token=admin).status == 200


def test_a_scope_of_the_endpoint_is_enough_for_an_admin(broker: Broker) -> None:
    """§5: the covering rule, so a literal identifier is not enough where `*` is asked."""
    narrow = broker.forge.token(sub="admin", scope=["admin:audit:x"], task_id=None, orch_id=None)
    assert broker.get("/v1/audit/events", token=narrow).status == 403


HEADERS: dict[str, Any] = {
    "alg none": {"alg": "none"},
    "alg None": {"alg": "None"},
    "alg HS256": {"alg": "HS256"},
    "alg ES256": {"alg": "ES256"},
    "alg Ed25519": {"alg": "Ed25519"},
    "alg eddsa": {"alg": "eddsa"},
    "alg empty": {"alg": ""},
    "alg absent": {"alg": None},
    "alg number": {"alg": 5},
    "alg list": {"alg": ["EdDSA"]},
    "other kid": {"kid": "x"},
    "kid of another key": {"kid": thumbprint(bytes(32))},
    "kid number": {"kid": 5},
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_that_is_refused(broker: Broker, kind: str) -> None:
    token = broker.forge.sign(broker.forge.claims(), broker.forge.header(**HEADERS[kind]))
    assert not broker.stands(token)


@pytest.mark.parametrize("changes", [{"kid": None}, {"kid": ""}, {"typ": None}, {"typ": "at+jwt"}, {"typ": ""}, {"cty": "x", "extra": [1]}])
def test_a_header_that_is_taken(broker: Broker, changes: dict) -> None:
    """No kid means the broker's own key; `typ` is not checked; unknown members are ignored."""
    assert broker.stands(broker.forge.sign(broker.forge.claims(), broker.forge.header(**changes)))


def test_a_key_in_the_header_is_never_used(broker: Broker) -> None:
    own = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64url(raw_public(own))}
    for header in ({"jwk": jwk}, {"jwk": jwk, "kid": None}, {"jku": "http://127.0.0.1:1/"}, {"x5c": ["AA"]}, {"kid": "../../dev/null"}):
        assert not broker.stands(broker.forge.sign(broker.forge.claims(), broker.forge.header(**header), key=own))


def test_the_public_key_is_no_hmac_secret(broker: Broker) -> None:
    public = broker.forge.key.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for secret in (raw_public(broker.forge.key), pem):
        parts = [b64url(json.dumps(part).encode()) for part in (broker.forge.header(alg="HS256"), broker.forge.claims())]
        text = ".".join(parts)
        assert not broker.stands(text + "." + b64url(hmac.new(secret, text.encode(), hashlib.sha256).digest()))


@pytest.mark.parametrize("shape", ["no signature", "empty signature", "four parts", "empty header", "empty claims", "swapped", "short signature", "long signature"])
def test_a_shape_that_is_refused(broker: Broker, shape: str) -> None:
    header, claims, signature = broker.forge.token().split(".")
    token = {
        "no signature": f"{header}.{claims}",
        "empty signature": f"{header}.{claims}.",
        "four parts": f"{header}.{claims}.{signature}.x",
        "empty header": f".{claims}.{signature}",
        "empty claims": f"{header}..{signature}",
        "swapped": f"{claims}.{header}.{signature}",
        "short signature": f"{header}.{claims}.{signature[:-2]}",
        "long signature": f"{header}.{claims}.{signature}AA",
    }[shape]
    assert not broker.stands(token)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_base64url_is_strict(broker: Broker, part: int) -> None:
    """§20.1 W35: one token is one string."""
    parts = broker.forge.token().split(".")
    # In 86 characters for 64 bytes the last one has four idle bits: 16 spellings of one signature.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    idle = alphabet[(alphabet.index(parts[2][-1]) & 0b110000) | ((alphabet.index(parts[2][-1]) + 1) & 0b001111)]
    spellings = [parts[part] + "=", parts[part] + "==", parts[part][:8] + "\n" + parts[part][8:], parts[part].replace("-", "+").replace("_", "/") + "="]
    if part == 2:
        spellings.append(parts[2][:-1] + idle)
    for spelling in spellings:
        token = ".".join([*parts[:part], spelling, *parts[part + 1 :]])
        assert broker.validate(token) == INVALID, spelling


@pytest.mark.parametrize("raw", [b"not-json", b"[]", b"null", b'"x"', b"{", b"", b"\xff\xfe"])
def test_header_and_claims_must_be_objects(broker: Broker, raw: bytes) -> None:
    forge = broker.forge
    assert not broker.stands(forge.sign(forge.claims(), raw))
    assert not broker.stands(forge.sign(raw))


def now() -> int:
    return int(time.time())


CLAIMS: dict[str, Any] = {
    "no sub": {"sub": None},
    "empty sub": {"sub": ""},
    "sub number": {"sub": 5},
    "no jti": {"jti": None},
    "empty jti": {"jti": ""},
    "no exp": {"exp": None},
    "exp zero": {"exp": 0},
    "exp negative": {"exp": -1},
    "exp text": {"exp": "9999999999"},
    "exp fraction": {"exp": 9999999999.5},
    "nbf text": {"nbf": "0"},
    "scope text": {"scope": "read:data:*"},
    "scope of numbers": {"scope": [5]},
    "aud number": {"aud": 5},
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_claims_that_are_refused(broker: Broker, kind: str) -> None:
    assert not broker.stands(broker.forge.token(**CLAIMS[kind]))


@pytest.mark.parametrize(("changes", "stands"), [({"exp": -2}, False), ({"exp": -3600}, False), ({"nbf": 30}, False), ({"nbf": 100_000}, False), ({"exp": 60}, True), ({"nbf": -60}, True)])
def test_times_are_checked_without_leeway(broker: Broker, changes: dict[str, int], stands: bool) -> None:
    token = broker.forge.token(**{name: now() + offset for name, offset in changes.items()})
    assert broker.stands(token) is stands


def test_a_token_is_still_good_in_second_exp(broker: Broker) -> None:
    """Asked within that second, as far as two clock readings around the question can tell."""
    for _ in range(5):
        second = now()
        answer = broker.validate(broker.forge.token(iat=second - 10, nbf=second - 10, exp=second))["valid"]
        if now() == second:
            assert answer is True
            return
    raise AssertionError("no question fitted into a second")


def test_no_nbf_or_zero_means_no_lower_bound(broker: Broker) -> None:
    assert broker.stands(broker.forge.token(nbf=0))
    assert broker.stands(broker.forge.token(nbf=None))


def test_the_issuer_counts_only_when_set(start: Start, broker: Broker) -> None:
    assert broker.stands(broker.forge.token(iss="anybody"))
    assert broker.stands(broker.forge.token(iss=None))
    strict = start(AA_ISSUER="me")
    assert strict.stands(strict.forge.token(iss="me"))
    for other in ("you", "", "Me", "me ", None):
        assert not strict.stands(strict.forge.token(iss=other)), other


def test_revocation_comes_last(broker: Broker) -> None:
    claims = broker.forge.claims()
    broker.revoke("token", claims["jti"])
    assert broker.post("/v1/token/renew", token=broker.forge.sign(claims)).status == 403
    late = {**claims, "exp": now() - 2}
    assert broker.post("/v1/token/renew", token=broker.forge.sign(late)).status == 401


def test_a_token_of_another_key_is_refused(broker: Broker) -> None:
    other = Ed25519PrivateKey.generate()
    assert not broker.stands(broker.forge.sign(broker.forge.claims(), key=other))
    assert not broker.stands(broker.forge.sign(broker.forge.claims(), broker.forge.header(kid=None), key=other))
    assert not broker.stands(broker.forge.sign(broker.forge.claims(), broker.forge.header(kid=thumbprint(raw_public(other))), key=other))


def test_a_changed_byte_anywhere_is_refused(broker: Broker) -> None:
    token = broker.agent().token
    for at in range(0, len(token), 7):
        if token[at] != ".":
            changed = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
            assert broker.validate(changed) == INVALID, at
    assert broker.validate(token)["valid"] is True


# -- 13.4 lifetimes -----------------------------------------------------------------------------------------------------


def test_the_lifetimes_of_all_kinds_and_the_one_ceiling(start: Start) -> None:
    def lifetimes(broker: Broker) -> dict[str, int]:
        return {kind: (lambda claims: claims["exp"] - claims["iat"])(claims_of(token_of(broker, kind))) for kind in OF_KIND}

    assert lifetimes(start()) == {"admin": 300, "app": 1800, "agent": 300, "delegated": 60}
    assert lifetimes(start(AA_MAX_TTL="50")) == {"admin": 50, "app": 50, "agent": 50, "delegated": 50}
    assert lifetimes(start(AA_MAX_TTL="0", AA_ADMIN_TOKEN_TTL="100000", AA_DEFAULT_TTL="90000")) == {"admin": 100_000, "app": 1800, "agent": 90_000, "delegated": 60}
