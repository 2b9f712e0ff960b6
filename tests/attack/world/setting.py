"""A program with what it needs around it, as an attack finds it."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path

from ..core.limit import make_limit
from ..core.program import Program
from ..core.wire import Address

# Limits of the chart, MiB: broker.resources and controller.resources of helm/agentwrit/values.yaml, and the 16Mi
# that the webhook gives the sidecar.
LIMITS = {"broker": 256, "controller": 192, "sidecar": 16}


@dataclass(frozen=True)
class Options:
    """How the person who runs the attacks wants them."""

    binaries: Path
    folder: Path
    limit: str = "auto"


@dataclass
class Setting:
    """What runs, where it listens, and what was got before the attack: tokens, identifiers."""

    program: Program
    addresses: dict[str, Address]
    facts: dict[str, str] = field(default_factory=dict)
    # Where it writes.
    store: Path | None = None

    def stored(self) -> int:
        """Bytes on disk there."""
        return sum(path.stat().st_size for path in self.store.iterdir()) if self.store else 0


_started = 0


def start(kind: str, options: Options, arguments: list[str], environment: dict[str, str]) -> Program:
    """A program under its limit of the chart."""
    global _started
    _started += 1
    limit = make_limit(LIMITS[kind], _started, options.limit)
    try:
        arguments = [str(options.binaries / f"agentwrit-{kind}"), *arguments]
        return Program(kind, arguments, environment, options.folder, limit)
    except BaseException:
        limit.close()
        raise


def free_address(tls: bool = False) -> Address:
    """A port that nobody uses at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return Address("127.0.0.1", sock.getsockname()[1], tls)
