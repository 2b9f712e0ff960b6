"""A PostgreSQL server for the tests: on a temporary data folder, as a user without privileges, on a socket.

It ends with this process, however that ends: a shell beside it waits for the end of its own input.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

# Whom the server runs as when the tests run as root, which it refuses to: the first of them that there is.
USERS = ("postgres", "nobody")
# Ends the server and removes its folder when its input ends.
KEEPER = '"$0" "$@" & server=$!; cat >/dev/null; kill -QUIT $server 2>/dev/null; wait $server; rm -rf "$AGENTWRIT_FOLDER"'
SETTINGS = ("listen_addresses=", "fsync=off", "max_connections=300", "shared_buffers=64MB", "max_wal_size=4GB")
# The role of the brokers: it owns their databases, and is nobody else.
ROLE = "broker"


def programs() -> Path:
    """The folder with the server's programs: that of the newest version, or AGENTWRIT_POSTGRES_BIN."""
    if named := os.environ.get("AGENTWRIT_POSTGRES_BIN"):
        return Path(named)
    versions = [path for path in Path("/usr/lib/postgresql").glob("*") if path.name.isdigit()]
    debian = [path / "bin" for path in sorted(versions, key=lambda path: int(path.name), reverse=True)]
    for folder in [*debian, Path("/usr/bin")]:
        if (folder / "initdb").exists():
            return folder
    raise RuntimeError("no PostgreSQL server is installed: scripts/setup.sh packages")


def unprivileged() -> dict[str, Any]:
    """What subprocess needs to start the server as somebody whom it takes."""
    if os.geteuid() != 0:
        return {}
    users = {entry.pw_name: entry for entry in pwd.getpwall()}
    found = next(users[name] for name in USERS if name in users)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


class Server:
    """A running server."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="aw-pg-", dir="/tmp"))
        self._programs, user = programs(), unprivileged()
        if user:
            os.chown(self.folder, user["user"], user["group"])
        # The server's own settings are ours alone.
        self._env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PGHOST": str(self.folder), "PGUSER": "owner"}
        data = str(self.folder / "data")
        make = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--username=owner", "--no-sync", "-D", data]
        self._run("initdb", *make, **user)
        arguments = [part for setting in (*SETTINGS, f"unix_socket_directories={self.folder}") for part in ("-c", setting)]
        with open(self.folder / "log", "wb") as log:
            self._keeper = subprocess.Popen(
                ["/bin/sh", "-c", KEEPER, str(self._programs / "postgres"), "-D", data, *arguments],
                env={**self._env, "AGENTWRIT_FOLDER": str(self.folder)},
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                # What ends a test run from the keyboard must not end the server before the brokers.
                start_new_session=True,
                **user,
            )
        ready = 'for i in $(seq 300); do "$0" -q && exit 0; sleep 0.1; done; exit 1'
        waited = subprocess.run(["/bin/sh", "-c", ready, str(self._programs / "pg_isready")], env=self._env, check=False)
        assert waited.returncode == 0, f"the server doesn't come up: {(self.folder / 'log').read_text()}"
        self.sql("postgres", f"CREATE ROLE {ROLE} LOGIN")

    def _run(self, program: str, *arguments: str, **options: Any) -> str:
        done = subprocess.run(
            [self._programs / program, *arguments], env=self._env, cwd="/", capture_output=True, text=True, check=False, **options
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout

    def sql(self, database: str, *statements: str) -> str:
        """What psql prints, as the owner of all, for statements that are one transaction each."""
        commands = [part for statement in statements for part in ("-c", statement)]
        return self._run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, *commands)

    def session(self, database: str) -> subprocess.Popen[str]:
        """A psql that reads statements from its standard input and prints one answer to each."""
        return subprocess.Popen(
            [self._programs / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database],
            env=self._env,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def create(self, database: str) -> str:
        """A new and empty database of the brokers' role; answers its name."""
        self.sql("postgres", f"CREATE DATABASE {database} OWNER {ROLE}")
        return database

    def drop(self, *databases: str) -> None:
        """Removes databases, whoever is still connected."""
        self.sql("postgres", *(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)" for database in databases))

    def dump(self, database: str) -> str:
        """All that is in a database, as pg_dump writes it."""
        return self._run("pg_dump", "--inserts", database)

    def url(self, database: str) -> str:
        """For AA_DATABASE_URL."""
        return f"postgres://{ROLE}@:5432/{database}?host={self.folder}"

    def stop(self) -> None:
        """Ends it, and removes its folder."""
        self._keeper.stdin.close()
        self._keeper.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
