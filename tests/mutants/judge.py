"""Runs the tests against one mutant, and says whether one of them fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mutants.tree import Program, Tree

CAUGHT, TIMEOUT, MISSED, UNVIABLE = "caught", "timeout", "missed", "unviable"
FAILED = re.compile(r"^test (?P<name>\S+).* \.\.\. FAILED$")
# A program that runs longer than this, and than some times what it takes without a mutant, hangs.
SHORTEST_TIMEOUT = 60.0
TIMEOUT_FACTOR = 6


class NotJudged(Exception):
    """The tests say nothing about mutants: they fail without one."""


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant, in how many test programs, and how long it took."""

    outcome: str
    programs: int
    seconds: float
    test: str = ""


class Running:
    """A test program that runs, with its children in a process group of its own."""

    def __init__(self, program: Program, tree: Tree, given: dict[str, str], timeout: float, arguments: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [program.executable, *arguments], cwd=program.folder, env=tree.environment() | given, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self.hung = False
        self.timer = threading.Timer(timeout, self.time_out)
        self.timer.start()

    def time_out(self) -> None:
        """Ends a program that hangs."""
        self.hung = True
        self.kill()

    def kill(self) -> None:
        """Ends the program and what it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def failures(self) -> Iterator[str]:
        """The names of the tests that fail, as they do."""
        for line in self.process.stdout:
            if found := FAILED.match(line.rstrip()):
                yield found["name"]

    def end(self) -> int:
        """Waits for the program; its exit code."""
        code = self.process.wait()
        self.timer.cancel()
        self.kill()
        self.process.stdout.close()
        return code


@dataclass(frozen=True)
class Known:
    """What is known of a test program without a mutant."""

    program: Program
    seconds: float
    # The switches that each of its tests comes by.
    reached: dict[str, frozenset[int]]

    def expected(self, tests: tuple[str, ...]) -> float:
        """How long some of its tests take, about."""
        return self.seconds * len(tests) / max(1, len(self.reached))

    def timeout(self, tests: tuple[str, ...]) -> float:
        """When some of its tests hang."""
        return max(SHORTEST_TIMEOUT, TIMEOUT_FACTOR * self.expected(tests))

    def tests(self, number: int | None) -> tuple[str, ...]:
        """The tests that come by a mutant; all of them for one without a switch."""
        return tuple(test for test, switches in self.reached.items() if number is None or number in switches)


def traced(program: Program, tree: Tree, test: str) -> frozenset[int]:
    """Runs a test without a mutant, and notes the switches that it comes by. What fails then would count as a find."""
    with tempfile.NamedTemporaryFile(dir=tree.folder, prefix="reached-") as file:
        running = Running(program, tree, {"AGENTWRIT_MUTANTS_REACHED": file.name}, 10 * SHORTEST_TIMEOUT, ("--exact", test))
        failed = list(running.failures())
        code = running.end()
        if code or failed:
            raise NotJudged(f"{program.name} {test} fails without any mutant (exit code {code})")
        return frozenset(map(int, file.read().split()))


def names_of(program: Program, tree: Tree) -> list[str]:
    """The tests of a program."""
    listing = subprocess.run(
        [program.executable, "--list", "--format", "terse"], cwd=program.folder, env=tree.environment(), capture_output=True, check=True
    ).stdout  # fmt: skip
    return [line.removesuffix(": test") for line in listing.decode().splitlines() if line.endswith(": test")]


def look(program: Program, tree: Tree, workers: int) -> Known:
    """Runs the tests of a program one by one, without a mutant; once for each build of it."""
    begin = time.monotonic()
    build = program.executable.stat()
    file = tree.folder / "known" / f"{program.executable.name}-{build.st_mtime_ns}-{build.st_size}.json"
    if file.exists():
        seconds, stored = json.loads(file.read_text())
        return Known(program, seconds, {test: frozenset(numbers) for test, numbers in stored.items()})
    names = names_of(program, tree)
    with ThreadPoolExecutor(workers) as pool:
        reached = dict(zip(names, pool.map(lambda test: traced(program, tree, test), names)))
    known = Known(program, time.monotonic() - begin, reached)
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps([known.seconds, {test: sorted(numbers) for test, numbers in reached.items()}]))
    return known


def order(known: list[Known], number: int | None) -> list[tuple[Known, tuple[str, ...]]]:
    """The programs with tests that come by a mutant, and those tests; those that will be done first come first."""
    chosen = [(each, tests) for each in known if (tests := each.tests(number))]
    return sorted(chosen, key=lambda pair: pair[0].expected(pair[1]))


class Judge:
    """Judges mutants that are built."""

    def __init__(self, tree: Tree, known: list[Known]) -> None:
        self.tree = tree
        self.known = known

    def fails_alone(self, each: Known, given: dict[str, str], test: str) -> bool:
        """Whether a test fails again when it runs by itself: one that fails on a busy machine has found nothing."""
        running = Running(each.program, self.tree, given, each.timeout((test,)), ("--exact", test))
        failed = list(running.failures())
        return bool(running.end()) or bool(failed)

    def run(self, each: Known, given: dict[str, str], tests: tuple[str, ...]) -> tuple[str, str]:
        """What becomes of a mutant under some tests of a program, and the test that caught it."""
        running = Running(each.program, self.tree, given, each.timeout(tests), ("--exact", *tests))
        tried = set()
        for test in running.failures():
            tried.add(test)
            if self.fails_alone(each, given, test):
                running.kill()
                running.end()
                return CAUGHT, test
        code = running.end()
        if running.hung:
            return TIMEOUT, ""
        # A program that ended without naming a test has crashed.
        return (CAUGHT, "(the program ends)") if code and not tried else (MISSED, "")

    def judge(self, number: int | None) -> Verdict:
        """Runs one program after the other until one catches the mutant; `None` is the one that is built in."""
        begin = time.monotonic()
        given = {} if number is None else {"AGENTWRIT_MUTANT": str(number)}
        chosen = order(self.known, number)
        for count, (each, tests) in enumerate(chosen, start=1):
            outcome, test = self.run(each, given, tests)
            if outcome != MISSED:
                return Verdict(outcome, count, round(time.monotonic() - begin, 1), f"{each.program.name} {test}".strip())
        return Verdict(MISSED, len(chosen), round(time.monotonic() - begin, 1))
