#!/usr/bin/env python3
"""Picks the inputs of a fuzz target that reach most, greedily: pick.py CONTROL SEEDS CORPUS.

CONTROL is libFuzzer's control file of a merge with -set_cover_merge=1, which has the features of every input. What the seeds reach already
counts as reached. First come inputs that reach new edges, then those that reach an edge more often. CORPUS is emptied and gets at most LIMIT of them.
"""

import re
import shutil
import sys
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


def pick(inputs: dict[Path, frozenset[int]], reached: set[int], limit: int) -> list[Path]:
    """The inputs that add most to what is reached, best first."""
    picked: list[Path] = []
    left = dict(inputs)
    reached, taken = set(reached), edges(reached)
    while left and len(picked) < limit:
        # The smaller of two that add as much.
        best = max(left, key=lambda file: (len(edges(left[file]) - taken), len(left[file] - reached), -file.stat().st_size, file.name))
        features = left.pop(best)
        if features <= reached:
            break
        picked.append(best)
        reached |= features
        taken |= edges(features)
    return picked


def main() -> None:
    control, seeds, corpus = map(Path, sys.argv[1:])
    known = features_of(control.read_text())
    written = {file: features for file, features in known.items() if file.parent == seeds}
    found = {file: features for file, features in known.items() if file.parent != seeds}
    reached = set().union(*written.values())
    picked = pick(found, reached, LIMIT)
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
