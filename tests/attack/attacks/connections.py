"""Attacks on the broker's listeners by connections that say nothing, or never come to an end."""

from __future__ import annotations

import asyncio

from ..core.hand import Hand, Slot
from ..core.wire import client_hello, fat_client_hello, request
from .payloads import MIB
from .registry import attack

# The broker's own figure: header bytes up to here are nobody's budget.
_FREE_HEAD_BYTES = 16 * 1024
_LINE = b"X-Filler: " + b"f" * 1000 + b"\r\n"


@attack("broker", (7_000, 24_000), short=(8,))
async def silent_connections(hand: Hand) -> None:
    """Wants all places of the API listener, or the memory behind them: connections that never say a word, as many as
    there can be, opened again as soon as the program ends them."""

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot) as connection:
            await hand.until_ended(connection)

    await hand.each(one, ramp=True)


@attack("broker", (8_000, 20_000), short=(200,))
async def half_heads(hand: Hand) -> None:
    """Wants memory by heads that never end: each connection sends 15 KiB of header lines, just less than what counts
    against the common budget, and waits."""
    start = b"POST /v1/token/validate HTTP/1.1\r\nHost: a\r\n"
    data = start + _LINE * ((_FREE_HEAD_BYTES - 1024 - len(start)) // len(_LINE))

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot) as connection:
            await hand.send(connection, data)
            await hand.until_ended(connection)

    await hand.each(one, ramp=True)


@attack("broker", (100, 400), short=(1,), brief=True)
async def big_heads(hand: Hand) -> None:
    """Wants the room that large heads share: half of the connections hold almost 1 MiB of header lines without an end,
    the others send whole heads of that size, with very many or very long lines, as fast as they can."""
    start = b"GET /v1/health HTTP/1.1\r\nHost: a\r\n"
    held = start + (_LINE * 1100)[: MIB - 1024 - len(start)]
    whole = (
        start + _LINE * 900 + b"\r\n",
        start + b"X: " + b"y" * (MIB - 4096) + b"\r\n\r\n",
        start + b"a:b\r\n" * 150_000 + b"\r\n",
        b"GET /" + b"p" * (MIB - 4096) + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        start + b"Cookie: " + b"a=b;" * 200_000 + b"\r\n\r\n",
    )

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot) as connection:
            if slot.number % 2:
                await hand.send(connection, held)
                await hand.until_ended(connection)
            else:
                await hand.ask(connection, whole[slot.number // 2 % len(whole)])

    await hand.each(one)


@attack("broker", (400, 1_000), short=(200,))
async def accept_queue(hand: Hand) -> None:
    """Invented. Wants nobody else to be let in: connections are opened and dropped without a word, faster than they are
    accepted, so that the kernel's queue in front of the listener is full and it drops what others send."""

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot):
            pass

    await hand.each(one)


@attack("broker-tls", (4_000, 20_000), short=(8,))
async def stalled_handshakes(hand: Hand) -> None:
    """Wants the places of TLS handshakes: connections that say nothing, that stop in the middle of their first message,
    or that never answer the server's."""
    hello = client_hello(hand.context)

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot, shake_hands=False) as connection:
            part = (b"", hello[: len(hello) // 2], hello)[slot.number % 3]
            if part:
                await hand.send(connection, part)
            await hand.until_ended(connection)

    await hand.each(one, ramp=True)


@attack("broker-tls", (4_500, 16_000), short=(1,))
async def fat_hellos(hand: Hand) -> None:
    """Invented. Wants the memory behind handshakes: a first message that announces 65,000 bytes, of which all but the
    last few thousand come. The server has to keep them until the message is whole or its patience ends, and no body,
    no head and no credential was needed."""
    hello = fat_client_hello(60_000)

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot, shake_hands=False) as connection:
            await hand.send(connection, hello)
            await hand.until_ended(connection)

    await hand.each(one, ramp=True)


@attack("broker-tls", (64, 256), short=(200,), brief=True)
async def hello_replay(hand: Hand) -> None:
    """Invented. Wants the processors: the recorded first message of a TLS handshake costs the attacker nothing and the
    server a key exchange and a signature; after the server's answer the connection is dropped and the next one opened."""
    hello = client_hello(hand.context)

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot, shake_hands=False) as connection:
            await hand.send(connection, hello)
            if await connection.receive():
                hand.reached.counts["handshakes begun"] += 1

    await hand.each(one)


@attack("broker", (1_000, 3_000), short=(1,))
async def ops_listener(hand: Hand) -> None:
    """Wants the kubelet to restart the broker: all places of the ops listener are taken by silent connections, half
    heads, held bodies, big heads, and readers of `/metrics` who don't read."""
    head = b"GET /metrics HTTP/1.1\r\nHost: a\r\n"
    parts = (
        b"",
        b"",
        head,
        head + _LINE * 10,
        head + _LINE * 900,
        request("POST", "/livez", None, {"Content-Length": str(MIB)}) + b"x" * 10_000,
        (head + b"\r\n") * 200,
    )

    async def one(slot: Slot) -> None:
        async with hand.connection("ops", slot, receive_buffer=2048) as connection:
            part = parts[slot.number % len(parts)]
            if part:
                await hand.send(connection, part)
            if len(part) > 5_000:
                await asyncio.sleep(3600)
            await hand.until_ended(connection)

    await hand.each(one, ramp=True)


@attack("broker", (400, 2_000), short=(8,))
async def slow_readers(hand: Hand) -> None:
    """Wants the memory of answers that nobody takes: large answers (`/openapi.json`, `/v1/metrics`) are asked for again
    and again on the same connection, and never read."""
    paths = ("/openapi.json", "/v1/metrics", "/openapi.json", "/.well-known/jwks.json")

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot, receive_buffer=2048) as connection:
            await hand.send(connection, request("GET", paths[slot.number % len(paths)]) * 500)
            await asyncio.sleep(3600)

    await hand.each(one)


@attack("broker", (9_000, 20_000), short=(1,))
async def polite_hoard(hand: Hand) -> None:
    """Invented. Wants all places of the API listener, and never to be the idlest: each connection asks for something
    small every second or two, as a well-behaved client with keep-alive would."""
    data = request("GET", "/v1/health")

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot) as connection:
            while True:
                await hand.ask(connection, data)
                await asyncio.sleep(1.0 + slot.number % 100 / 100)

    await hand.each(one, ramp=True)
