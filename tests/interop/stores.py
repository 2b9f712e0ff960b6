"""Where the brokers of the tests keep what they know: AGENTWRIT_STORE=sqlite (a file each, the default) or postgres.

A test that doesn't care gets the store of the run by `harness.environment`. A test that must look or reach into it does so by
the functions of `STORE`, which are the same for both. What makes sense on a file only is listed in tests/embedded-only.txt.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from postgres import Server

# A test that sets one of them says itself where its broker's store is.
SETTINGS = frozenset({"AA_DB_PATH", "AA_DATABASE_URL", "AA_DATABASE_URL_FILE"})

# Databases that are made before they are needed.
AHEAD = 3
HERE = Path(__file__).resolve().parent
LIST = HERE.parent / "embedded-only.txt"


def embedded_only() -> dict[str, str]:
    """Tests of which nothing would be left on PostgreSQL: `FILE::NAME`, from the repository on → why."""
    lines = [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split(": ", 1) for line in lines)


EMBEDDED_ONLY = embedded_only()


class Store(Protocol):
    """Looking and reaching into the store of the broker in a folder, past the broker."""

    name: str

    def settings(self, folder: Path) -> dict[str, str]:
        """What the broker in this folder is told about its store."""

    def events(self, folder: Path) -> dict[int, str]:
        """The stored trail: number → event as on the wire."""

    def rewrite(self, folder: Path, number: int, event: str) -> None:
        """Changes an event, as somebody could who has all rights on the store and no key."""

    def cut_off(self, folder: Path, number: int) -> None:
        """Removes this event and all after it."""

    @contextmanager
    def locked(self, folder: Path) -> Iterator[None]:
        """Nothing can be committed meanwhile."""

    def content(self, folder: Path) -> bytes:
        """All that was written."""

    def forget(self, folder: Path) -> None:
        """No broker will be started in this folder any more."""

    def stop(self) -> None:
        """The run is over."""


class Embedded:
    """A file beside the signing key."""

    name = "sqlite"

    def _file(self, folder: Path) -> Path:
        return folder / "data.db"

    def settings(self, folder: Path) -> dict[str, str]:
        return {"AA_DB_PATH": str(self._file(folder))}

    def events(self, folder: Path) -> dict[int, str]:
        with sqlite3.connect(self._file(folder)) as database:
            return dict(database.execute("SELECT seq, json FROM audit_events ORDER BY seq"))

    def rewrite(self, folder: Path, number: int, event: str) -> None:
        with sqlite3.connect(self._file(folder)) as database:
            database.execute("UPDATE audit_events SET json = ? WHERE seq = ?", (event, number))

    def cut_off(self, folder: Path, number: int) -> None:
        with sqlite3.connect(self._file(folder)) as database:
            database.execute("DELETE FROM audit_events WHERE seq >= ?", (number,))

    @contextmanager
    def locked(self, folder: Path) -> Iterator[None]:
        connection = sqlite3.connect(self._file(folder), isolation_level=None, timeout=10)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")
            connection.close()

    def content(self, folder: Path) -> bytes:
        return b"".join(path.read_bytes() for path in folder.glob("data.db*"))

    def forget(self, folder: Path) -> None:
        """It goes with the folder."""

    def stop(self) -> None:
        """There is nothing to stop."""


class Postgres:
    """A database each, on one server for the whole run."""

    name = "postgres"

    def __init__(self) -> None:
        self._server: Server | None = None
        self._databases: dict[Path, str] = {}
        self._made = 0
        # Databases are made and removed while the tests run.
        self._aside = ThreadPoolExecutor(1)
        self._ready: deque[Future[str]] = deque()

    @property
    def server(self) -> Server:
        if self._server is None:
            self._server = Server()
        return self._server

    def _make(self) -> Future[str]:
        self._made += 1
        return self._aside.submit(self.server.create, f"d{self._made}")

    def database(self, folder: Path) -> str:
        """The name of its database; one that is new when it is asked for first."""
        if folder not in self._databases:
            while len(self._ready) < AHEAD:
                self._ready.append(self._make())
            self._databases[folder] = self._ready.popleft().result()
        return self._databases[folder]

    def settings(self, folder: Path) -> dict[str, str]:
        return {"AA_DATABASE_URL": self.server.url(self.database(folder))}

    def events(self, folder: Path) -> dict[int, str]:
        text = self.server.sql(self.database(folder), "SELECT seq, json FROM agentwrit.audit_events ORDER BY seq")
        return {int(number): event for number, event in (line.split("|", 1) for line in text.splitlines())}

    def _past_the_triggers(self, folder: Path, statement: str) -> None:
        self.server.sql(self.database(folder), f"SET session_replication_role = replica; {statement}")

    def rewrite(self, folder: Path, number: int, event: str) -> None:
        assert json.loads(event) and "$event$" not in event
        self._past_the_triggers(folder, f"UPDATE agentwrit.audit_events SET json = $event${event}$event$ WHERE seq = {number}")

    def cut_off(self, folder: Path, number: int) -> None:
        self._past_the_triggers(folder, f"DELETE FROM agentwrit.audit_events WHERE seq >= {number}")

    @contextmanager
    def locked(self, folder: Path) -> Iterator[None]:
        with self.server.session(self.database(folder)) as session:
            print("BEGIN; SELECT id FROM agentwrit.chain_head FOR UPDATE;", file=session.stdin, flush=True)
            # It has the lock when it has answered.
            assert session.stdout.readline() == "1\n"
            yield
            session.stdin.close()

    def content(self, folder: Path) -> bytes:
        return self.server.dump(self.database(folder)).encode()

    def forget(self, folder: Path) -> None:
        if name := self._databases.pop(folder, None):
            self._aside.submit(self.server.drop, name)

    def stop(self) -> None:
        self._aside.shutdown(cancel_futures=True)
        if self._server is not None:
            self._server.stop()


def _chosen() -> Store:
    name = os.environ.get("AGENTWRIT_STORE") or "sqlite"
    kinds = {"sqlite": Embedded, "postgres": Postgres}
    if name not in kinds:
        raise RuntimeError(f"AGENTWRIT_STORE={name!r} must be one of {', '.join(kinds)}")
    return kinds[name]()


STORE = _chosen()


def settings(folder: Path, env: Mapping[str, str | None]) -> dict[str, str]:
    """The store of a broker with these settings of its test: the run's, unless they say another."""
    if SETTINGS & env.keys():
        return Embedded().settings(folder)
    return STORE.settings(folder)
