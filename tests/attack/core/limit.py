"""The memory limit under which an attacked program runs: a cgroup of its own, or a watch over its resident memory.

A cgroup is what a container has. Where none can be made, a thread reads the resident memory every few milliseconds
and kills the program once it is over the limit.

With cgroup v2, which today's nodes have, what waits in the kernel's socket buffers is charged to the container as
well. With v1 it is counted apart, so it is added up here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")
_READ_EVERY_SECONDS = 0.01
_MIB = 1024 * 1024
_GROUP = "agentwrit-attack"


class Limit(Protocol):
    """Holds one program to a number of bytes."""

    kind: str

    def joins(self) -> list[str]:
        """Files into which the program's process writes its own number before it starts."""

    def watch(self, program: subprocess.Popen[bytes]) -> None:
        """Called once the program runs."""

    def exceeded(self) -> bool:
        """Whether the program was killed for its memory."""

    def peak(self) -> Peak:
        """What was seen so far."""

    def close(self) -> None:
        """Called once the program has ended."""


@dataclass(frozen=True)
class Peak:
    """Bytes: the most resident memory, the most in socket buffers, and the most of both at one moment."""

    resident: int = 0
    sockets: int = 0
    together: int = 0


class Reader:
    """The peaks of a process's memory, read again and again while it lives."""

    def __init__(self, sockets: Callable[[], int]) -> None:
        self.peak = Peak()
        self._sockets = sockets
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, program: subprocess.Popen[bytes], limit: int | None) -> None:
        """Reads until `stop`; kills the program when its resident memory is over `limit`."""
        self._thread = threading.Thread(target=self._read, args=(program, limit), daemon=True)
        self._thread.start()

    def _read(self, program: subprocess.Popen[bytes], limit: int | None) -> None:
        while not self._stop.is_set() and program.poll() is None:
            now, high_water = _resident(program.pid)
            sockets, peak = self._sockets(), self.peak
            resident = max(peak.resident, high_water)
            self.peak = Peak(resident, max(peak.sockets, sockets), max(peak.together, resident, now + sockets))
            if limit is not None and resident > limit:
                program.send_signal(signal.SIGKILL)
                return
            self._stop.wait(_READ_EVERY_SECONDS)

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()


class Cgroup:
    """A control group with one program in it; the kernel kills it at the limit, as it kills a container."""

    def __init__(self, folder: Path, limit: int, version: int) -> None:
        self.kind = f"cgroup v{version}"
        self._folder = folder
        self._version = version
        self._reader = Reader(self._sockets)
        folder.mkdir()
        try:
            self._write("memory.limit_in_bytes" if version == 1 else "memory.max", limit)
            # Without swap, or the program would be slow rather than dead. Not every kernel accounts for it.
            with contextlib.suppress(OSError):
                self._write("memory.memsw.limit_in_bytes" if version == 1 else "memory.swap.max", limit * (version == 1))
            if version == 1:
                # A limit is what makes the kernel count.
                with contextlib.suppress(OSError):
                    self._write("memory.kmem.tcp.limit_in_bytes", limit)
        except OSError:
            folder.rmdir()
            raise

    def _write(self, name: str, value: int) -> None:
        (self._folder / name).write_text(str(value))

    def joins(self) -> list[str]:
        """The file of the group's members."""
        return [str(self._folder / "cgroup.procs")]

    def _sockets(self) -> int:
        try:
            if self._version == 1:
                return int((self._folder / "memory.kmem.tcp.usage_in_bytes").read_text())
            for line in (self._folder / "memory.stat").read_text().splitlines():
                if line.startswith("sock "):
                    return int(line.split()[1])
        except OSError:
            pass
        return 0

    def watch(self, program: subprocess.Popen[bytes]) -> None:
        """Only to know the peaks."""
        self._reader.start(program, None)

    def exceeded(self) -> bool:
        """As the kernel counts it."""
        name = "memory.oom_control" if self._version == 1 else "memory.events"
        for line in (self._folder / name).read_text().splitlines():
            if line.startswith("oom_kill ") and line != "oom_kill 0":
                return True
        return False

    def peak(self) -> Peak:
        """Without the page cache, which the group is charged for as well and which the kernel takes back."""
        return self._reader.peak

    def close(self) -> None:
        """Removes the group."""
        self._reader.stop()
        end = time.monotonic() + 5
        while True:
            try:
                self._folder.rmdir()
                return
            except OSError:
                # The kernel needs a moment after the end of the last process.
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)


class Watchdog:
    """For machines where no control group can be made. Socket buffers can't be told apart there."""

    kind = "watch over resident memory"

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reader = Reader(lambda: 0)

    def joins(self) -> list[str]:
        """Nothing to join."""
        return []

    def watch(self, program: subprocess.Popen[bytes]) -> None:
        """Kills the program once it is over the limit."""
        self._reader.start(program, self._limit)

    def exceeded(self) -> bool:
        """Whether it was."""
        return self._reader.peak.resident > self._limit

    def peak(self) -> Peak:
        """Resident memory."""
        return self._reader.peak

    def close(self) -> None:
        """Ends the watch."""
        self._reader.stop()


def _resident(pid: int) -> tuple[int, int]:
    """Now, and the most so far as the kernel keeps it."""
    now = most = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                now = int(line.split()[1]) * 1024
            elif line.startswith("VmHWM:"):
                most = int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return now, most


def make_limit(mebibytes: int, number: int, wanted: str = "auto") -> Limit:
    """A limit; `wanted` is `cgroup`, `watch`, or `auto` for a cgroup where one can be made."""
    limit = mebibytes * _MIB
    if wanted != "watch":
        name = f"{_GROUP}-{os.getpid()}-{number}"
        for root, version, needs in ((_V1, 1, "memory.limit_in_bytes"), (_V2, 2, "cgroup.subtree_control")):
            if not (root / needs).exists():
                continue
            try:
                return Cgroup(root / name, limit, version)
            except OSError as problem:
                if wanted == "cgroup":
                    raise SystemExit(f"attack: no memory limit by cgroup v{version}: {problem}") from problem
        if wanted == "cgroup":
            raise SystemExit("attack: there is no memory controller of cgroups on this machine; use --limit watch")
    return Watchdog(limit)


def remove_stale_groups() -> None:
    """Removes the empty groups of runs that were killed."""
    for folder in (*_V1.glob(f"{_GROUP}-*-*"), *_V2.glob(f"{_GROUP}-*-*")):
        if not Path("/proc", folder.name.split("-")[2]).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()
