"""Puts many mutants into one program, each behind a switch, so that one build serves them all.

A function with mutants gets, at the start of its body, a copy of its body for each of them:

    fn f(…) -> T {
        if crate::mutant_switch::is_on(17) { return { …the body with the change… }; }
        …the body…
    }

Which one is on is said by the environment, when a test runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate

from mutants.draw import Mutant

MODULE = "mutant_switch"
# Appended to the root of the crate that all others stand on.
SWITCH = """
/// Which mutant is on; written by `make mutants` into its copy of the source.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod mutant_switch {
    use std::io::Write;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    static CHOSEN: LazyLock<Option<usize>> =
        LazyLock::new(|| std::env::var("AGENTWRIT_MUTANT").ok().and_then(|number| number.parse().ok()));
    static REACHED_FILE: LazyLock<Option<std::ffi::OsString>> = LazyLock::new(|| std::env::var_os("AGENTWRIT_MUTANTS_REACHED"));
    static REACHED: [AtomicBool; COUNT] = [const { AtomicBool::new(false) }; COUNT];

    pub fn is_on(number: usize) -> bool {
        if let Some(file) = REACHED_FILE.as_ref() {
            if !REACHED[number].swap(true, Ordering::Relaxed) {
                let mut out = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
                out.write_all(format!("{number}\\n").as_bytes()).unwrap();
            }
        }
        *CHOSEN == Some(number)
    }
}
"""
# What the braces of Rust text don't count in. A lifetime (`'a`) is none of these: a character ends with a quote.
NOT_CODE = re.compile(
    r"""//[^\n]*|/\*|b?r(?P<hashes>\#*)"|b?"(?:[^"\\]|\\.)*"|b?'(?:[^'\\]|\\(?:u\{[^}]*\}|x..|.))'|[{}]""", re.DOTALL
)
CONST = re.compile(r"\bconst\s+(?=fn\b)")


def block_comment_end(text: str, at: int) -> int:
    """Where the comment that was opened before `at` ends; they nest."""
    depth = 1
    for mark in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    return len(text)


def body_of(text: str) -> tuple[int, int] | None:
    """Where the body of a function's text stands, without its braces; `None` when it doesn't end with one."""
    opened: list[int] = []
    last = None
    at = 0
    while found := NOT_CODE.search(text, at):
        at = found.end()
        if found[0] == "/*":
            at = block_comment_end(text, at)
        elif found["hashes"] is not None:
            at = text.index('"' + found["hashes"], at) + 1 + len(found["hashes"])
        elif found[0] == "{":
            opened.append(found.start())
        elif found[0] == "}" and opened:
            last = (opened.pop() + 1, found.start())
    return last if last is not None and not opened and last[1] == len(text) - 1 else None


@dataclass(frozen=True)
class Region:
    """The lines of a woven file that belong to a mutant."""

    first: int
    last: int
    number: int


@dataclass(frozen=True)
class Woven:
    """A file with its mutants behind switches."""

    text: str
    regions: tuple[Region, ...]

    def at(self, line: int) -> int | None:
        """The mutant that a line belongs to."""
        return next((region.number for region in self.regions if region.first <= line <= region.last), None)


class Source:
    """The text of a file, by lines and columns as cargo-mutants counts them: from 1, columns in characters."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]

    def offset(self, place: tuple[int, int]) -> int:
        """Of a line and a column."""
        line, column = place
        return self.starts[line - 1] + column - 1

    def changed(self, mutant: Mutant) -> str:
        """The whole text with the mutant, and nothing else changed."""
        start, end = map(self.offset, mutant.span)
        return self.text[:start] + mutant.replacement + self.text[end:]

    def body(self, mutant: Mutant) -> tuple[int, int] | None:
        """Where the body of the mutant's function stands; `None` when the mutant can't stand behind a switch there."""
        if mutant.function is None:
            return None
        start, end = map(self.offset, mutant.function)
        inner = body_of(self.text[start:end])
        if inner is None:
            return None
        head = self.text[start : start + inner[0]]
        # Each body behind a switch would be a type of its own.
        if re.search(r"->\s*impl\b", head):
            return None
        return start + inner[0], start + inner[1]


    def const(self, mutant: Mutant) -> tuple[int, int] | None:
        """Where the word `const` of the mutant's function stands: it can be called while compiling, when no switch can be read."""
        if (body := self.body(mutant)) is None:
            return None
        found = CONST.search(self.text, self.offset(mutant.function[0]), body[0])
        return found.span() if found else None


def weave(source: Source, mutants: dict[int, Mutant], path: str) -> Woven:
    """The file with these mutants, by number, behind switches; `path` is that of the crate which has the switch."""
    text = source.text
    # Where, what is taken away, and what comes there instead; for which mutant.
    edits: list[tuple[int, int, str, int | None]] = []
    plain: set[tuple[int, int]] = set()
    for number, mutant in mutants.items():
        body = source.body(mutant)
        assert body is not None, mutant.name
        start, end = map(source.offset, mutant.span)
        copy = text[body[0] : start] + mutant.replacement + text[end : body[1]]
        edits.append((body[0], body[0], f"\nif {path}::{MODULE}::is_on({number}) {{ return {{{copy}\n}}; }}\n", number))
        if (const := source.const(mutant)) is not None and const not in plain:
            plain.add(const)
            edits.append((*const, "", None))
    pieces: list[str] = []
    regions: list[Region] = []
    at, line = 0, 1
    for start, end, insertion, number in sorted(edits, key=lambda edit: edit[0]):
        pieces += [text[at:start], insertion]
        line += text.count("\n", at, start)
        if number is not None:
            regions.append(Region(line + 1, line + insertion.count("\n") - 1, number))
        line += insertion.count("\n")
        at = end
        # A taken-away text has no line break: `const ` stands before `fn` on its line.
        line += text.count("\n", start, end)
    pieces.append(text[at:])
    return Woven("".join(pieces), tuple(regions))
