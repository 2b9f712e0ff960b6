"""All attacks by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..core.hand import Hand, Reached

Hands = Callable[[Hand], Awaitable[None]]
# Among what was made: by how much the files of the program have grown.
BYTES_ON_DISK = "bytes on disk"
# From what was reached, and what was made: the requests that the small API server got, and bytes on disk; what is wrong,
# empty when nothing is.
Judge = Callable[[Reached, dict[str, int]], list[str]]


@dataclass(frozen=True)
class Attack:
    """One attack, and how large it is."""

    name: str
    wants: str
    hands: Hands
    # Name of a setting in ../settings.py: the program, how it is set up, and who else uses it.
    setting: str
    # Connections in the short and in the full form, whatever the number of sources.
    connections: tuple[int, int]
    # Numbers of sources in the short form; the full form takes them all.
    short_sources: tuple[int, ...]
    full_sources: tuple[int, ...]
    judge: Judge | None
    # Whether what it shows is shown in half the time.
    brief: bool


ALL: dict[str, Attack] = {}


def attack(
    setting: str,
    connections: tuple[int, int],
    short: tuple[int, ...],
    *,
    full: tuple[int, ...] = (1, 8, 200),
    judge: Judge | None = None,
    brief: bool = False,
) -> Callable[[Hands], Hands]:
    """Registers a coroutine under its own name; its docstring says what the attacker wants."""

    def register(hands: Hands) -> Hands:
        name = hands.__name__.replace("_", "-")
        wants = " ".join((hands.__doc__ or "").split())
        assert wants and name not in ALL, name
        ALL[name] = Attack(name, wants, hands, setting, connections, short, full, judge, brief)
        return hands

    return register
