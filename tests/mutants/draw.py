"""Which mutants there are, and in which order a seed draws them."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

# A line and a column, from 1.
Place = tuple[int, int]
Span = tuple[Place, Place]
POSITION = re.compile(r"^(?P<file>[^:]+):\d+:\d+: (?P<change>.*)$", re.DOTALL)


@dataclass(frozen=True)
class Mutant:
    """One change of the source that a test should notice."""

    # As cargo-mutants names it: file, line, column, and what is changed.
    name: str
    package: str
    file: str
    # What its function was when the mutant was listed: a result counts for that text only, wherever it stands.
    digest: str
    # What is changed, into what, and the function around it.
    span: Span
    replacement: str
    function: Span | None
    function_name: str
    # The same change can be made at several places of one function.
    copy: int = 0
    # The same change can be made in functions of one name.
    namesake: int = 0

    @property
    def change(self) -> str:
        """What is changed, without the position, which moves whenever a line is added above."""
        found = POSITION.match(self.name)
        return found["change"] if found else self.name

    @property
    def key(self) -> str:
        """The name of a result: stays when the file is moved, or edited elsewhere."""
        return f"{self.digest} {self.copy} {self.change}"

    def rank(self, seed: int) -> str:
        """Where the seed puts it. Not by file or text: an edit elsewhere draws nothing anew."""
        return hashlib.sha256(f"{seed} {self.package} {self.namesake} {self.change}".encode()).hexdigest()


def span_of(item: dict | None) -> Span | None:
    """The span of something that cargo-mutants lists, if it has one."""
    if item is None:
        return None
    start, end = ((place["line"], place["column"]) for place in (item["span"]["start"], item["span"]["end"]))
    return start, end


def digest_of(function: Span | None, lines: list[str]) -> str:
    """A hash of the function that the mutant is in; of the whole file when it is in none."""
    if function is not None:
        lines = lines[function[0][0] - 1 : function[1][0]]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def parse(listing: str, root: Path) -> list[Mutant]:
    """Reads what `cargo mutants --list --json` prints."""
    sources: dict[str, list[str]] = {}
    copies: Counter[tuple[str, str]] = Counter()
    namesakes: Counter[tuple[str, str]] = Counter()
    mutants = []
    for item in json.loads(listing):
        file = item["file"]
        if file not in sources:
            sources[file] = (root / file).read_text().splitlines()
        function = span_of(item.get("function"))
        digest = digest_of(function, sources[file])
        name = item["function"]["function_name"] if function else ""
        mutant = Mutant(item["name"], item["package"], file, digest, span_of(item), item["replacement"], function, name)
        copy, namesake = (mutant.digest, mutant.change), (mutant.package, mutant.change)
        mutants.append(replace(mutant, copy=copies[copy], namesake=namesakes[namesake]))
        copies[copy] += 1
        namesakes[namesake] += 1
    return mutants


def listed(root: Path, package: str, files: list[str]) -> list[Mutant]:
    """The mutants of some files of a package."""
    command = ["cargo", "mutants", "--list", "--json", "--package", package]
    for file in files:
        command += ["--file", file]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return parse(done.stdout, root)


def drawn(mutants: list[Mutant], seed: int) -> list[Mutant]:
    """All of them, in the order of the seed."""
    return sorted(mutants, key=lambda mutant: mutant.rank(seed))
