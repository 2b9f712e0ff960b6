"""A copy of the checkout with all mutants behind switches, built once, and the test programs that come of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mutants.draw import Mutant
from mutants.weave import SWITCH, Source, Woven, weave

# The crate that all others stand on: it has the switch.
ROOT = "agentwrit-protocol"
ROOT_FILE = "protocol/src/lib.rs"
# The targets whose tests judge, by package: with what a mutant of the rules can be noticed.
JUDGES = {
    "agentwrit-protocol": ("lib", "session_model", "session_jumps"),
    "agentwrit-broker": ("lib", "api", "k8s_api", "openapi", "hostile"),
    "agentwrit-client": ("lib", "broker_client"),
    "agentwrit-cli": ("lib", "cli"),
    "agentwrit-sidecar": ("lib", "agent"),
    "agentwrit-controller": ("lib",),
    "agentwrit-crds": ("lib",),
}
# How cargo is told of them: the targets have names of their own, but for the libraries.
JUDGES_ARGUMENTS = [
    *(f"--package={name}" for name in JUDGES),
    *(part for name in dict.fromkeys(sum(JUDGES.values(), ())) for part in (["--lib"] if name == "lib" else ["--test", name])),
]


class NotBuilt(Exception):
    """The copy doesn't compile for a reason that no mutant explains."""


@dataclass(frozen=True)
class Program:
    """A test program."""

    name: str
    executable: Path
    # Where cargo would run it.
    folder: Path


class Tree:
    """The copy, with a target folder of its own."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.checkout = checkout
        self.folder = folder
        self.source = folder / "source"
        self.log = folder / "build.log"
        self.temporary = folder / "tmp"

    def refresh(self, besides: set[str]) -> None:
        """Makes the copy what the checkout is, but for some files that are written apart.

        Files that are the same keep their times, so little is built anew.
        """
        self.source.mkdir(parents=True, exist_ok=True)
        names = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=self.checkout, capture_output=True, check=True,
        ).stdout  # fmt: skip
        wanted = {name for name in names.decode().split("\0") if name and (self.checkout / name).is_file()}
        for name in wanted - besides:
            self.write(name, (self.checkout / name).read_bytes())
            shutil.copymode(self.checkout / name, self.source / name)
        for file in [file for file in self.source.rglob("*") if file.is_file()]:
            if str(file.relative_to(self.source)) not in wanted:
                file.unlink()
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir()

    def write(self, name: str, content: bytes) -> None:
        """A file of the copy."""
        file = self.source / name
        if not file.is_file() or file.read_bytes() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def environment(self) -> dict[str, str]:
        """For cargo and the tests: warnings of a mutant are no failure, and debug information would only slow the linker."""
        given = {"CARGO_TARGET_DIR": str(self.folder / "target"), "CARGO_PROFILE_DEV_DEBUG": "0", "RUSTFLAGS": "--cap-lints=allow"}
        return os.environ | given | {"TMPDIR": str(self.temporary)}

    def cargo(self, *arguments: str) -> tuple[bool, list[dict]]:
        """Runs cargo on the copy: whether it succeeded, and its messages."""
        command = ["cargo", arguments[0], "--locked", "--message-format=json", *arguments[1:]]
        with self.log.open("wb") as errors:
            done = subprocess.run(
                command, cwd=self.source, env=self.environment(), stdout=subprocess.PIPE, stderr=errors, check=False
            )
        messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
        with self.log.open("ab") as log:
            log.write("".join(each["message"]["rendered"] for each in errors_of(messages)).encode())
        return done.returncode == 0, messages

    def test_programs(self) -> list[Program]:
        """Builds the tests that judge."""
        built, messages = self.cargo("test", "--no-run", *JUDGES_ARGUMENTS)
        if not built:
            raise NotBuilt(f"the tests do not compile; see {self.log}")
        programs = []
        for message in messages:
            if message["reason"] == "compiler-artifact" and message["executable"] and message["profile"]["test"]:
                manifest = Path(message["manifest_path"])
                package = package_of(manifest)
                target = "lib" if "lib" in message["target"]["kind"] else message["target"]["name"]
                if target in JUDGES.get(package, ()):
                    executable = Path(message["executable"])
                    programs.append(Program(f"{package}/{target}", executable, manifest.parent))
        wanted = {f"{package}/{target}" for package, names in JUDGES.items() for target in names}
        if missing := wanted - {program.name for program in programs}:
            raise NotBuilt(f"cargo built no test program for {', '.join(sorted(missing))}")
        return programs


def package_of(manifest: Path) -> str:
    """The name in a Cargo.toml."""
    found = re.search(r'^name = "([^"]+)"', manifest.read_text(), re.MULTILINE)
    return found[1] if found else ""


def errors_of(messages: list[dict]) -> list[dict]:
    """The compiler's errors, but for its last words."""
    return [
        message for message in messages
        if message["reason"] == "compiler-message" and message["message"]["level"] == "error" and message["message"]["spans"]
    ]  # fmt: skip


