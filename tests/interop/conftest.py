"""Fixtures of all parts; the class behind them is in harness.py.

    def test_x(broker):                       a broker with the defaults of harness.environment
        agent = broker.agent(["read:data:*"])
        assert broker.validate(agent.token)["valid"]

    def test_y(broker_factory):               as many as wanted, with other settings
        broker = broker_factory(env={"AA_MAX_TTL": "60"})
        broker.restart(AA_MAX_TTL="30")       same folder, so same key and store

    def test_z(refused):                      a broker that must not start
        assert "FATAL" in refused(env={"AA_PORT": "x"}).stderr

    def test_w(shared_broker): ...            one for a whole module, where tests leave each other alone

A broker that still runs at the end of its test is stopped by SIGTERM, and the test fails unless it ends with 0.
Wait on conditions (`broker.stdout.wait_for`), never sleep; what needs real time says so with the mark `real_time`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import stores
from harness import Broker, Ended, run_to_its_end


def _factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Broker]]:
    started: list[Broker] = []

    def start(env: dict[str, str | None] | None = None, folder: Path | None = None, **tls) -> Broker:
        broker = Broker(folder or tmp_path_factory.mktemp("broker"), dict(env or {}), **tls)
        started.append(broker)
        return broker

    yield start
    failures = []
    for broker in started:
        if broker.running:
            try:
                broker.stop()
            except AssertionError as failure:
                failures.append(str(failure))
    for folder in {broker.folder for broker in started}:
        stores.STORE.forget(folder)
    assert not failures, "\n".join(failures)


@pytest.fixture
def broker_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Broker]]:
    """broker_factory(env={...}, folder=None, ca=None, client_cert=None) starts a broker; env values of None unset."""
    yield from _factory(tmp_path_factory)


@pytest.fixture
def broker(broker_factory: Callable[..., Broker]) -> Broker:
    """A broker for this test alone."""
    return broker_factory()


@pytest.fixture(scope="module")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker for the tests of a module; they must not depend on its counters, limits or events of others."""
    for start in _factory(tmp_path_factory):
        yield start()


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[Callable[..., Ended]]:
    """refused(env={...}) runs a broker that ends by itself and returns code, stdout and stderr."""

    def run(env: dict[str, str | None] | None = None, *arguments: str) -> Ended:
        return run_to_its_end(tmp_path, dict(env or {}), *arguments)

    yield run
    stores.STORE.forget(tmp_path)


def _name(item: pytest.Item) -> str:
    """As in tests/embedded-only.txt."""
    return f"tests/interop/{item.path.relative_to(stores.HERE)}::{item.originalname}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL, puts those apart that are about a file."""
    if stores.STORE.name == "postgres":
        apart = [item for item in items if _name(item) in stores.EMBEDDED_ONLY]
        items[:] = [item for item in items if item not in apart]
        config.hook.pytest_deselected(items=apart)


def pytest_report_header() -> str:
    return f"store: {stores.STORE.name}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Why tests were put apart."""
    if stores.STORE.name == "postgres":
        apart = {_name(item) for item in terminalreporter.stats.get("deselected", [])} & stores.EMBEDDED_ONLY.keys()
        for name in sorted(apart):
            terminalreporter.line(f"on the embedded store only: {name}: {stores.EMBEDDED_ONLY[name]}")


def pytest_sessionfinish() -> None:
    stores.STORE.stop()


def pytest_unconfigure(config: pytest.Config) -> None:
    """The line that scripts/test.sh counts. A skipped test proves nothing, so it counts as failed."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not config.option.collectonly:
        stats = {name: len(reporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")}
        print(f"interop: {stats['passed']} passed, {stats['failed'] + stats['error'] + stats['skipped']} failed")
