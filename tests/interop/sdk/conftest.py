"""An app of the published Python SDK, registered by an admin over HTTP, as its owner would get it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from agentwrit import AgentWritApp

from harness import Broker

NUMBERS = itertools.count()
CEILING = ["read:data:*", "write:data:*", "read:orders:o-7"]


def _apps() -> Iterator[Callable[..., AgentWritApp]]:
    made: list[AgentWritApp] = []

    def make(broker: Broker, scopes: list[str] = CEILING, **fields: object) -> AgentWritApp:
        owner = broker.app(f"sdk-{next(NUMBERS)}", scopes, **fields)
        # The SDK strips the slash that people leave at the end.
        app = AgentWritApp(broker.url + "/", owner.client_id, owner.client_secret)
        app.app_id = owner.app_id
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


@pytest.fixture
def app_of() -> Iterator[Callable[..., AgentWritApp]]:
    """app_of(broker, scopes=CEILING, **fields) registers an app and returns the SDK's object for it."""
    yield from _apps()


@pytest.fixture(scope="module")
def app(shared_broker: Broker) -> Iterator[AgentWritApp]:
    """One app for the tests of a module: its registration and login cost a bcrypt each."""
    for app_of in _apps():
        yield app_of(shared_broker)
