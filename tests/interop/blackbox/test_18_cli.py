"""docs/wire-contract.md §18: the operator's program, against the broker and on files."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from blackbox.driver import Broker, Start, unique
from blackbox.wire import ok
from harness import ADMIN_SECRET, program


@dataclass
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """The cells of a table; columns are two blanks or more apart."""
        return [re.split(r" {2,}", line.rstrip()) for line in self.out.splitlines()]

    @property
    def fields(self) -> dict[str, str]:
        """A FIELD/VALUE table."""
        assert self.rows[0] == ["FIELD", "VALUE"], self.out
        return {row[0]: row[1] if len(row) > 1 else "" for row in self.rows[1:]}


def run(home: Path, *arguments: str, env: dict[str, str] | None = None, stdin: str = "") -> Ran:
    clean = {"PATH": os.environ["PATH"], "HOME": str(home), **(env or {})}
    done = subprocess.run([program("AGENTWRIT_AWRIT"), *arguments], cwd=home, env=clean, input=stdin, capture_output=True, text=True, timeout=30, check=False)
    assert "panicked" not in done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


class Awrit:
    """The program, pointed at a broker. Each command logs in, and waits when there are too many logins."""

    def __init__(self, broker: Broker, home: Path) -> None:
        self.broker = broker
        self.home = home
        self.env = {"AACTL_BROKER_URL": broker.process.url, "AACTL_ADMIN_SECRET": ADMIN_SECRET}

    def __call__(self, *arguments: str, code: int = 0, **options: Any) -> Ran:
        ran = run(self.home, *arguments, env=self.env, **options)
        assert ran.code == code, (ran.code, ran.out, ran.err)
        return ran

    def json(self, *arguments: str) -> Any:
        ran = self("--json", *arguments)
        value = json.loads(ran.out)
        assert ran.out == json.dumps(value, indent=2, ensure_ascii=False) + "\n", ran.out
        return value


@pytest.fixture
def awrit(broker: Broker, home: Path) -> Awrit:
    return Awrit(broker, home)


def failed(ran: Ran, text: str) -> None:
    """Exit 1, the error once, on stderr."""
    assert ran.code == 1, (ran.code, ran.out, ran.err)
    errors = [line for line in ran.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and text in errors[0], ran.err
    usage = [line for line in ran.err.splitlines() if line.startswith("Usage: awrit")]
    assert len(usage) == 1 and ran.err.splitlines()[-1] == usage[0], ran.err
    assert ran.err.count(text) == 1, ran.err
    assert ran.out == ""


# -- app -----------------------------------------------------------------------------------------------------------


def test_app_register(awrit: Awrit) -> None:
    name = unique("cli")
    ran = awrit("app", "register", "--name", name, "--scopes", "read:data:*,write:data:x")
    assert list(ran.fields) == ["APP_ID", "CLIENT_ID", "CLIENT_SECRET", "SCOPES", "TOKEN_TTL"]
    assert ran.fields["APP_ID"].startswith(f"app-{name}-")
    assert re.fullmatch("[0-9a-f]{64}", ran.fields["CLIENT_SECRET"])
    assert ran.fields["TOKEN_TTL"] == "1800s"
    assert "read:data:*" in ran.fields["SCOPES"] and "write:data:x" in ran.fields["SCOPES"]
    assert "secret" in ran.err.lower()
    body = awrit.json("app", "register", "--name", unique("cli"), "--scopes", "a:b:c", "--token-ttl", "60")
    assert body["token_ttl"] == 60 and body["scopes"] == ["a:b:c"] and body["client_secret"]


def test_app_list(start: Start, home: Path) -> None:
    broker = start()
    awrit = Awrit(broker, home)
    columns = ["NAME", "APP_ID", "CLIENT_ID", "STATUS", "SCOPES", "TOKEN_TTL", "CREATED"]
    ran = awrit("app", "list")
    assert "Total: 0" in ran.err
    apps = [broker.app(["read:data:*"], name=name) for name in ("first", "second")]
    ran = awrit("app", "list")
    assert ran.rows[0] == columns
    assert [row[0] for row in ran.rows[1:]] == ["second", "first"]
    assert ran.rows[2][1:5] == [apps[0].id, apps[0].client_id, "active", "read:data:*"]
    assert ran.err.strip() == "Total: 2"
    assert awrit.json("app", "list") == ok(broker.get("/v1/admin/apps", token=broker.admin))


def test_app_get(awrit: Awrit) -> None:
    app = awrit.broker.app(["read:data:*"])
    fields = awrit("app", "get", app.id).fields
    assert list(fields) == ["APP_ID", "NAME", "CLIENT_ID", "STATUS", "SCOPES", "TOKEN_TTL", "CREATED", "UPDATED"]
    assert (fields["APP_ID"], fields["NAME"], fields["CLIENT_ID"], fields["STATUS"]) == (app.id, app.name, app.client_id, "active")
    assert awrit.json("app", "get", app.id)["app_id"] == app.id
    failed(awrit("app", "get", "app-none-000000", code=1), "HTTP 404: ")
    failed(awrit("app", "get", "../apps", code=1), "HTTP 404: ")
    failed(awrit("app", "get", "a/b?c#d %", code=1), "HTTP 404: ")


def test_app_update(awrit: Awrit) -> None:
    app = awrit.broker.app(["read:data:*"])
    ran = awrit("app", "update", "--id", app.id, "--scopes", "a:b:c,d:e:f", "--token-ttl", "90")
    assert ran.rows[0] == ["APP_ID", "SCOPES", "TOKEN_TTL", "UPDATED_AT"]
    assert ran.rows[1][0] == app.id and ran.rows[1][2] == "90s"
    shown = awrit.json("app", "get", app.id)
    assert (shown["scopes"], shown["token_ttl"]) == (["a:b:c", "d:e:f"], 90)
    assert awrit.json("app", "update", "--id", app.id, "--token-ttl", "120")["token_ttl"] == 120
    failed(awrit("app", "update", "--id", app.id, "--token-ttl", "5", code=1), "HTTP 400: ")


def test_app_remove(awrit: Awrit) -> None:
    app = awrit.broker.app()
    ran = awrit("app", "remove", "--id", app.id)
    assert ran.rows[0] == ["APP_ID", "STATUS", "DEREGISTERED_AT"]
    assert ran.rows[1][:2] == [app.id, "inactive"]
    assert "deregistered" in ran.err.lower()
    assert awrit.json("app", "remove", "--id", app.id)["status"] == "inactive"


def test_csv_is_not_trimmed(awrit: Awrit) -> None:
    body = awrit.json("app", "register", "--name", unique("cli"), "--scopes", "a:b:c, d:e:f ")
    assert body["scopes"] == ["a:b:c", " d:e:f "]


# -- revoke, audit, token ------------------------------------------------------------------------------------------


def test_revoke(awrit: Awrit) -> None:
    agent = awrit.broker.agent()
    ran = awrit("revoke", "--level", "agent", "--target", agent.id)
    assert ran.rows == [["REVOKED", "LEVEL", "TARGET", "COUNT"], ["true", "agent", agent.id, "1"]]
    assert not awrit.broker.stands(agent.token)
    assert awrit.json("revoke", "--level", "task", "--target", "x") == {"revoked": True, "level": "task", "target": "x", "count": 1}
    failed(awrit("revoke", "--level", "bogus", "--target", "x", code=1), "HTTP 400: ")


def test_audit_events(awrit: Awrit) -> None:
    task = unique("cli-task")
    agents = [awrit.broker.agent(task_id=task) for _ in range(2)]
    awrit.broker.register(task_id=task, requested_scope=["x:y:z"])
    ran = awrit("audit", "events", "--task-id", task, "--limit", "3", "--offset", "1")
    assert ran.rows[0] == ["ID", "TIMESTAMP", "EVENT TYPE", "AGENT ID", "OUTCOME", "DETAIL"]
    assert [row[2] for row in ran.rows[1:]] == ["token_issued", "agent_registered", "token_issued"]
    assert ran.err.strip() == "Showing 3 of 5 events (offset=1, limit=3)"
    body = awrit.json("audit", "events", "--agent-id", agents[0].id, "--event-type", "token_issued", "--outcome", "success")
    assert body["total"] == 1 and body["events"][0]["agent_id"] == agents[0].id
    assert awrit.json("audit", "events", "--task-id", task, "--until", "2020-01-01T00:00:00Z")["total"] == 0
    assert awrit.json("audit", "events", "--task-id", task, "--since", "2020-01-01T00:00:00Z")["total"] == 5
    failed(awrit("audit", "events", "--since", "yesterday", code=1), "HTTP 400: ")


def test_long_details_are_cut_in_tables_only(awrit: Awrit) -> None:
    name = "n" * 200
    awrit.broker.launch(agent_name=name)
    total = awrit.broker.audit(event_type="launch_token_issued", limit=1)["total"]
    arguments = ("audit", "events", "--event-type", "launch_token_issued", "--limit", "1", "--offset", str(total - 1))
    detail = awrit(*arguments).rows[1][-1]
    assert len(detail) == 60 and detail.endswith("...")
    assert name in awrit.json(*arguments)["events"][0]["detail"]


def test_zero_and_negative_limits_are_dropped(awrit: Awrit) -> None:
    ran = awrit("audit", "events", "--limit", "0", "--offset", "0", "--event-type", "none")
    assert ran.err.strip() == "Showing 0 of 0 events (offset=0, limit=100)"
    assert "limit=100" in awrit("audit", "events", "--limit=-5", "--offset=-1", "--event-type", "none").err


def test_token_release(awrit: Awrit) -> None:
    token = awrit.broker.agent().token
    del awrit.env["AACTL_ADMIN_SECRET"]
    assert awrit("token", "release", "--token", token).out == "Token released successfully.\n"
    assert awrit("token", "release", "--token", token).out == "Token already released (revoked).\n"
    failed(awrit("token", "release", "--token", "nonsense", code=1), "HTTP 401: ")


# -- errors --------------------------------------------------------------------------------------------------------

FLAGS = [
    (["app", "register", "--scopes", "a:b:c"], "--name is required"),
    (["app", "register", "--name", "x"], "--scopes is required"),
    (["app", "register"], "--name is required"),
    (["app", "update"], "--id is required"),
    (["app", "update", "--id", "x"], "at least one of --scopes or --token-ttl is required"),
    (["app", "remove"], "--id is required"),
    (["revoke"], "--level and --target are required"),
    (["revoke", "--level", "token"], "--level and --target are required"),
    (["revoke", "--target", "x"], "--level and --target are required"),
    (["token", "release"], "--token is required"),
]


@pytest.mark.parametrize(("arguments", "text"), FLAGS, ids=[" ".join(arguments) for arguments, _ in FLAGS])
def test_flags_are_checked_before_the_environment(home: Path, arguments: list[str], text: str) -> None:
    failed(run(home, *arguments), text)


CALLS = [["app", "list"], ["app", "get", "x"], ["app", "remove", "--id", "x"], ["revoke", "--level", "token", "--target", "x"], ["audit", "events"]]


@pytest.mark.parametrize("arguments", CALLS, ids=[" ".join(arguments) for arguments in CALLS])
def test_the_environment_is_needed(home: Path, arguments: list[str]) -> None:
    failed(run(home, *arguments), "AACTL_BROKER_URL is not set")
    failed(run(home, *arguments, env={"AACTL_ADMIN_SECRET": "x"}), "AACTL_BROKER_URL is not set")
    failed(run(home, *arguments, env={"AACTL_BROKER_URL": "http://127.0.0.1:1"}), "AACTL_ADMIN_SECRET is not set")
    failed(run(home, *arguments, env={"AACTL_BROKER_URL": "http://127.0.0.1:1", "AACTL_ADMIN_SECRET": "x"}), "request failed: ")


def test_releasing_needs_the_url_only(home: Path) -> None:
    failed(run(home, "token", "release", "--token", "x"), "AACTL_BROKER_URL is not set")


def test_a_wrong_secret(awrit: Awrit) -> None:
    awrit.env["AACTL_ADMIN_SECRET"] = "wrong-but-long-enough"
    ran = awrit("app", "list", code=1)
    failed(ran, "auth failed (HTTP 401): ")
    assert "invalid credentials" in ran.err
    assert "wrong-but-long-enough" not in ran.err


def test_a_loop_of_commands_waits_for_its_logins(awrit: Awrit) -> None:
    """Contract 16.1: ten logins at once and five a second; each command is one."""
    for _ in range(14):
        assert awrit("app", "list").err.startswith("Total: ")


@pytest.mark.parametrize("arguments", [["nonsense"], ["app", "nonsense"], ["app", "get"], ["app", "get", "a", "b"], ["app", "list", "--nonsense"], ["app", "register", "--token-ttl", "x"]])
def test_what_it_does_not_know_is_exit_1(home: Path, arguments: list[str]) -> None:
    ran = run(home, *arguments)
    assert ran.code == 1, (ran.code, ran.err)
    assert ran.err.startswith("Error: ")
    assert ran.err.splitlines()[-1].startswith("Usage: awrit")
    assert ran.out == ""


def test_plain_http_to_another_host_goes_on_with_a_warning(home: Path) -> None:
    """RFC 6761: .invalid has no addresses."""
    ran = run(home, "app", "list", env={"AACTL_BROKER_URL": "http://broker.invalid:8080", "AACTL_ADMIN_SECRET": "x"})
    failed(ran, "request failed: ")
    (warning,) = [line for line in ran.err.splitlines() if line.startswith("WARNING: ")]
    assert "plain HTTP" in warning and "https" in warning


@pytest.mark.parametrize("url", ["broker:8080", "https://", "ftp://broker"])
def test_a_url_that_cannot_be_used(home: Path, url: str) -> None:
    failed(run(home, "app", "list", env={"AACTL_BROKER_URL": url, "AACTL_ADMIN_SECRET": "x"}), "request failed: ")


def test_nothing_is_cached_on_disk(awrit: Awrit) -> None:
    awrit("app", "list")
    assert list(awrit.home.iterdir()) == []


# -- init ------------------------------------------------------------------------------------------------------------


def settings(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if line and not line.startswith("#"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_init_dev(home: Path) -> None:
    ran = run(home, "init")
    path = home / ".broker" / "config"
    assert ran.code == 0, ran.err
    assert f"Config written to: {path}" in ran.out
    secret = re.search(r"^Admin secret: (\S+)$", ran.out, re.MULTILINE)
    assert secret and re.fullmatch(r"[A-Za-z0-9_-]{43}", secret[1])
    assert settings(path) == {"MODE": "development", "ADMIN_SECRET": secret[1]}
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def test_init_prod_and_a_broker_that_starts_with_it(home: Path, start: Start) -> None:
    path = home / "deep" / "er" / "broker.conf"
    ran = run(home, "init", "--mode", "prod", "--config-path", str(path))
    assert ran.code == 0, ran.err
    secret = re.search(r"^Admin secret: (\S+)$", ran.out, re.MULTILINE)
    assert secret
    assert settings(path)["MODE"] == "production"
    assert re.fullmatch(r"\$2[aby]\$12\$[./A-Za-z0-9]{53}", settings(path)["ADMIN_SECRET"])
    assert secret[1] not in path.read_text()
    ok(start(AA_ADMIN_SECRET=None, AA_CONFIG_PATH=str(path)).login(secret[1]))


def test_init_makes_another_secret_each_time(home: Path) -> None:
    secrets = set()
    for number in range(3):
        path = home / f"c{number}"
        assert run(home, "init", "--config-path", str(path)).code == 0
        secrets.add(settings(path)["ADMIN_SECRET"])
    assert len(secrets) == 3


def test_init_finds_its_path(home: Path) -> None:
    by_env, by_flag = home / "by-env", home / "by-flag"
    env = {"AA_CONFIG_PATH": str(by_env)}
    assert run(home, "init", "--config-path", str(by_flag), env=env).code == 0
    assert by_flag.exists() and not by_env.exists()
    assert run(home, "init", env=env).code == 0
    assert by_env.exists() and not (home / ".broker").exists()


def test_init_never_overwrites_unasked(home: Path) -> None:
    assert run(home, "init").code == 0
    path = home / ".broker" / "config"
    before = path.read_text()
    ran = run(home, "init")
    failed(ran, "already exists")
    assert "--force" in ran.err
    assert path.read_text() == before
    path.chmod(0o644)
    ran = run(home, "init", "--force", "--mode", "prod")
    assert ran.code == 0
    assert "WARNING" in ran.err and str(path) in ran.err
    assert settings(path)["MODE"] == "production"
    # §20.1 W31.
    assert mode(path) == 0o600


def test_init_never_follows_a_symlink(home: Path) -> None:
    target = home / "target"
    target.write_text("precious")
    link = home / "link"
    link.symlink_to(target)
    for force in ([], ["--force"]):
        failed(run(home, "init", "--config-path", str(link), *force), "symlink")
    assert target.read_text() == "precious" and link.is_symlink()
    dangling = home / "dangling"
    dangling.symlink_to(home / "nowhere")
    failed(run(home, "init", "--config-path", str(dangling), "--force"), "symlink")


def test_init_with_a_bad_mode(home: Path) -> None:
    failed(run(home, "init", "--mode", "staging"), "invalid mode ")
    assert list(home.iterdir()) == []


# -- §20.1 and issue 4 -------------------------------------------------------------------------------------------------


def test_the_products_own_version(home: Path) -> None:
    ran = run(home, "--version")
    assert ran.code == 0 and re.search(r"\d+\.\d+\.\d+", ran.out)


@pytest.mark.parametrize("arguments", [["--help"], ["app", "--help"], ["app", "register", "--help"], ["audit", "events", "--help"], ["help"]])
def test_help_is_no_error(home: Path, arguments: list[str]) -> None:
    ran = run(home, *arguments)
    assert ran.code == 0 and "awrit" in ran.out


def test_audit_verify(awrit: Awrit) -> None:
    awrit.broker.agent()
    ran = awrit("audit", "verify")
    assert ran.out
