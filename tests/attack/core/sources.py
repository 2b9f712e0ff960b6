"""Who connects from which address: every address of 127.0.0.0/8 is this machine, so one machine can be many callers."""

from __future__ import annotations

import ipaddress
from typing import TypeVar

T = TypeVar("T")
# Attackers are 127.1.0.1 and those after it.
_FIRST_ATTACKER = int(ipaddress.IPv4Address("127.1.0.1"))
# Everybody else has an address of their own, far from those.
CLIENT = "127.9.0.1"
ADMIN = "127.9.0.2"
KUBELET = "127.9.0.3"
API_SERVER = "127.9.0.4"
POD = "127.9.0.5"
# More would reach the addresses of everybody else.
MOST_ATTACKERS = 500_000


def attackers(count: int) -> list[str]:
    """`count` different addresses of attackers."""
    if not 1 <= count <= MOST_ATTACKERS:
        raise ValueError(f"sources must be between 1 and {MOST_ATTACKERS}, not {count}")
    return [str(ipaddress.IPv4Address(_FIRST_ATTACKER + number)) for number in range(count)]


def deal(connections: int, sources: int) -> list[str]:
    """The address of each connection: the sources take turns, so that each has the same share, give or take one."""
    addresses = attackers(sources)
    return [addresses[number % sources] for number in range(connections)]


def share(slots: list[T], worker: int, workers: int) -> list[T]:
    """The part of the connections that one of several worker processes opens."""
    return slots[worker::workers]
