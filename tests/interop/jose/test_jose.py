"""Every kind of token, verified offline by PyJWT and by npm's jose with nothing but the published key set."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from uuid import uuid4

import pytest
from verifiers import Refused, Verified, by_node, by_pyjwt, thumbprint

from harness import Broker, claims_of, header_of

Verify = Callable[..., Verified]


@pytest.fixture(params=[by_pyjwt, by_node], ids=["pyjwt", "node-jose"])
def verify(request: pytest.FixtureRequest) -> Verify:
    """verify(broker or URL of a key set, token, issuer=None, audience=None)"""

    def run(keys: Broker | str, token: str, issuer: str | None = None, audience: str | None = None) -> Verified:
        url = keys if isinstance(keys, str) else keys.url + "/.well-known/jwks.json"
        return request.param(url, token, issuer, audience)

    return run


@contextmanager
def key_set(keys: list[dict]) -> Iterator[str]:
    """URL of a key set that someone else serves."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"keys": keys}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/jwks.json"
        finally:
            server.shutdown()
            thread.join()


def published(broker: Broker) -> dict:
    keys = broker.get("/.well-known/jwks.json").json()["keys"]
    assert len(keys) == 1
    return keys[0]


def renewed(broker: Broker) -> str:
    return broker.post("/v1/token/renew", token=broker.agent().token).json()["access_token"]


def app(broker: Broker) -> str:
    return broker.app_token(broker.app(f"jose-{uuid4().hex[:8]}", ["read:data:*"]))


TOKENS = {"admin": Broker.admin_token, "app": app, "agent": lambda broker: broker.agent().token, "renewed": renewed}


@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_verifies_and_says_what_the_broker_says(shared_broker, verify, kind):
    token = TOKENS[kind](shared_broker)
    verified = verify(shared_broker, token)
    assert verified.claims == shared_broker.validate(token)["claims"]
    assert verified.claims["iss"] == "" and "aud" not in verified.claims


def test_the_kid_is_the_rfc_7638_thumbprint_of_a_published_key(shared_broker, verify):
    verified = verify(shared_broker, shared_broker.agent().token)
    jwk = published(shared_broker)
    assert verified.header == {"alg": "EdDSA", "typ": "JWT", "kid": jwk["kid"]}
    assert verified.thumbprint == jwk["kid"] == thumbprint(jwk)
    assert (jwk["kty"], jwk["crv"], jwk["alg"], jwk["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")
    assert "d" not in jwk, "the private key is nobody's business"


def test_the_library_checks_issuer_and_audience_of_every_token(broker_factory, verify):
    issuer, audience = "https://broker.interop.example", "orders"
    broker = broker_factory(env={"AA_ISSUER": issuer, "AA_AUDIENCE": audience})
    for kind in TOKENS.values():
        token = kind(broker)
        claims = verify(broker, token, issuer, audience).claims
        assert (claims["iss"], claims["aud"]) == (issuer, [audience])
        for wrong in [("https://other.example", audience), (issuer, "billing")]:
            with pytest.raises(Refused):
                verify(broker, token, *wrong)


def test_a_token_of_another_broker_is_refused(broker_factory, verify):
    ours, theirs = broker_factory(), broker_factory()
    token = theirs.agent().token
    assert verify(theirs, token)
    with pytest.raises(Refused):
        verify(ours, token)
    assert ours.validate(token) == {"valid": False, "error": "token is invalid or expired"}


def test_another_key_under_the_right_name_does_not_verify(broker_factory, verify):
    ours, theirs = broker_factory(), broker_factory()
    token = ours.agent().token
    posing = {**published(theirs), "kid": header_of(token)["kid"]}
    with key_set([posing]) as url, pytest.raises(Refused, match=r"InvalidSignatureError|ERR_JWS_SIGNATURE_VERIFICATION_FAILED"):
        verify(url, token)
    with key_set([published(ours)]) as url:
        assert verify(url, token).claims == claims_of(token)


def test_one_changed_byte_of_the_payload_is_refused(shared_broker, verify):
    header, payload, signature = shared_broker.agent().token.split(".")
    forged = f"{header}.{payload[:20]}{'A' if payload[20] != 'A' else 'B'}{payload[21:]}.{signature}"
    with pytest.raises(Refused):
        verify(shared_broker, forged)
    assert not shared_broker.validate(forged)["valid"]


def test_a_restart_keeps_the_key_and_a_new_key_file_ends_it(broker_factory, verify):
    broker = broker_factory()
    token = broker.agent().token
    broker.restart()
    assert verify(broker, token).claims == claims_of(token)
    broker.stop()
    (broker.folder / "signing.key").unlink()
    broker.start()
    with pytest.raises(Refused):
        verify(broker, token)
    assert verify(broker, broker.agent().token)
