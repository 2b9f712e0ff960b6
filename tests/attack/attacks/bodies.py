"""Attacks on the broker by what is in a body, or by a body that never ends."""

from __future__ import annotations

import asyncio
import itertools

from ..core.hand import Hand, Slot
from ..core.wire import Connection, request
from .payloads import MIB, family
from .registry import attack

# Method, path, and whose token is shown: that of an agent and an app are what a tenant has; all else is a stranger's.
ENDPOINTS = (
    ("POST", "/v1/token/validate", ""), ("POST", "/v1/register", ""), ("POST", "/v1/admin/auth", ""),
    ("POST", "/v1/app/auth", ""), ("POST", "/v1/delegate", "agent"), ("POST", "/v1/token/renew", ""),
    ("POST", "/v1/token/release", ""), ("POST", "/v1/revoke", "agent"), ("POST", "/v1/app/launch-tokens", "app"),
    ("POST", "/v1/admin/launch-tokens", "app"), ("POST", "/v1/admin/apps", ""), ("PUT", "/v1/admin/apps/app-x-000000", ""),
    ("POST", "/v1/k8s/launch-tokens", ""), ("PUT", "/v1/k8s/policies", ""), ("PUT", "/v1/k8s/policies/apps/shop/orders", ""),
    ("POST", "/v1/k8s/pods/x/ended", ""), ("GET", "/v1/health", ""), ("GET", "/v1/challenge", ""),
    ("DELETE", "/v1/admin/apps/app-x-000000", ""), ("POST", "/nowhere", ""),
)  # fmt: skip


@attack("broker", (64, 256), short=(8,))
async def memory_family(hand: Hand) -> None:
    """Wants the broker killed for its memory: bodies of 1 MiB that become many times as much when they are read, at
    every endpoint, many at once."""
    pairs = list(itertools.product(family(), ENDPOINTS))

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot) as connection:
            # Neighbours differ in both, and each comes through all of them.
            for step in itertools.count(slot.number * 7):
                (_, body), (method, path, bearer) = pairs[step * 131 % len(pairs)]
                data = request(method, path, body, bearer=hand.facts[bearer] if bearer else "")
                answer = await hand.ask(connection, data)
                if answer.headers.get("connection") == "close":
                    return

    await hand.each(one)


@attack("broker", (16, 64), short=(1,), brief=True)
async def one_worst_body(hand: Hand) -> None:
    """Wants the same with the one body that costs most, all copies at the same moment: the last byte of each is held
    back until all the others are there."""
    body = family()[0][1]
    data = request("POST", "/v1/token/validate", body)

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot) as connection:
            await hand.send(connection, data[:-1])
            await asyncio.sleep(hand.left() % 0.5)
            await hand.ask(connection, data[-1:])

    await hand.each(one)


# What a held body announces, by the number of the connection: large ones fill the common room, small ones its gaps.
_HELD_BYTES = (MIB, MIB, MIB, MIB, 256 * 1024, 64 * 1024, 8 * 1024, 1024, 300, 60)


@attack("broker", (200, 1_000), short=(200,))
async def bodies_held(hand: Hand) -> None:
    """Wants the room that bodies share: each connection sends all of a body but one byte, most of them of 1 MiB, and
    every third goes on with a byte a second, so that it doesn't look idle. Who is refused comes back with half as much,
    so that the room is full to the brim."""
    sizes: dict[int, int] = {}

    async def one(slot: Slot) -> None:
        size = sizes.setdefault(slot.number, _HELD_BYTES[slot.number % len(_HELD_BYTES)])
        head = request("POST", "/v1/token/validate", None, {"Content-Length": str(size)})
        async with hand.connection("api", slot) as connection:
            trickles = slot.number % 3 == 0
            await hand.send(connection, head + b"x" * (size - (50 if trickles else 1)))
            trickle = asyncio.create_task(_trickle(hand, slot, connection)) if trickles else None
            try:
                await hand.until_ended(connection)
            finally:
                if trickle is not None:
                    trickle.cancel()
                sizes[slot.number] = max(size // 2, 60)

    await hand.each(one)


async def _trickle(hand: Hand, slot: Slot, connection: Connection) -> None:
    try:
        while True:
            await asyncio.sleep(1.0 + slot.number % 10 / 100)
            await hand.send(connection, b"x")
    except OSError:
        pass


@attack("broker", (300, 2_000), short=(8,), brief=True)
async def promised_bodies(hand: Hand) -> None:
    """Invented. Wants the same room for nothing: a Content-Length of 1 MiB with `Expect: 100-continue` or without, and
    not one byte of body, so that what is reserved by promise costs the attacker a hundred bytes."""

    async def one(slot: Slot) -> None:
        headers = {"Content-Length": str(MIB)}
        if slot.number % 2:
            headers["Expect"] = "100-continue"
        method, path, _ = ENDPOINTS[slot.number % len(ENDPOINTS)]
        async with hand.connection("api", slot) as connection:
            await hand.send(connection, request(method, path, None, headers))
            await hand.until_ended(connection)

    await hand.each(one)
