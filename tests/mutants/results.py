"""What became of mutants: kept in a file that a stopped run goes on with, and summed up."""

from __future__ import annotations

import json
import threading
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

from mutants.draw import Mutant
from mutants.judge import CAUGHT, MISSED, TIMEOUT, UNVIABLE, Verdict


class Results:
    """One line of JSON for each mutant that was judged."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lock = threading.Lock()
        self.verdicts: dict[str, Verdict] = {}
        if file.exists():
            for line in file.read_text().splitlines():
                entry = json.loads(line)
                key = entry.pop("key")
                self.verdicts[key] = Verdict(**entry)

    def get(self, mutant: Mutant) -> Verdict | None:
        """The verdict on this mutant of this text of its file, if there is one."""
        return self.verdicts.get(mutant.key)

    def add(self, mutant: Mutant, verdict: Verdict) -> None:
        """Writes at once: a run can be stopped at any moment."""
        with self.lock, self.file.open("a") as out:
            self.verdicts[mutant.key] = verdict
            out.write(json.dumps({"key": mutant.key, **asdict(verdict)}) + "\n")

    def forget(self, outcome: str) -> None:
        """Drops the verdicts of one kind, so that they are judged again after tests were added."""
        self.verdicts = {key: verdict for key, verdict in self.verdicts.items() if verdict.outcome != outcome}
        lines = [json.dumps({"key": key, **asdict(verdict)}) + "\n" for key, verdict in self.verdicts.items()]
        self.file.write_text("".join(lines))


class Argued:
    """Mutants that change nothing a caller could see, each with its reason."""

    def __init__(self, file: Path) -> None:
        entries = tomllib.loads(file.read_text()).get("mutant", [])
        for entry in entries:
            if set(entry) != {"file", "change", "reason"} or not all(entry.values()):
                raise ValueError(f"{file}: each [[mutant]] has file, change and reason, all non-empty; one is {entry}")
        self.reasons = {(entry["file"], entry["change"]): entry["reason"] for entry in entries}

    def reason(self, mutant: Mutant) -> str | None:
        """Why this mutant may live."""
        return self.reasons.get((mutant.file, mutant.change))


@dataclass(frozen=True)
class Score:
    """A sample of mutants that compile, summed up."""

    caught: int
    missed: tuple[Mutant, ...]
    argued: tuple[tuple[Mutant, str], ...]

    @property
    def judged(self) -> int:
        """How many."""
        return self.caught + len(self.missed) + len(self.argued)

    @property
    def percent(self) -> float:
        """Caught of all that were judged; the argued ones count as not caught."""
        return 100 * self.caught / self.judged if self.judged else 0.0


def score(sample: list[Mutant], results: Results, argued: Argued) -> Score:
    """Sums up those of the sample that were judged."""
    caught, missed, excused = 0, [], []
    for mutant in sample:
        verdict = results.get(mutant)
        if verdict is None or verdict.outcome == UNVIABLE:
            continue
        if verdict.outcome in (CAUGHT, TIMEOUT):
            caught += 1
        elif (reason := argued.reason(mutant)) is not None:
            excused.append((mutant, reason))
        else:
            assert verdict.outcome == MISSED
            missed.append(mutant)
    return Score(caught, tuple(missed), tuple(excused))


def sample_of(order: list[Mutant], results: Results, count: int) -> list[Mutant]:
    """The first `count` of the seed's order that compile, as far as is known: what wasn't judged yet may."""
    viable = [mutant for mutant in order if (verdict := results.get(mutant)) is None or verdict.outcome != UNVIABLE]
    return viable[:count]
