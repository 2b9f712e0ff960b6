"""JSON Web Tokens by hand: to read what the broker writes, and to write what it must refuse."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def raw_public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def thumbprint(public: bytes) -> str:
    """RFC 7638 for an Ed25519 key."""
    members = '{"crv":"Ed25519","kty":"OKP","x":"%s"}' % b64url(public)
    return b64url(hashlib.sha256(members.encode()).digest())


def header_of(token: str) -> dict[str, Any]:
    return json.loads(unb64url(token.split(".")[0]))


def claims_text(token: str) -> bytes:
    return unb64url(token.split(".")[1])


def claims_of(token: str) -> dict[str, Any]:
    return json.loads(claims_text(token))


def load_key(path: Path) -> Ed25519PrivateKey:
    key = load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


class Forge:
    """Writes tokens of any shape with the broker's own key, so that one check at a time decides."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self.key = key
        self.kid = thumbprint(raw_public(key))

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Claims of a good agent token; a change to None leaves the claim out."""
        now = int(time.time())
        claims = {
            "iss": "",
            "sub": "spiffe://agentwrit.local/agent/forge/task/0123456789abcdef",
            "exp": now + 300,
            "nbf": now,
            "iat": now,
            "jti": hashlib.sha256(str(time.perf_counter_ns()).encode()).hexdigest()[:32],
            "scope": ["read:data:*"],
            "task_id": "task",
            "orch_id": "forge",
        }
        claims.update(changes)
        return {name: value for name, value in claims.items() if value is not None}

    def header(self, **changes: Any) -> dict[str, Any]:
        header = {"alg": "EdDSA", "typ": "JWT", "kid": self.kid}
        header.update(changes)
        return {name: value for name, value in header.items() if value is not None}

    def sign(self, claims: dict[str, Any] | bytes, header: dict[str, Any] | bytes | None = None, key: Ed25519PrivateKey | None = None) -> str:
        header = self.header() if header is None else header
        parts = [part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode() for part in (header, claims)]
        signing_input = ".".join(b64url(part) for part in parts)
        return signing_input + "." + b64url((key or self.key).sign(signing_input.encode()))

    def token(self, **changes: Any) -> str:
        return self.sign(self.claims(**changes))
