"""Everybody else: honest clients, an admin, the kubelet, each from an address of its own, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

from ..core.hand import FAILURES, die_with_parent
from ..core.swarm import processes
from ..core.wire import Address, Answer, Connection, tls_context

# A client gives up after this time, and the request has failed.
PATIENCE_SECONDS = 3.0
# Within this time a revocation has to be done, and a probe answered.
AT_ONCE_SECONDS = 1.0
# A few milliseconds of work on a calm machine, done this often while somebody waits for bcrypt.
_WORK_ROUNDS = 20_000
_WORK_PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Sample:
    """One request of somebody: when it began (monotonic), how long it took, what was wrong, whether it was only late."""

    role: str
    begin: float
    seconds: float
    error: str
    late: bool = False


class Everybody:
    """The roles; each is a coroutine that goes on until the process is told to stop."""

    def __init__(self, addresses: dict[str, Address], facts: dict[str, str]) -> None:
        self.addresses = addresses
        self.facts = facts
        self.samples: list[Sample] = []
        self.stopping = asyncio.Event()
        self._context = tls_context()
        self._kept: dict[str, Connection] = {}
        self._best_work = min(_work() for _ in range(5))

    async def timed(
        self, role: str, work: Awaitable[Answer], wanted: tuple[int, ...], patience: float | None, holds: bytes = b""
    ) -> Answer | None:
        """Awaits a request, and writes down how it went: status and body have to be as wanted. Without a patience the work
        has its own, and says so when it ends."""
        begin = time.monotonic()
        answer, error, late = None, "", False
        try:
            answer = await asyncio.wait_for(work, patience)
            if answer.status not in wanted or holds not in answer.body:
                error = f"{answer.status} {answer.body[:160].decode(errors='replace').strip()}"
                answer = None
        except TimeoutError as over:
            error, late = f"no answer within {patience:g} s" if patience is not None else str(over), True
        except FAILURES as failure:
            error = f"{type(failure).__name__} {failure}".strip()
        self.samples.append(Sample(role, begin, time.monotonic() - begin, error, late))
        return answer

    async def timed_by_work(
        self, role: str, work: Awaitable[Answer], wanted: tuple[int, ...], calm_patience: float
    ) -> None:
        """As `timed`, for an answer that costs much processor time: a second in which the machine does a fixed piece of
        work at half its usual speed counts as half a second of the patience."""
        await self.timed(role, self._while_calm(work, calm_patience), wanted, None)

    async def _while_calm(self, work: Awaitable[Answer], patience: float) -> Answer:
        task = asyncio.ensure_future(work)
        waited = 0.0
        while not task.done() and waited < patience:
            piece = time.monotonic()
            took = await asyncio.to_thread(_work)
            self._best_work = min(self._best_work, took)
            await asyncio.wait([task], timeout=_WORK_PAUSE_SECONDS)
            waited += (time.monotonic() - piece) * self._best_work / took
        if not task.done():
            task.cancel()
            raise TimeoutError(f"no answer within {patience:g} s of a calm machine")
        return await task

    async def fresh(self, name: str, source: str, data: bytes) -> Answer:
        """A request on a connection of its own."""
        address = self.addresses[name]
        connection = await Connection.open(address, source, context=self._context if address.tls else None)
        try:
            await connection.send(data)
            return await connection.answer()
        finally:
            connection.reset()

    async def kept(self, name: str, source: str, data: bytes) -> Answer:
        """A request on a connection that stays open. Like any client, it connects again when it finds it closed."""
        key = f"{name} {source}"
        connection = self._kept.pop(key, None)
        if connection is not None:
            try:
                await connection.send(data)
                answer = await connection.answer()
                self._kept[key] = connection
                return answer
            except FAILURES:
                connection.reset()
            except asyncio.CancelledError:
                connection.reset()
                raise
        address = self.addresses[name]
        connection = await Connection.open(address, source, context=self._context if address.tls else None)
        try:
            await connection.send(data)
            answer = await connection.answer()
        except BaseException:
            connection.reset()
            raise
        self._kept[key] = connection
        return answer

    async def repeat(self, pause: float, once: Callable[[], Awaitable[None]]) -> None:
        """Again and again until the end, with a pause between."""
        while not self.stopping.is_set():
            await once()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), pause)


def _work() -> float:
    """Does a fixed piece of work, outside Python's lock; the seconds it took."""
    begin = time.monotonic()
    hashlib.pbkdf2_hmac("sha256", b"work", b"work", _WORK_ROUNDS)
    return time.monotonic() - begin


Roles = Callable[[Everybody], list[Awaitable[None]]]


def _live(roles: Roles, addresses: dict[str, Address], facts: dict[str, str], pipe: Pipe) -> None:
    die_with_parent()

    async def run() -> list[Sample]:
        everybody = Everybody(addresses, facts)
        loop = asyncio.get_running_loop()
        loop.add_reader(pipe.fileno(), everybody.stopping.set)
        running = [asyncio.ensure_future(role) for role in roles(everybody)]
        pipe.send("running")
        await asyncio.gather(*running)
        loop.remove_reader(pipe.fileno())
        return everybody.samples

    try:
        pipe.send(asyncio.run(run()))
    except Exception as problem:  # noqa: BLE001 - whatever it is, the run has to say so
        pipe.send(problem)
    os._exit(0)


class Beside:
    """The process of everybody else."""

    def __init__(self, roles: Roles, addresses: dict[str, Address], facts: dict[str, str]) -> None:
        self._pipe, theirs = processes.Pipe()
        self._process = processes.Process(target=_live, args=(roles, addresses, facts, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._receive()

    def _receive(self) -> object:
        try:
            received = self._pipe.recv() if self._pipe.poll(30) else TimeoutError("no answer within 30 s")
        except EOFError as gone:
            received = gone
        if isinstance(received, Exception):
            raise RuntimeError(f"the honest clients failed: {received!r}") from received
        return received

    def stop(self) -> list[Sample]:
        """Ends it, and says how everybody fared."""
        self._pipe.send("stop")
        samples = self._receive()
        self._process.join(5)
        assert isinstance(samples, list)
        return samples

    def close(self) -> None:
        """Ends it without asking."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
