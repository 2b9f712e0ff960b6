"""Bodies that cost their reader more than their bytes: each a little below the contract's 1 MiB unless said otherwise."""

from __future__ import annotations

import base64
import functools
import json

MIB = 1024 * 1024
BODY_BYTES = MIB - 1


def filled(before: bytes, item: bytes, after: bytes, size: int = BODY_BYTES) -> bytes:
    """`before`, then `item` as often as it fits with commas between, then `after`."""
    times = (size - len(before) - len(after) + 1) // (len(item) + 1)
    return before + (item + b",") * (times - 1) + item + after


def _distinct_members(size: int) -> bytes:
    members, length, number = [], 2, 0
    while length < size - 12:
        members.append(b'"%x":0' % number)
        length += len(members[-1]) + 1
        number += 1
    return b"{" + b",".join(members) + b"}"


def _nested(opening: bytes, closing: bytes, size: int) -> bytes:
    times = (size - 16) // (len(opening) + len(closing))
    return b'{"a":' + opening * times + b"0" + closing * times + b"}"


@functools.cache
def family(size: int = BODY_BYTES) -> tuple[tuple[str, bytes], ...]:
    """By name. None is a request that any endpoint accepts."""
    return (
        ("tiny objects", filled(b'{"a":[', b'{"":0}', b"]}", size)),
        ("tiny arrays", filled(b'{"a":[', b"[]", b"]}", size)),
        ("zeros", filled(b'{"a":[', b"0", b"]}", size)),
        ("tiny strings", filled(b'{"token":[', b'""', b"]}", size)),
        ("tiny strings as scopes", filled(b'{"launch_token":"x","nonce":"x","requested_scope":[', b'"a"', b"]}", size)),
        ("members of one name", filled(b"{", b'"token":""', b"}", size)),
        ("distinct members", _distinct_members(size)),
        ("nested arrays", _nested(b"[", b"]", min(size, 18_000))),
        ("nested beyond the limit", _nested(b"[", b"]", size)),
        ("nested objects", _nested(b'{"":', b"}", size)),
        ("escapes", b'{"token":"' + b"\\u0041" * ((size - 12) // 6) + b'"}'),
        ("lone surrogates", b'{"token":"' + b"\\ud800" * ((size - 12) // 6) + b'"}'),
        ("invalid UTF-8", b'{"token":"' + b"\xff" * (size - 12) + b'"}'),
        ("long member name", b'{"' + b"a" * (size - 6) + b'":0}'),
        ("long number", b'{"ttl":1' + b"0" * (size - 9) + b"}"),
        ("spaces", b" " * (size - 2) + b"{}"),
        ("null before junk", b"null" + b"[" * (size - 4)),
        ("tiny objects at the top", filled(b"[", b"{}", b"]", size)),
    )


def segment(data: bytes) -> bytes:
    """Base64url without padding, as a part of a JWT."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@functools.cache
def token_bombs(size: int) -> tuple[bytes, ...]:
    """Tokens of about so many bytes whose header, or claims, cost much to read before anybody looks at the signature."""
    room = (size - 200) * 3 // 4
    plain = segment(json.dumps({"alg": "EdDSA", "typ": "JWT"}).encode())
    signature = segment(b"s" * 64)
    headers = (
        filled(b'{"alg":"EdDSA","kid":[', b'{"":0}', b"]}", room),
        filled(b'{"alg":"EdDSA","x5c":[', b'""', b"]}", room),
        filled(b'{"alg":"EdDSA",', b'"kid":""', b"}", room),
        b'{"alg":"EdDSA","crit":' + b"[" * (room - 40) + b"}",
        b'{"alg":"EdDSA","kid":"' + b"\\u0041" * ((room - 40) // 6) + b'"}',
    )
    tokens = [segment(header) + b"." + segment(b"{}") + b"." + signature for header in headers]
    claims = filled(b'{"sub":"a","scope":[', b'{"":0}', b"]}", room)
    tokens.append(plain + b"." + segment(claims) + b"." + signature)
    tokens.append(plain + b"." * (size - 200 - len(plain)) + signature)
    return tuple(tokens)
