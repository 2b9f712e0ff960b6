"""Ed25519 signatures as in RFC 8032, section 5.1, for agents that register; not hardened, for tests only."""

from __future__ import annotations

import hashlib

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P

# Points are (X, Y, Z, T) with x = X/Z, y = Y/Z, x*y = T/Z.
_Point = tuple[int, int, int, int]


def _add(p: _Point, q: _Point) -> _Point:
    a = (p[1] - p[0]) * (q[1] - q[0]) % _P
    b = (p[1] + p[0]) * (q[1] + q[0]) % _P
    c = 2 * p[3] * q[3] * _D % _P
    d = 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _base() -> _Point:
    y = 4 * pow(5, _P - 2, _P) % _P
    x_squared = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(x_squared, (_P + 3) // 8, _P)
    if (x * x - x_squared) % _P:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    if x & 1:
        x = _P - x
    return x, y, 1, x * y % _P


# Twice, four times, ... the base point, so that a signature needs additions only.
_POWERS = [_base()]
for _ in range(254):
    _POWERS.append(_add(_POWERS[-1], _POWERS[-1]))


def _times_base(factor: int) -> bytes:
    point: _Point = (0, 1, 1, 0)
    for power in _POWERS:
        if factor & 1:
            point = _add(point, power)
        factor >>= 1
    inverse = pow(point[2], _P - 2, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


class Key:
    """A key pair made of a secret of 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        digest = hashlib.sha512(secret).digest()
        scalar = int.from_bytes(digest[:32], "little")
        self._scalar = scalar & ((1 << 254) - 8) | (1 << 254)
        self._prefix = digest[32:]
        self.public = _times_base(self._scalar)

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        nonce = int.from_bytes(hashlib.sha512(self._prefix + message).digest(), "little") % _L
        commitment = _times_base(nonce)
        challenge = int.from_bytes(hashlib.sha512(commitment + self.public + message).digest(), "little") % _L
        return commitment + ((nonce + challenge * self._scalar) % _L).to_bytes(32, "little")
