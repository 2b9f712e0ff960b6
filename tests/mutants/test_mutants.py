"""What a score rests on: the draw, what counts in it, and that a stopped run goes on."""

from __future__ import annotations

import json
import re
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

from mutants.draw import Mutant, drawn, parse
from mutants.judge import BROKER, CAUGHT, MISSED, TIMEOUT, UNVIABLE, NotJudged, Verdict, exact, outcome
from mutants.results import Argued, Results, sample_of, score

SOURCE = """fn first() -> bool {
    1 < 2 && 3 < 4
}

fn second() -> bool {
    1 < 2
}
"""


def item(line: int, column: int, change: str, start: int, end: int) -> dict:
    """As `cargo mutants --list --json` prints a mutant."""
    span = {"start": {"line": start, "column": 1}, "end": {"line": end, "column": 2}}
    return {
        "name": f"src/lib.rs:{line}:{column}: {change}", "package": "p", "file": "src/lib.rs", "function": {"span": span},
    }  # fmt: skip


LISTING = [
    item(2, 7, "replace < with == in first", 1, 3),
    item(2, 16, "replace < with == in first", 1, 3),
    item(6, 7, "replace < with == in second", 5, 7),
]


class InFolder(unittest.TestCase):
    """Has a folder, and a source file in it."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.write(SOURCE)

    def write(self, source: str) -> None:
        """The source file."""
        (self.folder / "src").mkdir(exist_ok=True)
        (self.folder / "src/lib.rs").write_text(source)

    def mutants(self, listing: list[dict] = LISTING) -> list[Mutant]:
        """The listed ones."""
        return parse(json.dumps(listing), self.folder)

    def results(self) -> Results:
        """The results that the folder has."""
        return Results(self.folder / "results.jsonl")


class Drawing(InFolder):
    """Which mutants, in which order."""

    def test_each_place_of_a_change_is_a_mutant_of_its_own(self) -> None:
        self.assertEqual(3, len({mutant.key for mutant in self.mutants()}))

    def test_a_line_above_moves_no_key_and_no_rank(self) -> None:
        before = self.mutants()
        self.write("// a comment\n" + SOURCE)
        moved = [item(3, 7, "replace < with == in first", 2, 4), item(3, 16, "replace < with == in first", 2, 4)]
        after = self.mutants([*moved, item(7, 7, "replace < with == in second", 6, 8)])
        self.assertEqual([mutant.key for mutant in before], [mutant.key for mutant in after])
        self.assertEqual([mutant.rank(1) for mutant in before], [mutant.rank(1) for mutant in after])

    def test_an_edited_function_is_judged_again_and_no_other(self) -> None:
        before = self.mutants()
        self.write(SOURCE.replace("3 < 4", "3 < 5"))
        after = self.mutants()
        self.assertEqual([False, False, True], [old.key == new.key for old, new in zip(before, after)])

    def test_a_seed_gives_one_order_and_another_seed_another(self) -> None:
        many = [replace(self.mutants()[0], namesake=number) for number in range(50)]
        self.assertEqual(drawn(many, 1), drawn(list(reversed(many)), 1))
        self.assertNotEqual(drawn(many, 1), drawn(many, 2))


class Counting(InFolder):
    """What is kept, and what the score says."""

    def test_a_stopped_run_goes_on_where_it_was(self) -> None:
        first, second, _ = self.mutants()
        self.results().add(first, Verdict(CAUGHT, 1, 2.5))
        self.assertEqual(Verdict(CAUGHT, 1, 2.5), self.results().get(first))
        self.assertIsNone(self.results().get(second))

    def test_what_was_missed_can_be_judged_again(self) -> None:
        first, second, _ = self.mutants()
        results = self.results()
        results.add(first, Verdict(CAUGHT, 1, 1.0))
        results.add(second, Verdict(MISSED, 2, 1.0))
        results.forget(MISSED)
        self.assertIsNotNone(self.results().get(first))
        self.assertIsNone(self.results().get(second))

    def test_what_does_not_compile_makes_room_for_another(self) -> None:
        first, second, third = self.mutants()
        results = self.results()
        results.add(first, Verdict(UNVIABLE, 1, 1.0))
        self.assertEqual([second, third], sample_of([first, second, third], results, 2))

    def test_argued_mutants_are_counted_apart_and_not_as_caught(self) -> None:
        mutants = self.mutants()
        results = self.results()
        for mutant, end in zip(mutants, (TIMEOUT, MISSED, MISSED)):
            results.add(mutant, Verdict(end, 1, 1.0))
        file = self.folder / "argued.toml"
        file.write_text('[[mutant]]\nfile = "src/lib.rs"\nchange = "replace < with == in second"\nreason = "the same"\n')
        result = score(mutants, results, Argued(file))
        self.assertEqual((1, 1, 1, 3), (result.caught, len(result.missed), len(result.argued), result.judged))
        self.assertAlmostEqual(100 / 3, result.percent)

    def test_an_argued_mutant_needs_its_reason(self) -> None:
        file = self.folder / "argued.toml"
        file.write_text('[[mutant]]\nfile = "src/lib.rs"\nchange = "x"\nreason = ""\n')
        with self.assertRaisesRegex(ValueError, "reason"):
            Argued(file)

    def test_the_list_of_argued_mutants_reads(self) -> None:
        Argued(Path(__file__).resolve().parent / "argued.toml")


class Running(InFolder):
    """What is asked of cargo-mutants, and what is read of its answer."""

    def test_a_name_matches_itself_only(self) -> None:
        name = "src/a.rs:1:2: replace f -> Result<(), E> with Ok(vec![0..1]) + {x?} | $y ^ \\"
        self.assertTrue(re.search(exact(name), name))
        self.assertFalse(re.search(exact(name), name + "!"))

    def test_the_outcome_of_the_one_mutant_is_read(self) -> None:
        file, log = self.folder / "outcomes.json", self.folder / "log"
        for summary, expected in (("CaughtMutant", CAUGHT), ("Timeout", TIMEOUT), ("MissedMutant", MISSED), ("Unviable", UNVIABLE)):
            file.write_text(json.dumps({"outcomes": [{"scenario": {"Mutant": {}}, "summary": summary}]}))
            self.assertEqual(expected, outcome(file, log))

    def test_no_outcome_is_no_verdict(self) -> None:
        file, log = self.folder / "outcomes.json", self.folder / "log"
        with self.assertRaisesRegex(NotJudged, "log"):
            outcome(file, log)
        file.write_text(json.dumps({"outcomes": []}))
        with self.assertRaises(NotJudged):
            outcome(file, log)

    def test_a_suite_names_its_targets_for_cargo(self) -> None:
        self.assertEqual(["--lib", "--test", "api"], BROKER.arguments()[:3])


if __name__ == "__main__":
    unittest.main()
