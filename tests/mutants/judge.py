"""Runs the tests against one mutant, in a copy of the checkout that stays built."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from mutants.draw import Mutant

CAUGHT, TIMEOUT, MISSED, UNVIABLE = "caught", "timeout", "missed", "unviable"
# What cargo-mutants calls them in outcomes.json.
OUTCOMES = {"CaughtMutant": CAUGHT, "Timeout": TIMEOUT, "MissedMutant": MISSED, "Unviable": UNVIABLE}

BUILD_SECONDS = 1_200
TEST_SECONDS = 300


@dataclass(frozen=True)
class Suite:
    """Tests that are run together."""

    packages: tuple[str, ...]
    targets: tuple[str, ...]

    def arguments(self) -> list[str]:
        """For `cargo test`, but for the packages."""
        return [part for target in self.targets for part in (["--lib"] if target == "lib" else ["--test", target])]


BROKER = Suite(("agentwrit-broker",), ("lib", "api", "k8s_api", "openapi"))
# What stands on the protocol beside the broker.
PROGRAMS = Suite(
    ("agentwrit-client", "agentwrit-cli", "agentwrit-sidecar", "agentwrit-controller", "agentwrit-crds"),
    ("lib", "broker_client", "cli", "agent"),
)
# The first suite is the quickest that finds most; what it misses is given to the next one.
SUITES = {
    "agentwrit-protocol": (Suite(("agentwrit-protocol",), ("lib", "session_model", "session_jumps")), BROKER, PROGRAMS),
    "agentwrit-broker": (BROKER, Suite(("agentwrit-broker", "agentwrit-cli"), ("hostile", "memory", "cli"))),
}


class NotJudged(Exception):
    """cargo-mutants could not say what became of a mutant."""


def exact(name: str) -> str:
    """A regular expression (of Rust's crate `regex`) that is this name and no other."""
    return "^" + re.sub(r"([\\.+*?()|\[\]{}^$#&~\-])", r"\\\1", name) + "$"


class Tree:
    """A copy of the checkout with a target folder of its own."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.checkout = checkout
        self.folder = folder
        self.source = folder / "source"
        self.log = folder / "log"
        self.passed: set[Suite] = set()

    def refresh(self) -> None:
        """Makes the copy what the checkout is. Files that are the same keep their times, so little is built anew."""
        self.source.mkdir(parents=True, exist_ok=True)
        self.log.mkdir(exist_ok=True)
        names = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=self.checkout, capture_output=True, check=True,
        ).stdout  # fmt: skip
        wanted = {name for name in names.decode().split("\0") if name and (self.checkout / name).is_file()}
        for name in wanted:
            here, there = self.checkout / name, self.source / name
            if not there.is_file() or there.read_bytes() != here.read_bytes():
                there.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(here, there)
        for file in [file for file in self.source.rglob("*") if file.is_file() and ".git" not in file.parts]:
            relative = str(file.relative_to(self.source))
            if relative not in wanted and not relative.startswith(("target/", "mutants.out")):
                file.unlink()

    def environment(self) -> dict[str, str]:
        """For cargo: warnings of a mutant are no failure, and debug information would only slow the linker."""
        given = {"CARGO_TARGET_DIR": str(self.folder / "target"), "CARGO_PROFILE_DEV_DEBUG": "0", "RUSTFLAGS": "--cap-lints=allow"}
        return os.environ | given

    def passes(self, suite: Suite) -> None:
        """Builds and runs a suite on the source as it is, once: what fails without a mutant would count as a find."""
        if suite in self.passed:
            return
        command = ["cargo", "test", "--locked", *(f"--package={name}" for name in suite.packages), *suite.arguments()]
        log = self.log / "baseline.log"
        with log.open("wb") as out:
            done = subprocess.run(command, cwd=self.source, env=self.environment(), stdout=out, stderr=out, check=False)
        if done.returncode:
            raise NotJudged(f"{' '.join(command)} fails without any mutant; see {log}")
        self.passed.add(suite)

    def try_suite(self, mutant: Mutant, suite: Suite) -> str:
        """What becomes of the mutant under a suite: the tests stop at the first that fails."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        command = [
            "cargo", "mutants", "--in-place", "--baseline=skip", "--no-times", "--colors=never", "--dir", str(self.source),
            "--output", str(out), "--timeout", str(TEST_SECONDS), "--build-timeout", str(BUILD_SECONDS),
            "--package", mutant.package, "--file", mutant.file, "--re", exact(mutant.name),
            "--test-package", ",".join(suite.packages), "--", "--locked", *suite.arguments(),
        ]  # fmt: skip
        log = self.log / "last.log"
        with log.open("wb") as text:
            subprocess.run(command, cwd=self.source, env=self.environment(), stdout=text, stderr=text, check=False)
        return outcome(out / "mutants.out" / "outcomes.json", log)


def outcome(file: Path, log: Path) -> str:
    """Reads outcomes.json of a run of one mutant."""
    try:
        runs = [run for run in json.loads(file.read_text())["outcomes"] if run["scenario"] != "Baseline"]
        (run,) = runs
        return OUTCOMES[run["summary"]]
    except (OSError, ValueError, KeyError) as problem:
        raise NotJudged(f"no outcome ({type(problem).__name__}: {problem}); see {log}") from problem


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant, and how long it took."""

    outcome: str
    suites: int
    seconds: float


def judge(tree: Tree, mutant: Mutant) -> Verdict:
    """Gives the mutant to one suite after the other, until one catches it."""
    begin = time.monotonic()
    suites = SUITES[mutant.package]
    for number, suite in enumerate(suites, start=1):
        tree.passes(suite)
        result = tree.try_suite(mutant, suite)
        if result != MISSED:
            break
    return Verdict(result, number, round(time.monotonic() - begin, 1))
