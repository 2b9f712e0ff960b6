"""docs/contract-coverage.md names tests that exist, and no row is without one."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from stores import embedded_only

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[2]
PAGE = REPO / "docs" / "contract-coverage.md"
NAMED = re.compile(r"`([\w./-]+\.(?:py|rs))::(\w+)`")


@cache
def named_in(path: Path) -> frozenset[str]:
    """Names of the tests in a Python or Rust file; none for a file that is not there."""
    if not path.exists():
        return frozenset()
    text = path.read_text()
    if path.suffix == ".py":
        return frozenset(node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))
    # `#[test]` or `#[tokio::test(…)]`, whatever other attributes stand between, then the function; or a fn of proptest!.
    return frozenset(re.findall(r"#\[(?:tokio::)?test(?:\([^)]*\))?\]\s*(?:#\[[^\]]*\]\s*)*(?:async )?fn (\w+)", text))


def rows() -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(PAGE.read_text().splitlines(), 1) if line.startswith("| ") and not line.startswith("| contract |")]


def test_every_named_test_exists() -> None:
    missing = []
    for number, row in rows():
        for file, name in NAMED.findall(row):
            path = HERE / file if "/" not in file else REPO / file
            if name not in named_in(path):
                missing.append(f"line {number}: {file}::{name}")
    assert not missing, "\n".join(missing)


def test_every_row_names_a_test_or_says_that_it_is_open() -> None:
    bare = [f"line {number}: {row}" for number, row in rows() if not NAMED.search(row) and not re.search(r"\| open\b", row)]
    assert not bare, "\n".join(bare)


def test_every_test_about_a_file_exists_and_says_why() -> None:
    """tests/embedded-only.txt, by which runs on PostgreSQL leave tests out."""
    for entry, reason in embedded_only().items():
        file, _, name = entry.partition("::")
        assert name in named_in(REPO / file), entry
        assert len(reason) > 10, entry


def test_every_section_is_there() -> None:
    sections = re.findall(r"^## (\S+) ", PAGE.read_text(), re.MULTILINE)
    assert sections == [*map(str, range(1, 19)), "20.1"]


def test_every_test_of_this_suite_says_what_it_holds() -> None:
    """A name and nothing else tells a reader what broke; so each file begins with its section."""
    for path in sorted(HERE.glob("test_*.py")):
        assert ast.get_docstring(ast.parse(path.read_text())), path.name
