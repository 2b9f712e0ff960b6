"""Attacks that were invented from the programs and their documentation alone. More of them are marked so elsewhere."""

from __future__ import annotations

import asyncio
import itertools
import secrets

from ..core.hand import Hand, Slot
from ..core.wire import post, request
from ..world.broker import public_key, strangers_bearer
from .payloads import MIB, token_bombs
from .registry import attack


@attack("broker", (48, 128), short=(8,), brief=True)
async def token_bombs_shown(hand: Hand) -> None:
    """Invented. Wants memory and processors by tokens instead of bodies: the header of a JWT is read before its
    signature is, so it is made of hundreds of thousands of items, and shown as a bearer (in a head of nearly 1 MiB) and
    for validation."""
    shown = [request("POST", "/v1/token/renew", b"", bearer=token.decode()) for token in token_bombs(MIB - 4096)]
    shown += [post("/v1/token/validate", {"token": token.decode()}) for token in token_bombs(MIB - 64)]
    shown += [
        post("/v1/k8s/launch-tokens", {}, bearer=token.decode()) for token in (*token_bombs(8_000), *token_bombs(MIB - 4096))
    ]

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot) as connection:
            for step in itertools.count(slot.number):
                answer = await hand.ask(connection, shown[step % len(shown)])
                if answer.headers.get("connection") == "close":
                    return

    await hand.each(one)


@attack("broker-slow-reviews", (800, 1_200), short=(8,))
async def review_queue(hand: Hand) -> None:
    """Invented. Wants no pod to get a token: bearers that look right keep all TokenReviews busy while the API server
    needs a tenth of a second for each. Every fourth connection doesn't even wait for its answer."""
    body = {"policy": "reader", "public_key": public_key()}

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot) as connection:
            data = post("/v1/k8s/launch-tokens", body, bearer=strangers_bearer())
            if slot.number % 4 == 0:
                await hand.send(connection, data)
                await asyncio.sleep(0.1)
            else:
                await hand.ask(connection, data)

    await hand.each(one, ramp=True)


@attack("broker-restarted", (256, 512), short=(8,), full=(1, 8))
async def login_line(hand: Hand) -> None:
    """Invented. Wants the line in front of bcrypt after a restart, when no secret is remembered yet: wrong secrets from
    a few addresses keep the places of all who wait, so that neither the admin nor an app can log in. Every second
    connection doesn't even wait for its answer."""

    async def one(slot: Slot) -> None:
        wrong = secrets.token_hex(32)
        logins = (
            post("/v1/admin/auth", {"secret": wrong}),
            post("/v1/app/auth", {"client_id": wrong[:15], "client_secret": wrong}),
        )
        async with hand.connection("api", slot) as connection:
            if slot.number % 2:
                await hand.send(connection, logins[slot.number // 2 % 2])
                await asyncio.sleep(0.1)
            else:
                for login in logins:
                    await hand.ask(connection, login)

    await hand.each(one)


@attack("broker-and-a-new-app", (1_000, 4_000), short=(), full=(2_000,))
async def limiter_keys(hand: Hand) -> None:
    """Invented. Wants the table of login limits full: a hundred thousand client ids that don't exist, after which every
    app that comes new shares one bucket with all others."""

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot) as connection:
            while True:
                logins = ({"client_id": f"aa-{secrets.token_hex(6)}", "client_secret": "x" * 64} for _ in range(16))
                await hand.ask_at_once(connection, [post("/v1/app/auth", login) for login in logins])

    await hand.each(one)
