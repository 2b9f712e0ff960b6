"""docs/first-five-minutes.md, run as it is written: every `sh` block by bash, every `json` block held against what the block
before it printed."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from harness import DEADLINE_SECONDS, program

PAGE = Path(__file__).parents[3] / "docs" / "first-five-minutes.md"
BLOCK = re.compile(r"^```(?P<language>sh|json)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
# What a reader will see with the same value; of everything else only the type.
SAME_FOR_ALL = {
    "status", "version", "db_connected", "expires_in", "token_type", "allowed_scope", "max_ttl", "valid", "scope", "iss",
    "task_id", "orch_id", "type", "title", "detail", "instance", "error_code", "error",
}  # fmt: skip


def blocks() -> list[tuple[str, str]]:
    return [(match["language"], match["text"]) for match in BLOCK.finditer(PAGE.read_text())]


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def assert_like(shown: object, printed: object, where: str) -> None:
    """The same members in the same order, with the same types; the same values where a reader can expect them."""
    assert type(shown) is type(printed), f"{where}: {shown!r} is shown, {printed!r} came"
    if isinstance(shown, dict):
        assert list(shown) == list(printed), where
        for name in shown:
            assert_like(shown[name], printed[name], f"{where}.{name}")
            if name in SAME_FOR_ALL:
                assert shown[name] == printed[name], f"{where}.{name}"


@pytest.fixture
def walked(tmp_path: Path) -> list[tuple[str, str]]:
    """(language, text or output) of each block after one run of the whole page."""
    (tmp_path / "target" / "release").mkdir(parents=True)
    for variable, name in (("AGENTWRIT_BROKER", "agentwrit-broker"), ("AGENTWRIT_AWRIT", "awrit")):
        (tmp_path / "target" / "release" / name).symlink_to(program(variable))
    port, script, found = free_port(), ["set -euo pipefail"], blocks()
    for index, (language, text) in enumerate(found):
        if language == "sh":
            script.append(f"{{ {text}}} > {shlex.quote(str(tmp_path / f'{index}.out'))}")
    # A process group of its own: a walk that stops half-way takes its broker along.
    walk = subprocess.Popen(
        ["bash", "-c", "\n".join(script).replace("8080", port)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AA_PORT": port},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = walk.communicate(timeout=DEADLINE_SECONDS)
    finally:
        if walk.returncode != 0:
            os.killpg(walk.pid, signal.SIGKILL)
    assert walk.returncode == 0, errors
    return [(l, t if l == "json" else (tmp_path / f"{i}.out").read_text()) for i, (l, t) in enumerate(found)]


def test_every_command_of_the_page_runs_and_answers_as_shown(walked):
    shown = 0
    for before, (language, text) in zip(walked, walked[1:]):
        if language == "json":
            assert before[0] == "sh", "a shown answer follows its command"
            assert_like(json.loads(text), json.loads(before[1]), f"answer {shown + 1}")
            shown += 1
    assert shown >= 10
    trail = next(text for _, text in walked if text.startswith("ID "))
    types = re.findall(r"^evt-\d+ +\S+ +(\S+)", trail, re.MULTILINE)
    expected = ["admin_auth", "launch_token_issued", "agent_registered", "token_issued", "token_renewed", "token_revoked_access"]
    assert types == [*expected, "token_released", "admin_auth"]
