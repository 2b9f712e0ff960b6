#!/usr/bin/env python3
"""Picks the inputs of a fuzz target that reach most, greedily: pick.py CONTROL SEEDS CORPUS.

CONTROL is libFuzzer's control file of a merge with -set_cover_merge=1, which has the features of every input. What the seeds reach already
counts as reached. First come inputs that reach new edges, then those that reach an edge more often. CORPUS is emptied and gets at most LIMIT of them.
"""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

# The test tests/corpus.rs holds it too.
LIMIT = 50
# libFuzzer has eight features for each edge: how often it was taken, in steps.
STEPS = 8


def features_of(control: str) -> dict[Path, frozenset[int]]:
    """The features of each input, by its file."""
    lines = control.splitlines()
    count = int(lines[0])
    files = [Path(line) for line in lines[2 : 2 + count]]
    found = re.findall(r"^FT (\d+)((?: \d+)*)", control, re.MULTILINE)
    return {files[int(number)]: frozenset(map(int, listed.split())) for number, listed in found}


def edges(features: frozenset[int] | set[int]) -> set[int]:
    return {feature // STEPS for feature in features}


def pick(inputs: dict[Path, frozenset[int]], reached: set[int], limit: int, size: Callable[[Path], int]) -> list[Path]:
    """The inputs that add most to what is reached, best first."""
    picked: list[Path] = []
    left = dict(inputs)
    reached, taken = set(reached), edges(reached)
    while left and len(picked) < limit:
        # The smaller of two that add as much.
        best = max(left, key=lambda file: (len(edges(left[file]) - taken), len(left[file] - reached), -size(file), file.name))
        features = left.pop(best)
        if features <= reached:
            break
        picked.append(best)
        reached |= features
        taken |= edges(features)
    return picked


def selftest() -> None:
    """What main relies on: new edges first, then more often taken ones, the smaller of equals, nothing without use, no more than the limit."""
    control = "3\n1\nwide\noften\nnone\nSTARTED 0 9\nFT 0 8 16 24\nCOV 0 1 2 3\nSTARTED 1 9\nFT 1 9\nSTARTED 2 9\nFT 2\n"
    inputs = features_of(control)
    assert inputs == {Path("wide"): {8, 16, 24}, Path("often"): {9}, Path("none"): set()}, inputs
    sizes = {"wide": 5, "often": 5, "none": 1, "same": 4}
    size = lambda file: sizes[file.name]  # noqa: E731
    for reached, limit, more, wanted in [
        (set(), 9, {}, ["wide", "often"]),
        (set(), 1, {}, ["wide"]),
        ({8, 16, 24}, 9, {}, ["often"]),
        (set(), 1, {Path("same"): frozenset({8, 16, 24})}, ["same"]),
    ]:
        picked = [file.name for file in pick({**inputs, **more}, reached, limit, size)]
        assert picked == wanted, (picked, wanted)


def main() -> None:
    selftest()
    control, seeds, corpus = map(Path, sys.argv[1:])
    known = features_of(control.read_text())
    written = {file: features for file, features in known.items() if file.parent == seeds}
    found = {file: features for file, features in known.items() if file.parent != seeds}
    reached = set().union(*written.values())
    picked = pick(found, reached, LIMIT, lambda file: file.stat().st_size)
    contents = [(file.name, file.read_bytes()) for file in picked]
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True)
    for name, content in contents:
        (corpus / name).write_bytes(content)
    whole, kept = set().union(*known.values()), reached.union(*(found[file] for file in picked))
    print(
        f"{corpus.name}: {len(picked)} of {len(found)} inputs kept beside {len(written)} seeds; they reach {len(edges(kept))} of {len(edges(whole))} edges, "
        f"{len(kept)} of {len(whole)} features"
    )


if __name__ == "__main__":
    main()
