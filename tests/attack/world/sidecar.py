"""A sidecar as the webhook puts it into a pod. It has no broker and no token: 503 is then its answer to a probe."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from ..core import sources
from ..core.program import NotStarted, answers
from ..core.wire import Address, request
from .kube import ApiServer
from .setting import Options, Setting, start

HEALTH = Address("127.0.0.1", 15081)
ENDPOINT = Address("127.0.0.1", 15080)


@contextlib.contextmanager
def sidecar(options: Options) -> Iterator[Setting]:
    """Runs for the length of a `with`."""
    for address in (HEALTH, ENDPOINT):
        with socket.socket() as sock:
            if sock.connect_ex((address.host, address.port)) == 0:
                raise NotStarted(f"another program listens on {address}, which is the sidecar's own")
    environment = {
        "AGENTWRIT_BROKER_URL": "https://127.0.0.1:1", "AGENTWRIT_LAUNCH_TOKEN": "reader",
        "AGENTWRIT_ENDPOINT_ENABLED": "true",
    }  # fmt: skip
    # The sidecar doesn't know it; it is what the honest clients compare with.
    kube = ApiServer(options.folder)
    try:
        program = start("sidecar", options, [], environment)
        try:
            probe = request("GET", "/startup")
            program.wait_for("answering", lambda: answers(HEALTH, probe, sources.KUBELET, (200, 503)))
            addresses = {"health": HEALTH, "endpoint": ENDPOINT, "kube": Address("127.0.0.1", kube.port)}
            yield Setting(program, addresses)
        finally:
            program.stop()
    finally:
        kube.stop()
