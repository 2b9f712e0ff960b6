"""Draws mutants by a seed, gives each to the tests, and says which ones no test noticed."""

from __future__ import annotations

import argparse
import os
import queue
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from mutants.draw import Mutant, drawn, listed
from mutants.judge import MISSED, UNVIABLE, Judge, Known, NotJudged, Verdict, look
from mutants.results import Argued, Results, Score, sample_of, score
from mutants.tree import Loom, NotBuilt, Tree

CHECKOUT = Path(__file__).resolve().parents[2]
WORK = CHECKOUT / "target" / "mutants"
ARGUED = Path(__file__).resolve().parent / "argued.toml"
# What is mutated: the rules.
SOURCES = {"agentwrit-protocol": ["protocol/src/**"], "agentwrit-broker": ["broker/src/service/**"]}
# A clock for tests.
EXCLUDED = "protocol/src/clock/manual.rs"
GOAL_PERCENT = 90.0
ARGUED_PERCENT = 3.0


def say(text: str) -> None:
    """A line of progress, at once."""
    print(f"mutants: {text}", flush=True)


class Run:
    """Judges a sample."""

    def __init__(self, mutants: list[Mutant], order: list[Mutant], count: int, results: Results, until: float | None) -> None:
        self.order = order
        self.count = count
        self.results = results
        self.until = until
        self.lock = threading.Lock()
        self.taken: set[str] = set()
        self.problems: queue.SimpleQueue[Exception] = queue.SimpleQueue()
        self.tree = Tree(CHECKOUT, WORK)
        unviable = {key for key, verdict in results.verdicts.items() if verdict.outcome == UNVIABLE}
        # Not in the seed's order: another seed builds nothing anew.
        self.loom = Loom(self.tree, mutants, unviable)

    def is_over(self) -> bool:
        """Whether no further mutant is to be judged."""
        return not self.problems.empty() or (self.until is not None and time.monotonic() > self.until)

    def waiting(self) -> list[Mutant]:
        """The mutants of the sample that nobody has judged or taken. One that doesn't compile makes room for another."""
        sample = sample_of(self.order, self.results, self.count)
        return [mutant for mutant in sample if self.results.get(mutant) is None and mutant.key not in self.taken]

    def next(self) -> tuple[Mutant, int] | None:
        """The next mutant that has a switch."""
        with self.lock:
            if self.is_over():
                return None
            for mutant in self.waiting():
                if (number := self.loom.number(mutant)) is not None:
                    self.taken.add(mutant.key)
                    return mutant, number
        return None

    def add(self, mutant: Mutant, verdict: Verdict) -> None:
        """Keeps a verdict, and says it."""
        self.results.add(mutant, verdict)
        done = sum(self.results.get(each) is not None for each in sample_of(self.order, self.results, self.count))
        by = f"  by {verdict.test}" if verdict.test else ""
        say(f"{done} of {self.count}  {verdict.outcome:8} {verdict.seconds:6.1f} s  {mutant.name}{by}")

    def prepare(self, workers: int) -> list[Known]:
        """Builds everything once, and runs the tests without a mutant."""
        self.tree.refresh(self.loom.files)
        self.loom.compile(lambda mutant: self.results.add(mutant, Verdict(UNVIABLE, 0, 0.0)), say)
        say("building the tests (minutes when cold)")
        programs = self.tree.test_programs()
        known = []
        for program in programs:
            known.append(look(program, self.tree, workers))
            reached = frozenset().union(*known[-1].reached.values())
            say(f"{program.name}: {len(known[-1].reached)} tests come by {len(reached)} mutants; {known[-1].seconds:.1f} s")
        return known

    def work(self, judge: Judge) -> None:
        """One worker's share of the mutants that have switches."""
        try:
            while (taken := self.next()) is not None:
                mutant, number = taken
                self.add(mutant, judge.judge(number))
        except Exception as problem:  # noqa: BLE001: told by the main thread
            self.problems.put(problem)

    def alone(self, judge: Judge) -> bool:
        """Builds and judges the next mutant that can't have a switch, if there is one."""
        waiting = self.waiting()
        if self.is_over() or not waiting:
            return False
        mutant = waiting[0]
        self.taken.add(mutant.key)
        begin = time.monotonic()
        self.loom.alone(mutant)
        try:
            self.tree.test_programs()
            verdict = judge.judge(None)
        except NotBuilt:
            verdict = Verdict(UNVIABLE, 0, 0.0)
        self.loom.write()
        self.add(mutant, replace(verdict, seconds=round(time.monotonic() - begin, 1)))
        return True

    def judge(self, workers: int) -> None:
        """Judges what is left of the sample."""
        if not self.waiting():
            return
        judge = Judge(self.tree, self.prepare(workers))
        while True:
            threads = [threading.Thread(target=self.work, args=(judge,)) for _ in range(workers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if not self.problems.empty():
                raise self.problems.get()
            if not self.alone(judge):
                return


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
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="mutants at a time (default: one a core)")
    parser.add_argument("--minutes", type=float, help="stop taking new mutants after this time")
    parser.add_argument("--report", action="store_true", help="only say what is known of the sample")
    parser.add_argument("--again", action="store_true", help="judge once more what was missed before, after tests were added")
    given = parser.parse_args()
    if given.count < 1 or given.workers < 1:
        parser.error("--count and --workers must be at least 1")
    return given


def main() -> int:
    """Exit code 0 when the whole sample was judged and reaches the goal."""
    given = arguments()
    WORK.mkdir(parents=True, exist_ok=True)
    mutants = [
        mutant for package, files in SOURCES.items() for mutant in listed(CHECKOUT, package, files) if mutant.file != EXCLUDED
    ]  # fmt: skip
    order = drawn(mutants, given.seed)
    count = len(order) if given.all else min(given.count, len(order))
    results, argued = Results(WORK / "results.jsonl"), Argued(ARGUED)
    say(f"{len(order)} mutants of {', '.join(SOURCES)}; {count} drawn by seed {given.seed}")
    if given.again:
        results.forget(MISSED)
    if not given.report:
        run = Run(mutants, order, count, results, None if given.minutes is None else time.monotonic() + 60 * given.minutes)
        try:
            run.judge(given.workers)
        except (NotBuilt, NotJudged) as problem:
            print(f"mutants: {problem}", file=sys.stderr)
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
