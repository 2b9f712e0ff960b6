#!/usr/bin/env python3
"""Checks the shell commands of the documents.

Each ```sh block stands in docs-commands.json: under "run" with the test that runs it, under "stages" with the stage of
test.sh that runs its first command and what is with the others, or under "not_run" with the reason why none does. An entry of "run" without "first" is a whole page, and its test names the page. All others are read from the
list by the test itself (`blocks_of`; tests/src/documents.rs says what the members mean), so that what is listed is what is run.

All but the blocks of whole pages are also parsed: subcommands, flags and their values by the program itself (kubectl, helm,
awrit with --help at the end), targets of make, files of ours. With --server, what kubectl reads is also asked of the API
server that KUBECONFIG names, and what it writes is tried by --dry-run=server: an object that isn't there is no fault, a kind,
a flag or a jsonpath that isn't is.

Not covered: what a command does, unless a test runs the block; the order of commands; prose, yaml and json.
"""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REASONS = ROOT / "scripts" / "docs-commands.json"
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md", "helm/**/*.md", "examples/**/*.md", "tests/**/README.md"]
# Stands for what only a shell knows.
UNKNOWN = "unknown"
# What the documents write for a value that has a form of its own.
PLACEHOLDERS = {"HASH": "0" * 64}
# The check must find fault with these.
WRONG = [
    "kubectl bogus", "kubectl get pods --bogus", "kubectl get pods -o bogus=x --watch=maybe", "helm bogus", "helm upgrade a b --bogus",
    "awrit bogus", "awrit audit bogus", "awrit audit verify --bogus", "awrit audit events --limit many", "make bogus", "scripts/bogus.sh",
]
READS = {"get", "describe", "events", "logs", "wait"}
WRITES = {"create", "delete", "patch", "label", "apply", "scale", "annotate"}
NOT_THERE = re.compile(r"NotFound|not found|no matching resources|No resources found|timed out waiting|no objects passed|Forbidden", re.I)


@dataclass
class Block:
    page: str
    line: int
    text: str

    @property
    def first(self) -> str:
        return next((line.strip() for line in self.text.splitlines() if line.strip() and not line.strip().startswith("#")), "")


def blocks() -> list[Block]:
    found = []
    pages = sorted({path for pattern in PAGES for path in ROOT.glob(pattern)})
    for path in pages:
        if "node_modules" in path.parts:
            continue
        inside, start = None, 0
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if inside is None and re.match(r"\s*```(sh|bash|shell|console)\s*$", line):
                inside, start = [], number + 1
            elif inside is not None and line.strip() == "```":
                found.append(Block(str(path.relative_to(ROOT)), start, "\n".join(inside)))
                inside = None
            elif inside is not None:
                inside.append(line)
    return found


def commands(text: str) -> list[list[str]]:
    """The simple commands of a piece of shell, those in $(...) too. Enough for documents; not a shell."""
    found: list[list[str]] = []
    text = re.sub(r"\\\n", " ", text)

    def inner(match: re.Match) -> str:
        found.extend(commands(match.group(1)))
        return UNKNOWN

    # Inside out.
    while re.search(r"\$\(([^()]*)\)", text):
        text = re.sub(r"\$\(([^()]*)\)", inner, text)
    text = re.sub(r"<<<\s*\"[^\"]*\"", "", text)
    text = re.sub(r"\$\{?\w+\}?", UNKNOWN, text)
    # Comments are taken out here, because shlex takes the line feed with them.
    text = "\n".join(re.sub(r"(^|\s)#\s.*$", "", line) for line in text.splitlines())
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";|&\n<>()")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    words: list[str] = []
    is_file = False
    for token in [*lexer, ";"]:
        if token and set(token) <= set(";|&\n()"):
            found.append(words)
            words, is_file = [], False
        elif token and set(token) <= set("<>"):
            is_file = True
        elif is_file:
            is_file = False
        else:
            words.append(token)
    return [bare for bare in (strip(words) for words in found) if bare]


def strip(words: list[str]) -> list[str]:
    """Without shell keywords and variables before the command."""
    while words and (words[0] in {"while", "do", "done", "for", "if", "then", "fi", "export", "eval"} or re.match(r"^\w+=", words[0])):
        words = words[1:]
    return words


def run(words: list[str]) -> tuple[int, str]:
    ended = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, stdin=subprocess.DEVNULL, timeout=60)
    return ended.returncode, ended.stderr + ended.stdout


def awrit() -> str:
    for folder in ("debug", "release"):
        if (ROOT / "target" / folder / "awrit").is_file():
            return str(ROOT / "target" / folder / "awrit")
    sys.exit("target/debug/awrit is not there: cargo build -p agentwrit-cli")


