"""Starts a released program under its memory limit, and knows whether it is still the one that was started."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from .limit import Limit
from .wire import Address, Answer, Closed, ask

# A start or a stop that takes longer has failed.
DEADLINE_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class NotStarted(Exception):
    """The program ended, or did not answer in time; the text has the end of its output."""


class Program:
    """One process, its output in a file."""

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str], folder: Path, limit: Limit) -> None:
        self.name = name
        self.limit = limit
        self.log = folder / f"{name}.log"
        joins = [os.open(file, os.O_WRONLY | os.O_CLOEXEC) for file in limit.joins()]

        def before_start() -> None:
            # Nothing is left behind, even when this process is killed.
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            for file in joins:
                os.write(file, b"0")

        try:
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    arguments, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    preexec_fn=before_start,
                )  # fmt: skip
        finally:
            for file in joins:
                os.close(file)
        limit.watch(self._process)

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self._process.pid

    def ended(self) -> str:
        """Empty while the program runs, else how it ended."""
        code = self._process.poll()
        if code is None:
            return ""
        if self.limit.exceeded():
            return "killed at its memory limit"
        return f"ended by signal {-code}" if code < 0 else f"ended with {code}"

    def cpu_seconds(self) -> float:
        """What it has used so far."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def output(self, lines: int = 12) -> str:
        """The end of what it has printed."""
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(f"    {line[:300]}" for line in text)

    def longest_line(self) -> int:
        """Bytes of the longest line that it has printed."""
        with self.log.open("rb") as log:
            return max(map(len, log), default=0)

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        """Asks again and again; NotStarted when the program has ended or the deadline has passed."""
        end = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            if how := self.ended():
                raise NotStarted(f"{self.name} {how}; the end of its output:\n{self.output()}")
            if time.monotonic() > end:
                raise NotStarted(f"{self.name}: not {what} after {DEADLINE_SECONDS:.0f} s:\n{self.output()}")
            time.sleep(0.02)  # between two questions

    def stop(self, *, gently: bool = False) -> None:
        """Ends it and gives back its limit; gently: with the time to write what is to be written."""
        if gently:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(DEADLINE_SECONDS)
        self._process.kill()
        self._process.wait()
        self.limit.close()


def answers(address: Address, data: bytes, source: str, statuses: tuple[int, ...] = (200,)) -> bool:
    """Whether a request is answered with one of these."""
    answer = try_once(address, data, source)
    return answer is not None and answer.status in statuses


def try_once(address: Address, data: bytes, source: str, seconds: float = 2.0) -> Answer | None:
    """The answer to one request, None when there was none."""

    async def once() -> Answer:
        return await asyncio.wait_for(ask(address, source, data), seconds)

    try:
        return asyncio.run(once())
    except (OSError, Closed, ValueError, IndexError, TimeoutError):
        return None
