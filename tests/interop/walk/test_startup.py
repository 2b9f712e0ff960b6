"""Each symptom of a broker that does not start, or starts without its store, as the troubleshooting guide tells operators."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness import ADMIN_SECRET, Broker, assert_problem, environment, program

NO_SECRET = "FATAL: AA_ADMIN_SECRET must be set (non-empty)"
WEAK_SECRET = "FATAL: admin secret rejected: does not meet security requirements"


def config(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "broker.config"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def assert_fatal(ended, line: str) -> None:
    assert ended.code == 1
    assert line in ended.stderr.splitlines(), ended.stderr
    assert "listening" not in ended.stdout


@pytest.mark.parametrize("secret", [None, ""])
def test_no_admin_secret(refused, secret):
    assert_fatal(refused(env={"AA_ADMIN_SECRET": secret}), NO_SECRET)


def test_an_empty_admin_secret_is_not_replaced_by_the_file(refused, tmp_path):
    path = config(tmp_path, f"ADMIN_SECRET={ADMIN_SECRET}\n")
    assert_fatal(refused(env={"AA_ADMIN_SECRET": "", "AA_CONFIG_PATH": path}), NO_SECRET)


@pytest.mark.parametrize("secret", ["fifteen-letters", "change-me-in-production", "your-secret"])
def test_a_weak_admin_secret(refused, tmp_path, secret):
    assert_fatal(refused(env={"AA_ADMIN_SECRET": secret}), WEAK_SECRET)
    path = config(tmp_path, f"MODE=production\nADMIN_SECRET={secret}\n")
    assert_fatal(refused(env={"AA_ADMIN_SECRET": None, "AA_CONFIG_PATH": path}), WEAK_SECRET)


def test_a_config_file_that_is_not_there(refused):
    ended = refused(env={"AA_CONFIG_PATH": "/etc/broker-that-is-not-there/config.yaml"})
    assert_fatal(ended, "FATAL: config file not found at path: /etc/broker-that-is-not-there/config.yaml")


def test_a_config_file_that_may_not_be_read(tmp_path):
    path = config(tmp_path, f"ADMIN_SECRET={ADMIN_SECRET}\n", 0o000)
    # Root reads everything, unless it is without this capability.
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*without, program("AGENTWRIT_BROKER")],
        env=environment(tmp_path, {"AA_CONFIG_PATH": path}),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["FATAL: failed to read config file: permission denied"]


@pytest.mark.parametrize("mode", ["dev", "prod"])
def test_awrit_init_makes_a_config_file_that_the_broker_takes(broker_factory, tmp_path, mode):
    path = tmp_path / "etc" / "config.yaml"
    done = subprocess.run(
        [program("AGENTWRIT_AWRIT"), "init", "--mode", mode, "--config-path", str(path)],
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    secret = next(line.split(": ", 1)[1] for line in done.stdout.splitlines() if line.startswith("Admin secret: "))
    assert (secret in path.read_text()) == (mode == "dev"), "production keeps a hash only"
    broker = broker_factory(env={"AA_ADMIN_SECRET": None, "AA_CONFIG_PATH": str(path)})
    assert broker.post("/v1/admin/auth", {"secret": secret}).status_code == 200
    assert_problem(broker.post("/v1/admin/auth", {"secret": secret[:-1]}), 401, "unauthorized", "invalid credentials")


def test_the_environment_wins_over_the_config_file(broker_factory, tmp_path):
    path = config(tmp_path, "MODE=development\nADMIN_SECRET=the-secret-of-the-file\n")
    broker = broker_factory(env={"AA_CONFIG_PATH": path})
    assert broker.post("/v1/admin/auth", {"secret": ADMIN_SECRET}).status_code == 200
    assert broker.post("/v1/admin/auth", {"secret": "the-secret-of-the-file"}).status_code == 401


def test_a_port_that_is_taken(refused, broker):
    port = broker.url.rsplit(":", 1)[1]
    ended = refused(env={"AA_PORT": port})
    assert ended.code == 1 and ended.stderr.startswith(f"FATAL: listen on 127.0.0.1:{port}"), ended.stderr


# -- after a restart ------------------------------------------------------------------------------------------


def test_a_restart_with_its_key_changes_nothing(broker):
    agent, admin = broker.agent(), broker.admin_token()
    events = broker.get("/v1/health").json()["audit_events_count"]
    broker.restart()
    assert broker.get("/v1/health").json()["audit_events_count"] == events
    assert broker.validate(agent.token)["valid"] and broker.validate(admin)["valid"]
    assert broker.post("/v1/token/renew", token=agent.token).status_code == 200


@pytest.mark.parametrize("way", ["deleted", "another path"])
def test_a_restart_with_another_key_ends_all_tokens(broker, way):
    agent, admin = broker.agent(), broker.admin_token()
    broker.stop()
    if way == "deleted":
        (broker.folder / "signing.key").unlink()
        broker.start()
    else:
        broker.start(AA_SIGNING_KEY_PATH=str(broker.folder / "elsewhere.key"))
    assert_problem(broker.post("/v1/token/renew", token=agent.token), 401, "unauthorized", "token verification failed")
    assert_problem(broker.get("/v1/audit/events", token=admin), 401, "unauthorized", "token verification failed")
    # Whoever registers again is served.
    assert broker.validate(broker.agent().token)["valid"]


def test_revocations_outlive_a_restart(broker):
    released, revoked = broker.agent(), broker.agent()
    assert broker.post("/v1/token/release", token=released.token).status_code == 204
    broker.post("/v1/revoke", {"level": "agent", "target": revoked.agent_id}, token=broker.admin_token())
    broker.restart()
    for agent in (released, revoked):
        assert_problem(broker.post("/v1/token/renew", token=agent.token), 403, "insufficient_scope", "token has been revoked")


# -- the store -------------------------------------------------------------------------------------------------


def serves(broker: Broker) -> bool:
    return broker.validate(broker.agent().token)["valid"]


def test_a_store_that_can_not_be_opened(broker_factory, tmp_path):
    not_a_folder = tmp_path / "file"
    not_a_folder.write_text("")
    broker = broker_factory(env={"AA_DB_PATH": str(not_a_folder / "data.db")})
    assert broker.get("/v1/health").json()["db_connected"] is False
    assert broker.stderr.wait_for(r"^\[AA:STORE:FAIL\] \S+ \| InitDB \| "), broker.stderr.text
    assert serves(broker)


def test_a_file_that_is_no_database(broker_factory, tmp_path):
    path = tmp_path / "data.db"
    path.write_text("this is a letter to my aunt, and quite a long one. " * 200)
    broker = broker_factory(env={"AA_DB_PATH": str(path)})
    assert broker.get("/v1/health").json()["db_connected"] is False
    assert broker.stderr.wait_for(r"^\[AA:STORE:FAIL\] \S+ \| InitDB \| ")
    assert path.read_text().startswith("this is a letter"), "what is not ours stays as it is"
    assert serves(broker)


def test_a_store_in_memory_by_choice(broker_factory):
    broker = broker_factory(env={"AA_DB_PATH": ""})
    assert serves(broker)
    assert "FAIL" not in broker.stderr.text
    assert not list(broker.folder.glob("*.db*"))
    broker.restart()
    assert broker.get("/v1/health").json()["audit_events_count"] == 0
