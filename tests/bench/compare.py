"""Compares the runs of scripts/bench-compare.sh: `compare.py FOLDER GRANTED_PERCENT`.

The figure of a run is what an operation costs, counted in Ed25519 signatures of the same run, so that a machine that
slows down as a whole changes nothing. Lower is better.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def figures(report: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """What one run says: costs in signatures of the same run, and single figures as they are."""
    empty = {}
    for row in report["rows"]:
        raw = row["beside"]["raw"]
        sign = max((raw["sign_aws"], raw["sign_dalek"]), key=lambda rate: rate["cpu"])
        empty.setdefault("empty route", (row["beside"]["empty"], sign))
        yield from costs(row["target"]["operation"], row["sample"], sign)
    for name, (sample, sign) in empty.items():
        yield from costs(name, sample, sign)
    for single in report["singles"]:
        yield f"{single['name']} ({single['unit']})", single["value"]


def costs(name: str, sample: dict[str, Any], sign: dict[str, float]) -> Iterator[tuple[str, float]]:
    """CPU time and time of one operation, each as a number of signatures."""
    yield f"{name}, {sample['clients']} clients: CPU", sample["server_cpu_us"] * sign["cpu"] / 1e6
    yield f"{name}, {sample['clients']} clients: time", sign["wall"] / sample["per_second"]


def runs(folder: Path, which: str) -> dict[str, list[float]]:
    """All figures of one program, by name."""
    found: dict[str, list[float]] = {}
    for path in sorted(folder.glob(f"{which}-*.json")):
        for name, value in figures(json.loads(path.read_text())):
            found.setdefault(name, []).append(value)
    return found


def verdict(old: list[float], new: list[float], granted: float) -> str:
    """A loss or a gain is where the intervals don't overlap."""
    if min(new) > max(old):
        worse = statistics.median(new) / statistics.median(old) - 1
        return "granted" if worse * 100 <= granted else "WORSE"
    return "better" if max(new) < min(old) else "same"


def main() -> int:
    """Prints a line for each figure; 1 when one got worse."""
    folder, granted = Path(sys.argv[1]), float(sys.argv[2])
    old, new = runs(folder, "old"), runs(folder, "new")
    worse = 0
    print(f"{'figure (lower is better)':<64}{'old: median (min to max)':>32}{'new: median (min to max)':>32}{'change':>9}")
    for name in old:
        if name not in new:
            continue
        before, after = old[name], new[name]
        text = [f"{statistics.median(one):.3g} ({min(one):.3g} to {max(one):.3g})" for one in (before, after)]
        change = statistics.median(after) / statistics.median(before) - 1 if statistics.median(before) else 0.0
        said = verdict(before, after, granted)
        worse += said == "WORSE"
        print(f"{name:<64}{text[0]:>32}{text[1]:>32}{change:>+8.0%} {said}")
    print(f"{worse} of {len(old)} figures got worse")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
