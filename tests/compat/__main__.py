"""A sidecar against this broker, over three renewals, under a reader of its token file at twenty reads a second.

The sidecar's paths are fixed, so it runs with a /var/run of its own. What surrounds it, broker and API server, is that
of the attacks."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from attack.core import sources
from attack.core.limit import make_limit
from attack.core.program import NotStarted, Program, try_once
from attack.core.wire import Address, post, request
from attack.world.broker import POD_UID, broker, pod_bearer
from attack.world.setting import Options

RENEWALS = 3
# A token's life: the shortest that a sidecar may ask for, renewed at four fifths.
LIFE_SECONDS = 10
PAUSE_SECONDS = 1 / 20
DIRECTORY = "/var/run/secrets/agentwrit.io"


def sidecar(program: Path, folder: Path, api: Address) -> Program:
    """The program as in a pod: identity and token below a /var/run that nobody else sees."""
    for name in ("identity", "token"):
        (folder / name).mkdir()
    (folder / "identity" / "token").write_text(pod_bearer())
    steps = ["mount -t tmpfs own /var/run"]
    for name in ("identity", "token"):
        steps += [f"mkdir -p {DIRECTORY}/{name}", f"mount --bind {shlex.quote(str(folder / name))} {DIRECTORY}/{name}"]
    steps.append(f"exec {shlex.quote(str(program))}")
    environment = {
        "PATH": os.environ["PATH"], "AGENTWRIT_BROKER_URL": f"http://{api}", "AGENTWRIT_LAUNCH_TOKEN": "reader",
        "AGENTWRIT_TTL_SECONDS": str(LIFE_SECONDS),
    }  # fmt: skip
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    arguments = ["unshare", "--mount", *user, "sh", "-c", " && ".join(steps)]
    return Program("sidecar", arguments, environment, folder, make_limit(64, 99, "watch"))


def follow(running: Program, file: Path, api: Address) -> list[str]:
    """The tokens that were in the file, each of which stood when it was read, until there were three renewals."""
    running.wait_for("holding a token", file.exists)
    tokens: list[str] = []
    end = time.monotonic() + (RENEWALS + 1) * LIFE_SECONDS
    while len(tokens) <= RENEWALS:
        if how := running.ended():
            raise NotStarted(f"the sidecar {how}:\n{running.output()}")
        if time.monotonic() > end:
            raise NotStarted(f"only {len(tokens) - 1} renewals:\n{running.output()}")
        token = file.read_text()
        answer = try_once(api, post("/v1/token/validate", {"token": token}), sources.CLIENT, 5)
        if answer is None or not answer.json().get("valid"):
            raise NotStarted(f"a token that was read doesn't stand: {answer and answer.body[:200]}\n{running.output()}")
        if token not in tokens:
            tokens.append(token)
        time.sleep(PAUSE_SECONDS)
    return tokens


def trail(api: Address, admin: str) -> Counter[str]:
    """How often which event of the pod is in the audit trail."""
    path = f"/v1/audit/events?pod_uid={POD_UID}&limit=1000"
    answer = try_once(api, request("GET", path, bearer=admin), sources.ADMIN, 5)
    if answer is None or answer.status != 200:
        raise NotStarted(f"the trail: {answer and answer.body[:200]}")
    return Counter(event["event_type"] for event in answer.json()["events"])


def main() -> int:
    """Exit code 0 when the sidecar registered once and renewed three times."""
    parser = argparse.ArgumentParser(prog="compat", description=__doc__)
    parser.add_argument("--sidecar", type=Path, required=True, help="the sidecar to run")
    parser.add_argument("--bin", type=Path, required=True, help="folder of the broker's program")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="agentwrit-compat-") as folder:
        try:
            with broker(Options(given.bin.resolve(), Path(folder), "watch")) as surroundings:
                api = surroundings.addresses["api"]
                running = sidecar(given.sidecar.resolve(), Path(folder), api)
                try:
                    tokens = follow(running, Path(folder) / "token" / "token", api)
                finally:
                    running.stop(gently=True)
                events = trail(api, surroundings.facts["admin"])
        except NotStarted as error:
            print(f"compat: failed: {error}", file=sys.stderr)
            return 1
    wanted = {"agent_registered": 1, "token_renewed": RENEWALS, "token_renewal_failed": 0, "token_released": 1}
    found = {name: events[name] for name in wanted}
    if found != wanted:
        print(f"compat: failed: the trail has {found}, not {wanted}", file=sys.stderr)
        return 1
    print(f"compat: {len(tokens) - 1} renewals, every token that was read stood")
    return 0


if __name__ == "__main__":
    sys.exit(main())
