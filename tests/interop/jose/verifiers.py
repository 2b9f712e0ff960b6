"""Two verifiers that know nothing of AgentWrit, behind one face: verify(broker, token, issuer, audience) -> Verified.

Refused tokens raise Refused with the library's own word for the reason.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

VERIFY_MJS = Path(__file__).parent / "verify.mjs"


class Refused(Exception):
    """The library does not accept the token."""


@dataclass
class Verified:
    claims: dict[str, Any]
    header: dict[str, Any]
    thumbprint: str


def thumbprint(jwk: dict[str, Any]) -> str:
    """RFC 7638 section 3 for an OKP key (RFC 8037 section 2): required members, in order of their names."""
    members = json.dumps({name: jwk[name] for name in ("crv", "kty", "x")}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode()


def by_pyjwt(jwks_url: str, token: str, issuer: str | None, audience: str | None) -> Verified:
    try:
        client = jwt.PyJWKClient(jwks_url)
        key = client.get_signing_key_from_jwt(token)
        claims = jwt.decode(
            token,
            key,
            algorithms=["EdDSA"],
            issuer=issuer,
            audience=audience,
            options={"require": ["exp", "nbf", "iat", "iss", "sub", "jti"], "verify_aud": audience is not None},
        )
    except jwt.PyJWKClientConnectionError:
        raise
    except jwt.PyJWTError as error:
        raise Refused(type(error).__name__) from error
    jwk = next(key for key in client.fetch_data()["keys"] if key["kid"] == jwt.get_unverified_header(token)["kid"])
    return Verified(claims, jwt.get_unverified_header(token), thumbprint(jwk))


def by_node(jwks_url: str, token: str, issuer: str | None, audience: str | None) -> Verified:
    question = {"jwksUrl": jwks_url, "token": token, "issuer": issuer, "audience": audience}
    done = subprocess.run(
        ["node", "--no-warnings", str(VERIFY_MJS)],
        input=json.dumps({name: value for name, value in question.items() if value is not None}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    if "refused" in answer:
        raise Refused(answer["refused"])
    return Verified(answer["claims"], answer["header"], answer["thumbprint"])