def parsed(program: str, words: list[str]) -> str:
    """What the program says against these arguments; nothing if it knows them."""
    # What follows is the command of the container.
    own = words[: words.index("--")] if "--" in words else words
    code, said = run([program, *own, "--help"])
    name = words[0] if words and not words[0].startswith("-") else ""
    if code != 0 or re.search(r"^error:|^Error:", said, re.M):
        return said.strip().splitlines()[0] if said.strip() else f"exit code {code}"
    usage = re.search(r"^Usage:\s*(.*)$", said, re.M)
    if name and usage and not re.search(rf"\b{re.escape(name)}\b", said):
        return f"{Path(program).name} doesn't know {name}"
    return ""


def check(words: list[str], server: bool) -> str:
    """What is wrong with one command; nothing if all is well, or nobody here can say."""
    program = Path(words[0]).name
    arguments = [PLACEHOLDERS.get(word, word) for word in words[1:]]
    if program in {"kubectl", "helm"}:
        fault = parsed(program, arguments)
        return fault or (on_server(arguments) if server and program == "kubectl" else "")
    if program == "awrit":
        return parsed(awrit(), arguments)
    if program == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
        unknown = [word for word in arguments if not word.startswith("-") and "=" not in word and word not in targets]
        return f"the Makefile has no target {unknown[0]}" if unknown else ""
    if words[0].startswith("scripts/"):
        return "" if (ROOT / words[0]).is_file() else f"there is no {words[0]}"
    return ""


def on_server(arguments: list[str]) -> str:
    verb = next((word for index, word in enumerate(arguments) if not word.startswith("-") and arguments[index - 1] not in {"-n", "--namespace"}), "")
    files = [word for word in arguments if word.startswith("-") is False and "/" in word and (ROOT / word).exists()]
    # Of these nothing is left without a pod, a file, or what a shell would put in.
    if verb in {"logs", "wait"} or any(UNKNOWN in word for word in arguments) or "--watch" in arguments or any(word.startswith("--from-file") for word in arguments):
        return ""
    if verb in READS:
        code, said = run(["kubectl", *arguments])
    elif verb in WRITES and not (verb == "apply" and not files):
        code, said = run(["kubectl", *arguments, "--dry-run=server"])
    else:
        return ""
    if code == 0 or (NOT_THERE.search(said) and "doesn't have a resource type" not in said):
        return ""
    return said.strip().splitlines()[-1]


def listed(known: dict, found: list[Block]) -> list[str]:
    """What is wrong with the list: blocks that it lacks or has twice, entries without a block, tests that don't run theirs."""
    faults: list[str] = []
    whole = {entry["page"]: entry["test"] for entry in known["run"] if "first" not in entry}
    entries: dict[tuple[str, str], int] = {}
    for entry in [*(entry for entry in known["run"] if "first" in entry), *known["stages"], *known["not_run"]]:
        key = (entry["page"], entry["first"])
        entries[key] = entries.get(key, 0) + 1
        where = f"{REASONS.name}: {entry['page']}: {entry['first']!r}"
        if entries[key] > 1 or entry["page"] in whole:
            faults.append(f"{where}: it is listed twice")
        changed = [name for name in ("without", "append", "until") if name in entry]
        if "stage" in entry:
            faults += [f"{where}: {fault}" for fault in by_stage(entry, found)]
        elif ("test" not in entry and not entry.get("reason", "").strip()) or (changed and not entry.get("why", "").strip()):
            faults.append(f"{where}: say why it isn't run{' exactly as written' if changed else ''}")
    for page, test in whole.items():
        if not (ROOT / test).is_file() or Path(page).name not in (ROOT / test).read_text():
            faults.append(f"{page}: {test} doesn't name the page that it is said to run")
    faults += [fault for test in sorted({entry["test"] for entry in known["run"] if "first" in entry}) if (fault := reads_list(test))]
    keys = [(block.page, block.first) for block in found if block.page not in whole]
    for block in found:
        key = (block.page, block.first)
        if block.page not in whole and key not in entries:
            faults.append(f"{block.page}:{block.line}: no test runs this block; add it to one, or to {REASONS.name} with the reason: {block.first!r}")
        if keys.count(key) > 1:
            faults.append(f"{block.page}:{block.line}: another block of the page has the same first command: {block.first!r}")
    faults += [f"{REASONS.name}: no such block any more: {page}: {first!r}" for page, first in sorted(set(entries) - set(keys))]
    return faults


