"""One worker process of an attacker: its share of the connections, what it may do with them, what it reached."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import resource
import signal
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe

from .wire import Address, Answer, Closed, Connection, tls_context

# Attackers are other machines: what they compute must not slow down the program or the honest client on this one.
_NICE = 10
# How many connects one worker has under way.
_CONNECTING = 200
# An attack that needs all its connections waits this long for them at most; then it goes on with those it has.
RAMP_SECONDS = 4.0
_AFTER_A_FAILURE_SECONDS = 0.1
_AFTER_THE_END_SECONDS = 0.3
FAILURES = (OSError, Closed, ValueError, IndexError, TimeoutError)


@dataclass(frozen=True)
class Slot:
    """One connection of the attacker: its number among all, and its address."""

    number: int
    source: str


@dataclass
class Reached:
    """What the attacker could do, summed over its workers."""

    opened: int = 0
    open_at_once: int = 0
    ended_by_server: int = 0
    sent: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, other: Reached) -> None:
        """Of another worker."""
        self.opened += other.opened
        self.open_at_once += other.open_at_once
        self.ended_by_server += other.ended_by_server
        self.sent += other.sent
        self.answers += other.answers
        self.counts += other.counts

    def text(self) -> str:
        """In one line."""
        parts = [f"{self.opened} connections, {self.open_at_once} at once"]
        if self.ended_by_server:
            parts.append(f"{self.ended_by_server} ended by the program")
        if self.sent >= 1024 * 1024:
            parts.append(f"{self.sent // (1024 * 1024)} MiB sent")
        if self.answers:
            parts.append("answers " + " ".join(f"{status}: {count}" for status, count in sorted(self.answers.items())))
        parts += [f"{name}: {count}" for name, count in sorted(self.counts.items())]
        return ", ".join(parts)


@dataclass(frozen=True)
class Task:
    """What a worker gets."""

    slots: list[Slot]
    addresses: dict[str, Address]
    facts: dict[str, str]
    seconds: float


class Hand:
    """What an attack works with, in one worker process."""

    def __init__(self, task: Task) -> None:
        self.slots = task.slots
        self.facts = task.facts
        self.reached = Reached()
        self.context: ssl.SSLContext = tls_context()
        self._addresses = task.addresses
        self._seconds = task.seconds
        self._end = time.monotonic() + task.seconds
        self._connecting = asyncio.Semaphore(_CONNECTING)
        self._open: set[Connection] = set()

    def address(self, name: str) -> Address:
        """Where a listener of the program is: `api`, `ops`, `health`, `webhook`, ..."""
        return self._addresses[name]

    def left(self) -> float:
        """Seconds until the attack ends."""
        return self._end - time.monotonic()

    @contextlib.asynccontextmanager
    async def connection(
        self, name: str, slot: Slot, *, shake_hands: bool = True, receive_buffer: int = 0
    ) -> AsyncIterator[Connection]:
        """A connection from the slot's address, with TLS where the listener has it, closed at the end."""
        address = self.address(name)
        context = self.context if address.tls and shake_hands else None
        async with self._connecting:
            connection = await Connection.open(address, slot.source, context=context, receive_buffer=receive_buffer)
        self._open.add(connection)
        self.reached.opened += 1
        self.reached.open_at_once = max(self.reached.open_at_once, len(self._open))
        try:
            yield connection
        finally:
            self._open.discard(connection)
            connection.reset()

    async def send(self, connection: Connection, data: bytes) -> None:
        """Sends, and counts it."""
        await connection.send(data)
        self.reached.sent += len(data)

    async def ask(self, connection: Connection, data: bytes) -> Answer:
        """Sends a request and reads its answer."""
        await self.send(connection, data)
        return await self.answer(connection)

    async def ask_at_once(self, connection: Connection, requests: list[bytes]) -> None:
        """Sends several requests without waiting between them, and reads all answers."""
        await self.send(connection, b"".join(requests))
        for _ in requests:
            await self.answer(connection)

    async def answer(self, connection: Connection) -> Answer:
        """Reads an answer, and counts it."""
        answer = await connection.answer()
        self.reached.answers[answer.status] += 1
        return answer

    async def until_ended(self, connection: Connection) -> None:
        """Says nothing more, and reads until the program ends the connection, perhaps with an answer."""
        first = b""
        try:
            while received := await connection.receive():
                first = first or received
        except OSError:
            pass
        if first.startswith(b"HTTP/1."):
            self.reached.answers[int(first[9:12])] += 1
        self.reached.ended_by_server += 1

    async def each(self, one: Callable[[Slot], Awaitable[None]], *, ramp: bool = False) -> None:
        """Does the same with each slot, again and again, side by side, until the attack ends. With a ramp, its time
        begins when all connections have been opened."""

        async def forever(slot: Slot) -> None:
            while True:
                try:
                    await one(slot)
                except FAILURES as failure:
                    if isinstance(failure, Closed | ConnectionResetError | BrokenPipeError):
                        self.reached.ended_by_server += 1
                    else:
                        self.reached.counts[type(failure).__name__] += 1
                    if isinstance(failure, ConnectionRefusedError):
                        # Nobody listens any more: the attacker has what it wants.
                        self._end = min(self._end, time.monotonic() + _AFTER_THE_END_SECONDS)
                    await asyncio.sleep(_AFTER_A_FAILURE_SECONDS)

        # What was prepared before has not taken of the attack's time.
        self._end = time.monotonic() + self._seconds + (RAMP_SECONDS if ramp else 0)
        tasks = [asyncio.create_task(forever(slot)) for slot in self.slots]
        if ramp:
            watching = asyncio.create_task(self._ramp())
        while self.left() > 0:
            await asyncio.wait(tasks, timeout=min(self.left(), 0.1), return_when=asyncio.FIRST_EXCEPTION)
            if defects := [task for task in tasks if task.done()]:
                defects[0].result()
        for task in tasks:
            task.cancel()
        if ramp:
            watching.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ramp(self) -> None:
        """Sets the end once all connections have been opened."""
        while self.reached.opened < len(self.slots):
            await asyncio.sleep(0.02)
        self._end = min(self._end, time.monotonic() + self._seconds)


def raise_open_files() -> int:
    """Allows this process all the files that the system lets it have; answers how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def die_with_parent() -> None:
    """Nothing is left behind, even when the parent is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def work(attack: Callable[[Hand], Awaitable[None]], task: Task, result: Pipe) -> None:
    """The whole life of a worker process."""
    die_with_parent()
    raise_open_files()
    os.nice(_NICE)
    gc.disable()

    async def run() -> Reached:
        hand = Hand(task)
        await attack(hand)
        return hand.reached

    try:
        result.send(asyncio.run(run()))
    except Exception as problem:  # noqa: BLE001 - whatever it is, the run has to say so
        result.send(problem)
