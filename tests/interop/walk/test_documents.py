"""The commands of the documents about a broker of one's own, as `scripts/docs-commands.json` lists them for this test."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from harness import DEADLINE_SECONDS, Lines, program

ROOT = Path(__file__).parents[3]
EXPORTS = ".exports"


def blocks_of(test: str) -> list[dict[str, str]]:
    """The entries of the list that name this test, each with its `text`."""
    path = ROOT / "scripts" / "docs-commands.py"
    spec = importlib.util.spec_from_file_location("docs_commands", path)
    checker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checker)
    texts = {(block.page, block.first): block.text for block in checker.blocks()}
    entries = [e for e in json.loads(checker.REASONS.read_text())["run"] if ROOT / e["test"] == Path(test) and "first" in e]
    for entry in entries:
        entry["text"] = texts[entry["page"], entry["first"]]
        without = entry.get("without", "")
        assert without in entry["text"], f"{without!r} can't be left out of {entry['text']!r}"
        entry["text"] = entry["text"].replace(without, "") if without else entry["text"]
    return entries


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class Reader:
    """Somebody with two terminals in one folder: one for commands, one for what runs until it is stopped."""

    def __init__(self, folder: Path) -> None:
        (folder / "target" / "release").mkdir(parents=True)
        for variable, name in (("AGENTWRIT_BROKER", "agentwrit-broker"), ("AGENTWRIT_AWRIT", "awrit")):
            (folder / "target" / "release" / name).symlink_to(program(variable))
        self.folder = folder
        self.ports = {"8080": free_port(), "8081": free_port(), "8443": free_port()}
        self.running: subprocess.Popen[str] | None = None

    def run(self, text: str, until: str | None) -> str:
        """What the block printed, up to the line with `until` if it doesn't end by itself."""
        # The tests keep to the loopback.
        text = re.sub(r"\b(8080|8081|8443)\b", lambda port: self.ports[port[0]], text).replace("0.0.0.0", "127.0.0.1")
        script = f"[ ! -e {EXPORTS} ] || . ./{EXPORTS}\n{text}"
        if not until:
            # What runs until it is stopped has a terminal of its own: at its end it must not undo the other one's exports.
            script += f"\nexport -p > {EXPORTS}"
        if until:
            self.stop()
        bash = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env={"PATH": f"{self.folder}/target/release:{os.environ['PATH']}", "HOME": str(self.folder), "AA_PORT": self.ports["8080"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        printed = Lines(bash.stdout)
        if until:
            self.running = bash
            assert printed.wait_for(re.escape(until)), f"{text}\n{printed.text}"
        else:
            assert bash.wait(DEADLINE_SECONDS) == 0, f"{text}\n{printed.text}"
            printed.finish()
        return printed.text

    def stop(self) -> None:
        """As Ctrl-C does."""
        if self.running:
            os.killpg(self.running.pid, signal.SIGINT)
            self.running.wait(DEADLINE_SECONDS)
            self.running = None


@pytest.mark.parametrize("pages", [{"README.md"}, {"docs/broker.md", "docs/openapi.md", "docs/keys.md"}], ids=["readme", "broker"])
def test_the_commands_work_as_written(pages, tmp_path):
    reader = Reader(tmp_path)
    blocks = [block for block in blocks_of(__file__) if block["page"] in pages]
    assert {block["page"] for block in blocks} == pages
    try:
        for block in blocks:
            printed = reader.run(block["text"], block.get("until"))
            for words in block.get("prints", []):
                assert words in printed, block["first"]
    finally:
        reader.stop()


def test_a_backup_is_made_and_put_back_as_written(tmp_path):
    """With docs/broker.md's first terminal open, and its second one; what the copy doesn't know is done between the two."""
    reader = Reader(tmp_path)
    started, logged_in = [block for block in blocks_of(__file__) if block["page"] == "docs/broker.md"][:2]
    copy, *rest = [block for block in blocks_of(__file__) if block["page"] == "docs/backup.md"]
    assert len(rest) == 6
    try:
        reader.run(started["text"], started["until"])
        reader.run(logged_in["text"], None)
        for block in (copy, *rest):
            printed = reader.run(block["text"], block.get("until"))
            for words in block.get("prints", []):
                assert words in printed, f"{block['first']}\n{printed}"
            if block is copy:
                # Each of them is a login and a revocation: the page's number of the last event that was copied is behind them.
                for number in range(3):
                    reader.run(f"target/release/awrit revoke --level agent --target spiffe://agentwrit.local/agent/o/t/{number}", None)
    finally:
        reader.stop()
    assert len(list((tmp_path / "backups").glob("agentwrit-*.db"))) == 2
    assert not list(tmp_path.glob("**/*.partial"))


def test_no_listed_block_is_left_out():
    assert {block["page"] for block in blocks_of(__file__)} == {"README.md", "docs/backup.md", "docs/broker.md", "docs/keys.md", "docs/openapi.md"}