class Loom:
    """Which mutants stand behind switches. Those that can't are built by themselves."""

    def __init__(self, tree: Tree, mutants: list[Mutant], unviable: set[str]) -> None:
        self.tree = tree
        self.mutants = dict(enumerate(mutants))
        self.numbers = {mutant.key: number for number, mutant in self.mutants.items()}
        files = {mutant.file for mutant in mutants}
        self.sources = {file: Source((tree.checkout / file).read_text()) for file in files}
        self.woven: dict[str, Woven] = {}
        self.active = {
            number for number, mutant in self.mutants.items()
            if mutant.key not in unviable and self.sources[mutant.file].body(mutant) is not None
        }  # fmt: skip
        self.files = {*files, ROOT_FILE}

    def number(self, mutant: Mutant) -> int | None:
        """The number of its switch, if it has one."""
        number = self.numbers.get(mutant.key)
        return number if number in self.active else None

    def write(self) -> None:
        """Writes the woven files into the copy."""
        by_file: defaultdict[str, dict[int, Mutant]] = defaultdict(dict)
        for number in sorted(self.active):
            by_file[self.mutants[number].file][number] = self.mutants[number]
        for file, source in self.sources.items():
            path = "crate" if self.mutants_package(file) == ROOT else ROOT.replace("-", "_")
            self.woven[file] = weave(source, by_file[file], path)
            text = self.woven[file].text
            self.tree.write(file, self.with_switch(file, text).encode())
        if ROOT_FILE not in self.sources:
            text = (self.tree.checkout / ROOT_FILE).read_text()
            self.tree.write(ROOT_FILE, self.with_switch(ROOT_FILE, text).encode())

    def mutants_package(self, file: str) -> str:
        """The package of a file with mutants."""
        return next(mutant.package for mutant in self.mutants.values() if mutant.file == file)

    def with_switch(self, file: str, text: str) -> str:
        """The text, and the switch when the file is the root's."""
        return text + SWITCH.replace("COUNT", str(len(self.mutants))) if file == ROOT_FILE else text

    def blamed(self, message: dict) -> set[int]:
        """The mutants that an error of the compiler comes from."""
        found = set()
        spans = list(message["message"]["spans"])
        while spans:
            span = spans.pop()
            if (file := self.woven.get(span["file_name"])) is not None and (number := file.at(span["line_start"])) is not None:
                found.add(number)
            if span.get("expansion"):
                spans.append(span["expansion"]["span"])
        return found

    def in_const(self, message: dict) -> set[int]:
        """The mutants of a function that is called while compiling (E0015)."""
        found = re.search(r"cannot call non-const .*`(?:.*::)?(\w+)(?:::<.*>)?`", message["message"]["message"])
        if found is None:
            return set()
        name = re.compile(rf"(?:^|::){found[1]}$")
        return {
            number for number in self.active
            if self.sources[self.mutants[number].file].const(self.mutants[number]) is not None
            and name.search(self.mutants[number].function_name)
        }  # fmt: skip

    def compile(self, unviable: Callable[[Mutant], None], say: Callable[[str], None]) -> None:
        """Takes out what doesn't compile until the rest does: the compiler names the kinds of errors one after another."""
        packages = [f"--package={name}" for name in {mutant.package for mutant in self.mutants.values()}]
        # The libraries alone are quick; the tests switch features of theirs on.
        for arguments in (["--lib", *packages], ["--profile=test", *JUDGES_ARGUMENTS]):
            while not self.compiles(arguments, unviable, say):
                pass

    def compiles(self, arguments: list[str], unviable: Callable[[Mutant], None], say: Callable[[str], None]) -> bool:
        """Whether the copy compiles; takes out what doesn't."""
        self.write()
        say(f"compiling with {len(self.active)} mutants behind switches")
        compiled, messages = self.tree.cargo("check", *arguments)
        if compiled:
            return True
        wrong: set[int] = set()
        const: set[int] = set()
        for message in errors_of(messages):
            blamed = self.blamed(message)
            wrong |= blamed
            if not blamed:
                const |= self.in_const(message)
        if not wrong and not const:
            raise NotBuilt(f"the copy does not compile; see {self.tree.log}")
        for number in sorted(wrong):
            unviable(self.mutants[number])
        self.active -= wrong | const
        return False

    def alone(self, mutant: Mutant) -> None:
        """Writes the mutant into the copy in place of its file's switches."""
        text = self.sources[mutant.file].changed(mutant)
        self.tree.write(mutant.file, self.with_switch(mutant.file, text).encode())
