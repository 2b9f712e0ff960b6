"""The attacks, each a coroutine that says what the attacker wants."""

from __future__ import annotations

from . import bodies, connections, edges, floods, invented, sidecar, webhook  # noqa: F401
from .registry import ALL as ALL
