"""Command line of the attacks; scripts/attack.sh calls it and builds the programs first."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import NoReturn

from .attacks import ALL
from .attacks.registry import Attack
from .core.hand import raise_open_files
from .core.limit import remove_stale_groups
from .core.table import table
from .runner import FULL, SHORT, run
from .settings import KINDS
from .verdict import Result, everybody_text, memory_text
from .world.setting import Options

_PROGRAMS = ("agentwrit-broker", "agentwrit-controller", "agentwrit-sidecar")
_EXAMPLES = """\
examples:
  scripts/attack.sh                                   all attacks in short form, as make test runs them
  scripts/attack.sh --full                            all of them, longer, each from 1, 8 and 200 sources
  scripts/attack.sh bodies-held ops-listener          these two
  scripts/attack.sh --sources 200 memory-family       from so many addresses
  scripts/attack.sh --bin target/baseline --json old.json
  scripts/attack.sh --list                            names, and what each attacker wants
"""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/attack.sh",
        description="Attacks the released programs under the chart's memory limits; says whether everybody else was served.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="attacks to run (default: all)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="a few seconds each, one or two numbers of sources (default)")
    form.add_argument("--full", action="store_true", help="15 s each, from 1, 8 and 200 sources, more connections")
    parser.add_argument("--list", action="store_true", help="say which attacks there are, and run none")
    parser.add_argument("--sources", type=int, metavar="N", help="addresses of the attacker, instead of the attack's own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")
    parser.add_argument(
        "--bin", type=Path, metavar="DIR", default=os.environ.get("AGENTWRIT_BIN", "target/release"),
        help="folder of the programs; default: AGENTWRIT_BIN, or target/release, which is built first",
    )
    parser.add_argument(
        "--limit", choices=("auto", "cgroup", "watch"), default="auto",
        help="how memory is limited: a control group, or a watch that kills (auto: a control group where one can be made)",
    )  # fmt: skip
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", default="target/attack",
        help="where stores and logs are kept while an attack runs, and after one that failed; default: target/attack",
    )  # fmt: skip
    return parser.parse_args()


def _wrong(sentence: str) -> NoReturn:
    print(f"attack: {sentence}", file=sys.stderr)
    sys.exit(2)


def _chosen(names: list[str]) -> list[Attack]:
    for name in names:
        if name not in ALL:
            _wrong(f'unknown attack "{name}"; use one of: {" ".join(ALL)}')
    return [ALL[name] for name in names or ALL]


def _list() -> None:
    for one in ALL.values():
        print(f"{one.name} ({KINDS[one.setting].program}, {one.connections[0]} or {one.connections[1]} connections)")
        print(textwrap.indent(textwrap.fill(one.wants, 100), "    "))


def _line(result: Result) -> str:
    how = "held" if result.held else "FAILED: " + "; ".join(reason.text for reason in result.reasons)
    again = f", try {result.tries}" if result.tries > 1 else ""
    return f"attack: {result.name} from {result.sources}: {how} ({result.seconds:.1f} s{again})"


def _table(results: list[Result]) -> str:
    rows = []
    for result in results:
        rows.append(
            [
                f"{result.name}\n{result.sources} source{'s' if result.sources > 1 else ''}",
                result.reached or "-",
                everybody_text(result.seen) or "-",
                memory_text(result),
                "held" if result.held else "FAILED\n" + "\n".join(reason.text.splitlines()[0] for reason in result.reasons),
            ]
        )
    headings = ["attack", "the attacker reached", "everybody else saw: ms (quiet), failed", "peak RSS, MiB", "verdict"]
    return table(headings, rows, [20, 46, 56, 16, 60])


def main() -> int:
    """Exit status: 0 when all held, 1 when one failed, 2 for a wrong argument."""
    arguments = _arguments()
    if arguments.list:
        _list()
        return 0
    attacks = _chosen(arguments.names)
    # Whatever ends this run, the programs are stopped and their groups removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    remove_stale_groups()
    for program in _PROGRAMS:
        if not (arguments.bin / program).is_file():
            _wrong(f"there is no {arguments.bin / program}; scripts/images.sh --release build makes it")
    if raise_open_files() < 12_000:
        print("attack: fewer than 12,000 open files are allowed (ulimit -Hn): attacks with more connections are weaker")
    size = FULL if arguments.full else SHORT
    arguments.folder.mkdir(parents=True, exist_ok=True)
    base = Path(tempfile.mkdtemp(prefix="run-", dir=arguments.folder.resolve()))
    options = Options(arguments.bin.resolve(), base, arguments.limit)
    begin = time.monotonic()
    results: list[Result] = []
    for one in attacks:
        counts = (one.full_sources if size.full else one.short_sources) or (one.full_sources if arguments.names else ())
        for count in (arguments.sources,) if arguments.sources else counts:
            print(f"attack: {one.name} from {count}: started", flush=True)
            results.append(run(one, count, size, options, len(results)))
            print(_line(results[-1]), flush=True)
    kinds = " and ".join(sorted({result.limit_kind for result in results if result.limit_kind}))
    print(f"\nMemory limits of the chart, held by: {kinds}. {time.monotonic() - begin:.0f} s in all.\n")
    print(_table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps([result.as_json() for result in results], indent=1) + "\n")
    failed = sum(not result.held for result in results)
    if failed:
        print(f"\nattack: what the programs printed in attacks that failed is in {base}")
    else:
        shutil.rmtree(base)
    print(f"attack: {len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
