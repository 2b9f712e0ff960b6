"""Attacks on the broker by very many requests, each of them well formed."""

from __future__ import annotations

import secrets

from ..core.hand import Hand, Reached, Slot
from ..core.wire import post, request
from ..world.broker import HOSTILE_UID, pod_bearer, public_key, registration
from .payloads import segment
from .registry import BYTES_ON_DISK, attack


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


# What everybody else writes meanwhile, the write-ahead log, and what one pod may cause. It was 66 MiB a second.
_DISK_BYTES = 24 * 1024 * 1024


def _fills_the_disk(_: Reached, made: dict[str, int]) -> list[str]:
    grown = made[BYTES_ON_DISK]
    return [] if grown <= _DISK_BYTES else [f"the store has grown by {grown // 1024} KiB"]


@attack("broker", (64, 256), short=(8,), judge=_fills_the_disk)
async def pod_fills_the_disk(hand: Hand) -> None:
    """Wants the disk full, with the token of a pod: it delegates the longest lists of scopes to itself, asks for more than
    it has, renews, and launches again and again."""
    longest = [f"read:orders:{number:03}{'x' * 240}" for number in range(64)]
    token, agent_id = hand.facts["hostile"], hand.facts["hostile_id"]
    launch = {"policy": "no-such-policy", "public_key": public_key(), "scopes": longest}
    requests = [
        post("/v1/delegate", {"delegate_to": agent_id, "scope": longest}, bearer=token),
        post("/v1/delegate", {"delegate_to": agent_id, "scope": ["write:orders:all", *longest[:60]]}, bearer=token),
        post("/v1/delegate", {"delegate_to": agent_id + "x" * 200, "scope": longest}, bearer=token),
        post("/v1/k8s/launch-tokens", launch, bearer=pod_bearer("hostile-0", HOSTILE_UID)),
        request("POST", "/v1/token/renew", b"", bearer=token + "x"),
    ]

    async def one(slot: Slot) -> None:
        async with hand.connection("api", slot) as connection:
            while True:
                for data in requests:
                    await hand.ask(connection, data)

    await hand.each(one)
