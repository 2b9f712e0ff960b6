"""What a score rests on: the draw, what counts in it, and that a stopped run goes on."""

from __future__ import annotations

import json
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

from mutants.draw import Mutant, drawn, parse
from mutants.judge import CAUGHT, MISSED, TIMEOUT, UNVIABLE, Judge, Known, NotJudged, Verdict, look, order
from mutants.results import Argued, Results, sample_of, score
from mutants.tree import Loom, Program, Tree
from mutants.weave import Source, body_of, weave

SOURCE = """fn first() -> bool {
    1 < 2 && 3 < 4
}

fn second() -> bool {
    1 < 2
}
"""


def item(line: int, column: int, change: str, start: int, end: int) -> dict:
    """As `cargo mutants --list --json` prints a mutant of an operator of one character."""

    def span(*places: tuple[int, int]) -> dict:
        return {name: {"line": line, "column": column} for name, (line, column) in zip(("start", "end"), places)}

    words = change.split()
    return {
        "name": f"src/lib.rs:{line}:{column}: {change}", "package": "agentwrit-protocol", "file": "src/lib.rs",
        "span": span((line, column), (line, column + 1)), "replacement": words[3],
        "function": {"span": span((start, 1), (end, 2)), "function_name": words[-1]},
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


class Weaving(InFolder):
    """Mutants behind switches."""

    def woven(self, source: str, listing: list[dict]) -> str:
        """The text with all of them."""
        self.write(source)
        return weave(Source(source), dict(enumerate(self.mutants(listing))), "crate").text

    def test_each_mutant_has_a_copy_of_the_body_with_its_change(self) -> None:
        text = self.woven(SOURCE, LISTING)
        self.assertIn("is_on(0) { return {\n    1 == 2 && 3 < 4\n", text)
        self.assertIn("is_on(1) { return {\n    1 < 2 && 3 == 4\n", text)
        self.assertIn("is_on(2) { return {\n    1 == 2\n", text)
        self.assertEqual(2, text.count("\n    1 < 2 && 3 < 4\n}") + text.count("\n    1 < 2\n}"), "the originals stay")

    def test_a_line_of_the_woven_text_names_its_mutant(self) -> None:
        woven = weave(Source(SOURCE), dict(enumerate(self.mutants())), "crate")
        lines = woven.text.split("\n")
        for number, inside in enumerate(["1 == 2 && 3 < 4", "1 < 2 && 3 == 4", "1 == 2"]):
            self.assertEqual(number, woven.at(lines.index("    " + inside) + 1))
        self.assertIsNone(woven.at(1))
        self.assertIsNone(woven.at(lines.index("fn second() -> bool {") + 1))

    def test_braces_in_texts_and_comments_are_no_code(self) -> None:
        body = """ let a = "{"; let b = '{'; /* { /* { */ */ let c = r#"{"{"#; let d = b'{'; // {
            let e = '\\u{7b}'; let f: &'static str = "\\"{"; { a } """
        text = f"fn f<'a>(x: &'a str) {{{body}}}"
        start, end = body_of(text)
        self.assertEqual(body, text[start:end])

    def test_what_has_no_body_has_no_switch(self) -> None:
        self.assertIsNone(body_of("fn f();"))
        self.assertIsNone(body_of("fn f() { } }"))

    def test_a_const_function_is_a_plain_one_behind_switches(self) -> None:
        source = "pub const fn first() -> bool {\n    1 < 2\n}\n"
        listing = [item(2, 7, "replace < with == in first", 1, 3), item(2, 7, "replace < with > in first", 1, 3)]
        text = self.woven(source, listing)
        self.assertTrue(text.startswith("pub fn first() -> bool {"), text)
        self.assertIsNotNone(Source(source).const(self.mutants(listing)[0]))
        self.assertIsNone(Source(SOURCE).const(self.mutants()[0]))

    def test_a_function_that_returns_an_impl_has_no_switch(self) -> None:
        source = "fn first() -> impl Sized {\n    1 < 2\n}\n"
        self.write(source)
        mutant = self.mutants([item(2, 7, "replace < with == in first", 1, 3)])[0]
        self.assertIsNone(Source(source).body(mutant))

    def test_a_mutant_alone_is_the_file_with_its_change(self) -> None:
        self.assertEqual(SOURCE.replace("3 < 4", "3 == 4"), Source(SOURCE).changed(self.mutants()[1]))

    def test_columns_count_characters(self) -> None:
        source = "fn first() -> bool {\n    /* ä€🦀 */ 1 < 2\n}\n"
        text = self.woven(source, [item(2, 17, "replace < with == in first", 1, 3)])
        self.assertIn("/* ä€🦀 */ 1 == 2\n", text)

    def test_an_error_of_the_compiler_is_blamed_on_its_mutant(self) -> None:
        checkout, copy = self.folder, Tree(self.folder, self.folder / "copy")
        (checkout / "protocol/src").mkdir(parents=True)
        (checkout / "protocol/src/lib.rs").write_text("")
        loom = Loom(copy, self.mutants(), set())
        loom.write()
        line = loom.woven["src/lib.rs"].text.split("\n").index("    1 < 2 && 3 == 4") + 1
        inner = {"file_name": "src/lib.rs", "line_start": line, "expansion": None}
        outer = {"file_name": "/rustc/core/src/macros.rs", "line_start": 1, "expansion": {"span": inner}}
        self.assertEqual({1}, loom.blamed({"message": {"spans": [outer]}}))
        self.assertEqual(set(), loom.blamed({"message": {"spans": [inner | {"line_start": 1}]}}))

    def test_what_did_not_compile_before_is_left_out(self) -> None:
        (self.folder / "protocol/src").mkdir(parents=True)
        first, second, third = self.mutants()
        loom = Loom(Tree(self.folder, self.folder / "copy"), [first, second, third], {second.key})
        self.assertEqual([0, None, 2], [loom.number(each) for each in (first, second, third)])


class Judging(InFolder):
    """Test programs, here scripts, with a mutant."""

    def known(self, script: str, reached: set[int] = frozenset(), seconds: float = 1.0) -> Known:
        """A test program that is this script of a shell."""
        file = self.folder / f"program-{len(list(self.folder.iterdir()))}"
        file.write_text("#!/bin/sh\n" + script)
        file.chmod(0o755)
        return Known(Program(file.name, file, self.folder), seconds, {"a::b": frozenset(reached)})

    def judge(self, *known: Known) -> Verdict:
        """The verdict on mutant 7."""
        return Judge(Tree(self.folder, self.folder), list(known)).judge(7)

    def test_a_test_that_fails_with_the_mutant_catches_it(self) -> None:
        verdict = self.judge(self.known('[ "$AGENTWRIT_MUTANT" = 7 ] || exit 0\necho "test a::b ... FAILED"\nexit 101\n', {7}))
        self.assertEqual(CAUGHT, verdict.outcome)
        self.assertTrue(verdict.test.endswith("a::b"), verdict.test)

    def test_a_test_that_passes_by_itself_has_found_nothing(self) -> None:
        script = 'if [ -e again ]; then echo "test a::b ... ok"; exit 0; fi\ntouch again\necho "test a::b ... FAILED"\nexit 101\n'
        self.assertEqual(MISSED, self.judge(self.known(script, {7})).outcome)

    def test_a_program_that_ends_without_naming_a_test_has_crashed(self) -> None:
        self.assertEqual(CAUGHT, self.judge(self.known("kill -ABRT $$\n", {7})).outcome)

    def test_only_programs_that_come_by_the_mutant_are_run(self) -> None:
        quick, slow, other = self.known("", {7}, 1.0), self.known("", {7}, 2.0), self.known("exit 101\n", {8})
        self.assertEqual([(quick, ("a::b",)), (slow, ("a::b",))], order([slow, other, quick], 7))
        self.assertEqual(Verdict(MISSED, 2, 0.0), replace(self.judge(slow, other, quick), seconds=0.0))

    def test_all_programs_are_run_for_one_without_a_switch(self) -> None:
        self.assertEqual(2, len(order([self.known("", {7}), self.known("", set())], None)))

    def test_what_fails_without_a_mutant_judges_nothing(self) -> None:
        known = self.known('[ "$1" = --list ] && { echo "a: test"; exit 0; }\necho "test a ... FAILED"\nexit 101\n')
        with self.assertRaisesRegex(NotJudged, "without any mutant"):
            look(known.program, Tree(self.folder, self.folder), 1)

    def test_the_switches_that_each_test_comes_by_are_known(self) -> None:
        listing = '[ "$1" = --list ] && { printf "a: test\\nb: test\\n"; exit 0; }\n'
        known = self.known(listing + '[ "$2" = a ] && printf "3\\n5\\n" >>"$AGENTWRIT_MUTANTS_REACHED"\nexit 0\n')
        found = look(known.program, Tree(self.folder, self.folder), 2)
        self.assertEqual({"a": {3, 5}, "b": set()}, found.reached)
        self.assertEqual((("a",), (), ("a", "b")), tuple(map(found.tests, (3, 4, None))))
        known.program.executable.chmod(0o644)
        self.assertEqual(found, look(known.program, Tree(self.folder, self.folder), 2), "what is known of a build is kept")


if __name__ == "__main__":
    unittest.main()