def by_stage(entry: dict, found: list[Block]) -> list[str]:
    """Why no stage of test.sh runs this block; nothing if one does."""
    script = (ROOT / "scripts" / "test.sh").read_text()
    stages = re.search(r"^STAGES=\((.*)\)$", script, re.M).group(1).split()
    faults = [] if entry["stage"] in stages else [f"test.sh has no stage {entry['stage']}"]
    if not re.search(rf"(^|[\s;]){re.escape(entry['runs'])}($|[\s;&|])", script, re.M):
        faults.append(f"test.sh doesn't run {entry['runs']!r}")
    if not entry["runs"].startswith(entry["first"].split("#")[0].strip()):
        faults.append(f"{entry['runs']!r} is not its first command")
    text = next((block.text for block in found if (block.page, block.first) == (entry["page"], entry["first"])), "")
    others = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")][1:]
    if others and not entry.get("others", "").strip():
        faults.append("say what is with its other commands")
    return faults


def reads_list(test: str) -> str:
    """Why this test doesn't run the blocks that are listed for it; nothing if it does."""
    path = ROOT / test
    call = "blocks_of(__file__)" if path.suffix == ".py" else "blocks_of(file!())"
    if not path.is_file() or call not in path.read_text():
        return f"{test}: it doesn't ask for its blocks with {call}"
    if path.suffix == ".py":
        return "" if path.name.startswith("test_") else f"{test}: pytest doesn't take it for a test"
    crate = next((folder / "main.rs" for folder in path.parents if (folder / "main.rs").is_file()), None)
    if crate is None or not re.search(rf"^\s*mod {path.stem};$", crate.read_text(), re.M):
        return f"{test}: no main.rs above it has it as a module"
    return ""


def selftest() -> list[str]:
    """The checks that would not have found a fault made on purpose."""
    faults = [f"this script finds nothing wrong with {wrong!r}" for wrong in WRONG if not check(commands(wrong)[0], False)]
    run_by = {"page": "a.md", "first": "a", "test": "tests/e2e/documents.rs"}
    left_out = {"page": "a.md", "first": "a", "reason": "r"}
    in_stage = {"page": "a.md", "first": "make demo", "stage": "e2e", "runs": "make demo"}
    found = [Block("a.md", 1, "a")]
    demo, demo_and_more = [Block("a.md", 1, "make demo")], [Block("a.md", 1, "make demo\nmake test")]
    for right, blocks_of_it in [
        ({"run": [run_by], "stages": [], "not_run": []}, found),
        ({"run": [], "stages": [], "not_run": [left_out]}, found),
        ({"run": [], "stages": [in_stage], "not_run": []}, demo),
        ({"run": [], "stages": [{**in_stage, "others": "o"}], "not_run": []}, demo_and_more),
    ]:
        faults += [f"this script finds fault with {right}: {fault}" for fault in listed(right, blocks_of_it)]
    for wrong_entry, blocks_of_it in [
        ({**in_stage, "stage": "none"}, demo),
        ({**in_stage, "runs": "make demon"}, demo),
        ({**in_stage, "runs": "make generate"}, demo),
        (in_stage, demo_and_more),
    ]:
        wrong_list = {"run": [], "stages": [wrong_entry], "not_run": []}
        faults += [] if listed(wrong_list, blocks_of_it) else [f"this script finds nothing wrong with {wrong_list}"]
    for run_entries, not_run in [
        ([], []),
        ([run_by, run_by], []),
        ([run_by], [left_out]),
        ([run_by, {**run_by, "first": "b"}], []),
        ([{**run_by, "test": "tests/e2e/chart.rs"}], []),
        ([{**run_by, "test": "tests/e2e/none.rs"}], []),
        ([{**run_by, "append": "--dry-run"}], []),
        ([{"page": "a.md", "test": "tests/e2e/chart.rs"}], []),
        ([], [{**left_out, "reason": " "}]),
    ]:
        wrong_list = {"run": run_entries, "stages": [], "not_run": not_run}
        faults += [] if listed(wrong_list, found) else [f"this script finds nothing wrong with {wrong_list}"]
    if not listed({"run": [run_by], "stages": [], "not_run": []}, [*found, *found]):
        faults.append("this script takes two blocks with the same first command for one")
    return faults


def main() -> int:
    server = "--server" in sys.argv
    known, found = json.loads(REASONS.read_text()), blocks()
    faults, counted = [*selftest(), *listed(known, found)], 0
    whole = {entry["page"] for entry in known["run"] if "first" not in entry}
    for block in found:
        if block.page in whole:
            continue
        for words in commands(block.text):
            counted += 1
            fault = check(words, server)
            if fault:
                faults.append(f"{block.page}:{block.line}: {shlex.join(words)}: {fault}")
    run_blocks = sum(block.page in whole for block in found) + sum("first" in entry for entry in known["run"])
    by_stages = len(known["stages"])
    print("\n".join(faults) or f"of {len(found)} shell blocks {run_blocks} are run by tests, {by_stages} by stages, {counted} commands are well-formed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
