#!/usr/bin/env python3
"""Checks that the files which the documents name are there.

A name in backticks that has a slash and one of our endings must be the end of the path of a file of the repository, and a name of two
parts or more that ends with a slash must be the end of a folder's. A link to a file must lead to one, seen from its page.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md", "helm/**/*.md", "examples/**/*.md", "tests/**/README.md"]
NAMED = re.compile(r"`((?:[\w.-]+/)+[\w.-]+(?:/|\.(?:rs|py|sh|sql|toml|md)))`")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
# Paths of other programs, or of what the reader makes.
ELSEWHERE = re.compile(r"^(?:etc|target|usr|var|opt|app|agentwrit|api|apis|v1|tmp)/")


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


def faults(page: str, text: str, files: list[str]) -> list[str]:
    folders = {str(parent) for file in files for parent in Path(file).parents}
    found = []
    for number, line in enumerate(text.splitlines(), 1):
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
    right = ["see `broker/src/lib.rs`, `service/session/register.rs`, `broker/src/`", "`target/images/x.sh`", "[there](docs/README.md#a)", "`a b/c.rs`"]
    found = [f"this script finds nothing wrong with {text!r}" for text in wrong if not faults("README.md", text, files)]
    return found + [f"this script finds fault with {text!r}" for text in right if "docs/README.md" not in text and faults("README.md", text, files)]


def main() -> int:
    files = tracked()
    pages = sorted({path for pattern in PAGES for path in ROOT.glob(pattern) if "node_modules" not in path.parts})
    found = selftest(files)
    for page in pages:
        found += faults(str(page.relative_to(ROOT)), page.read_text(), files)
    print("\n".join(found) or f"{len(pages)} pages name files that are there")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
