#!/usr/bin/env python3
"""Checks that the files which the documents name are there, and what they name in files of Rust.

A name in backticks that has a slash and one of our endings must be the end of the path of a file of the repository, and a name of two
parts or more that ends with a slash must be the end of a folder's. A link to a file must lead to one, seen from its page.

`path/file.rs::name` must be the whole path of a file and the name of an item in it: `name` of one that stands alone, `Type::name` of a
method, a constant or a variant, `From<Error>` of a conversion. `::name` is an item of the file named before it in its line. In
contract-source.md the items of tests don't count.
"""

import re
import subprocess
import sys
from pathlib import Path

import rust_items

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md", "helm/**/*.md", "examples/**/*.md", "tests/**/README.md"]
NAMED = re.compile(r"`((?:[\w.-]+/)+[\w.-]+(?:/|\.(?:rs|py|sh|sql|toml|md)))`")
ITEM = re.compile(r"`((?:[\w.-]+/)*[\w.-]+\.rs)?::([\w:<>]+)`")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
# Says where rules are, which is never in a test.
WITHOUT_TESTS = "docs/contract-source.md"
# Paths of other programs, or of what the reader makes.
ELSEWHERE = re.compile(r"^(?:etc|target|usr|var|opt|app|agentwrit|api|apis|v1|tmp)/")


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def missing_items(where: str, line: str, files: set[str], *, tests: bool) -> list[str]:
    found = []
    path = ""
    for named, name in ITEM.findall(line):
        path = named or path
        if not path:
            found.append(f"{where}: no file is named before ::{name}")
        elif path not in files:
            found.append(f"{where}: there is no file {path}, in which to find {name}{others(name, files)}")
        elif not rust_items.of_file(ROOT / path, tests=tests).has(name):
            found.append(f"{where}: {path} has no {name}{'' if tests else ' outside of tests'}{others(name, files)}")
    return found


def others(name: str, files: set[str]) -> str:
    """Where else an item of this name is, for whoever mends the page after a move."""
    there = sorted(path for path in files if path.endswith(".rs") and rust_items.of_file(ROOT / path, tests=False).has(name))
    return f": there is one in {', '.join(there[:3])}{' and others' if there[3:] else ''}" if there else ""


def faults(page: str, text: str, files: list[str]) -> list[str]:
    folders = {str(parent) for file in files for parent in Path(file).parents}
    paths = set(files)
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        found += missing_items(f"{page}:{number}", line, paths, tests=page != WITHOUT_TESTS)
        for name in NAMED.findall(line):
            if ELSEWHERE.match(name):
                continue
            known = folders if name.endswith("/") else files
            bare = name.rstrip("/")
            if not any(path == bare or path.endswith("/" + bare) for path in known):
                found.append(f"{page}:{number}: there is no {name}")
        for target in LINK.findall(line):
            if not (ROOT / page).parent.joinpath(target).exists():
                found.append(f"{page}:{number}: the link leads nowhere: {target}")
    return found


def selftest(files: list[str]) -> list[str]:
    wrong = ["see `broker/src/none.rs`", "see `none/lib.rs`", "in `nowhere/at/all/`", "[there](none.md)"]
    wrong += ["`broker/src/none.rs::main`", "`src/lib.rs::main`", "`broker/src/main.rs::none`", "`broker/src/main.rs::main`, `::none`", "`::main`"]
    right = ["see `broker/src/lib.rs`, `service/session/register.rs`, `broker/src/`", "`target/images/x.sh`", "[there](docs/README.md#a)", "`a b/c.rs`"]
    right += ["`broker/src/main.rs::main`, `::main`", "`std::fmt`"]
    found = [f"this script finds nothing wrong with {text!r}" for text in wrong if not faults("README.md", text, files)]
    return found + [f"this script finds fault with {text!r}" for text in right if "docs/README.md" not in text and faults("README.md", text, files)]


def main() -> int:
    files = tracked()
    pages = sorted({path for pattern in PAGES for path in ROOT.glob(pattern) if "node_modules" not in path.parts})
    found = rust_items.selftest() + selftest(files)
    for page in pages:
        found += faults(str(page.relative_to(ROOT)), page.read_text(), files)
    print("\n".join(found) or f"{len(pages)} pages name files that are there")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
