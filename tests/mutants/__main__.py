"""Draws mutants by a seed, gives each to the tests, and says which ones no test noticed."""

from __future__ import annotations

import argparse
import os
import queue
import sys
import threading
import time
from pathlib import Path

from mutants.draw import Mutant, drawn, listed
from mutants.judge import MISSED, UNVIABLE, Tree, judge
from mutants.results import Argued, Results, Score, sample_of, score

CHECKOUT = Path(__file__).resolve().parents[2]
WORK = CHECKOUT / "target" / "mutants"
ARGUED = Path(__file__).resolve().parent / "argued.toml"
# What is mutated: the rules.
SOURCES = {"agentwrit-protocol": ["protocol/src/**"], "agentwrit-broker": ["broker/src/service/**"]}
GOAL_PERCENT = 90.0
ARGUED_PERCENT = 3.0


def say(text: str) -> None:
    """A line of progress, at once."""
    print(f"mutants: {text}", flush=True)


class Run:
    """Judges a sample with some trees side by side."""

    def __init__(self, order: list[Mutant], count: int, results: Results, until: float | None) -> None:
        self.order = order
        self.count = count
        self.results = results
        self.until = until
        self.lock = threading.Lock()
        self.taken: set[str] = set()
        self.problems: queue.SimpleQueue[Exception] = queue.SimpleQueue()

    def next(self) -> Mutant | None:
        """The next one of the sample that nobody has judged or taken. One that doesn't compile makes room for another."""
        with self.lock:
            if not self.problems.empty() or (self.until is not None and time.monotonic() > self.until):
                return None
            for mutant in sample_of(self.order, self.results, self.count):
                if self.results.get(mutant) is None and mutant.key not in self.taken:
                    self.taken.add(mutant.key)
                    return mutant
        return None

    def work(self, tree: Tree) -> None:
        """One tree's share of the work."""
        try:
            tree.refresh()
            say(f"{tree.folder.name}: before its first mutant each suite is built and run without one (minutes when cold)")
            while (mutant := self.next()) is not None:
                verdict = judge(tree, mutant)
                self.results.add(mutant, verdict)
                done = sum(self.results.get(each) is not None for each in sample_of(self.order, self.results, self.count))
                say(f"{done} of {self.count}  {verdict.outcome:8} {verdict.seconds:6.1f} s  {mutant.name}")
        except Exception as problem:  # noqa: BLE001: told by the main thread
            self.problems.put(problem)


def report(result: Score, seed: int, count: int) -> None:
    """Says what there is to say of a sample."""
    for mutant in result.missed:
        say(f"missed: {mutant.name}")
    for mutant, reason in result.argued:
        say(f"argued: {mutant.name}: {reason}")
    argued = 100 * len(result.argued) / result.judged if result.judged else 0.0
    say(
        f"seed {seed}: {result.judged} of {count} judged, {result.caught} caught ({result.percent:.1f} %), "
        f"{len(result.argued)} argued ({argued:.1f} %), {len(result.missed)} missed"
    )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/mutants.sh",
        description=__doc__,
        epilog="A run that was stopped goes on where it was: results are kept in target/mutants/results.jsonl, each for "
        "the text that its file had. Example: scripts/mutants.sh --seed 7 --count 400 --minutes 60",
    )
    parser.add_argument("--seed", type=int, default=1, help="which sample (default 1)")
    parser.add_argument("--count", type=int, default=400, help="mutants that compile in the sample (default 400)")
    parser.add_argument("--all", action="store_true", help="every mutant there is, instead of a sample")
    parser.add_argument("--trees", type=int, default=os.cpu_count() or 1, help="copies that work side by side (default: one a core)")
    parser.add_argument("--minutes", type=float, help="stop taking new mutants after this time")
    parser.add_argument("--report", action="store_true", help="only say what is known of the sample")
    parser.add_argument("--again", action="store_true", help="judge once more what was missed before, after tests were added")
    given = parser.parse_args()
    if given.count < 1 or given.trees < 1:
        parser.error("--count and --trees must be at least 1")
    return given


def main() -> int:
    """Exit code 0 when the whole sample was judged and reaches the goal."""
    given = arguments()
    WORK.mkdir(parents=True, exist_ok=True)
    mutants = [mutant for package, files in SOURCES.items() for mutant in listed(CHECKOUT, package, files)]
    order = drawn(mutants, given.seed)
    count = len(order) if given.all else min(given.count, len(order))
    results, argued = Results(WORK / "results.jsonl"), Argued(ARGUED)
    say(f"{len(order)} mutants of {', '.join(SOURCES)}; {count} drawn by seed {given.seed}")
    if given.again:
        results.forget(MISSED)
    if not given.report:
        run = Run(order, count, results, None if given.minutes is None else time.monotonic() + 60 * given.minutes)
        threads = [
            threading.Thread(target=run.work, args=(Tree(CHECKOUT, WORK / f"tree-{number}"),)) for number in range(given.trees)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not run.problems.empty():
            print(f"mutants: {run.problems.get()}", file=sys.stderr)
            return 1
    sample = sample_of(order, results, count)
    result = score(sample, results, argued)
    report(result, given.seed, count)
    unviable = sum(verdict.outcome == UNVIABLE for verdict in results.verdicts.values())
    say(f"{unviable} did not compile and are in no sample")
    complete = result.judged == len(sample)
    within = result.judged and 100 * len(result.argued) / result.judged <= ARGUED_PERCENT
    return 0 if complete and within and result.percent >= GOAL_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
