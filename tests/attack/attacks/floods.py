"""Attacks on the broker by very many small requests, each of them well formed."""

from __future__ import annotations

import secrets

from ..core.hand import Hand, Slot
from ..core.wire import post, request
from ..world.broker import registration
from .payloads import segment
from .registry import attack


@attack("broker", (64, 256), short=(8,))
async def login_flood(hand: Hand) -> None:
    """Wants nobody else to log in: wrong secrets for the admin, for an app that exists, and for apps that don't."""

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot) as connection:
            while True:
                wrong = secrets.token_hex(32)
                await hand.ask(connection, post("/v1/admin/auth", {"secret": wrong}))
                for client in (hand.facts["client_id"], f"aa-{secrets.token_hex(6)}"):
                    await hand.ask(connection, post("/v1/app/auth", {"client_id": client, "client_secret": wrong}))

    await hand.each(one)


@attack("broker", (64, 256), short=(200,), brief=True)
async def register_flood(hand: Hand) -> None:
    """Wants the queue of the one writer: well-formed registrations with launch tokens that nobody made."""
    whole = registration("0" * 64, "0" * 64)

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot) as connection:
            while True:
                whole["launch_token"], whole["nonce"] = secrets.token_hex(32), secrets.token_hex(32)
                await hand.ask(connection, post("/v1/register", whole))

    await hand.each(one)


@attack("broker", (64, 256), short=(8,), brief=True)
async def token_flood(hand: Hand) -> None:
    """Wants the processors and the audit trail: challenges, validations of garbage and of well-formed tokens with wrong
    signatures, each another one, and bearers that are refused."""
    header, claims, _ = hand.facts["agent"].split(".")

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot) as connection:
            while True:
                forged = f"{header}.{claims}.{segment(secrets.token_bytes(64)).decode()}"
                await hand.ask(connection, request("GET", "/v1/challenge"))
                await hand.ask(connection, post("/v1/token/validate", {"token": secrets.token_hex(100)}))
                await hand.ask(connection, post("/v1/token/validate", {"token": forged}))
                await hand.ask(connection, request("POST", "/v1/token/renew", b"", bearer=forged))

    await hand.each(one)


@attack("broker", (64, 256), short=())
async def scrape_flood(hand: Hand) -> None:
    """Wants the readers of the store, which logins need as well: metrics and health are asked for without end."""

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot) as connection:
            while True:
                await hand.ask(connection, request("GET", "/v1/metrics"))
                await hand.ask(connection, request("GET", "/v1/health"))

    await hand.each(one)


@attack("broker", (64, 256), short=())
async def delegate_flood(hand: Hand) -> None:
    """Wants the one writer for itself, with a valid token: an agent delegates to itself as fast as it can."""
    body = {"delegate_to": hand.facts["agent_id"], "scope": ["read:data:x"]}
    data = post("/v1/delegate", body, bearer=hand.facts["agent"])

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot) as connection:
            while True:
                await hand.ask(connection, data)

    await hand.each(one)
