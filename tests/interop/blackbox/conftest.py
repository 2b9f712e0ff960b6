"""Fixtures of the black-box suite: one broker for all, and brokers of one's own where a case needs one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from blackbox.driver import Broker, Start
from harness import Broker as Process


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cases that outlast a server timeout come last: their connections are opened first (see `idlers`)."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)



@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The broker that most cases share."""
    process = Process(tmp_path_factory.mktemp("shared"))
    yield Broker(process)
    process.stop()


@pytest.fixture
def start(broker_factory: Callable[..., Process]) -> Start:
    """Starts a broker with these settings: `start(AA_MAX_TTL="60")`."""
    return lambda **env: Broker(broker_factory(env=env))


@pytest.fixture(scope="session", autouse=True)
def idlers(broker: Broker) -> Iterator[dict[str, socket.socket]]:
    """Connections that stop in the middle of a request, opened before all else."""
    unfinished = {
        "header": b"GET /v1/health HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        "body": b"POST /v1/token/validate HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{",
    }
    opened = {}
    for name, start_of_request in unfinished.items():
        opened[name] = broker.connect(timeout=25)
        opened[name].sendall(start_of_request)
    yield opened
    for sock in opened.values():
        sock.close()
