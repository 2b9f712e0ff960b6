"""What everybody else does with each program, all the time."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from ..core import sources
from ..core.wire import Answer, post, request
from . import controller
from .broker import ADMIN_SECRET, SLOW_REVIEW_SECONDS, launch_request, pod_bearer, public_key, registration
from .everybody import AT_ONCE_SECONDS, PATIENCE_SECONDS, Everybody

# Between two requests of one client; the newcomer, the admin and the kubelet take their time.
_PAUSE_SECONDS = 0.02
_SLOW_PAUSE_SECONDS = 0.15
# For a login that bcrypt has to decide: a quarter of a second each on a calm machine, and a turn of some sources before it.
_LOGIN_PATIENCE_SECONDS = 5.0


def of_broker(everybody: Everybody) -> list[Awaitable[None]]:
    """Services validate tokens, agents ask for challenges, a newcomer registers, an admin revokes, the kubelet probes."""
    validate = post("/v1/token/validate", {"token": everybody.facts["honest"]})
    challenge = request("GET", "/v1/challenge")

    async def client(work: Awaitable[Answer], holds: bytes = b"") -> Answer | None:
        return await everybody.timed("client", work, (200, 201), PATIENCE_SECONDS, holds)

    async def validates_anew() -> None:
        await client(everybody.fresh("api", sources.CLIENT, validate), b'"valid":true')

    async def validates_on_a_kept_connection() -> None:
        await client(everybody.kept("api", sources.CLIENT, validate), b'"valid":true')

    async def asks_for_a_challenge() -> None:
        await client(everybody.fresh("api", sources.CLIENT, challenge))

    async def registers() -> None:
        launch = post("/v1/app/launch-tokens", launch_request(), bearer=everybody.facts["app"])
        launched = await client(everybody.fresh("api", sources.POD, launch))
        nonce = await client(everybody.fresh("api", sources.POD, challenge))
        if launched and nonce:
            data = post("/v1/register", registration(launched.json()["launch_token"], nonce.json()["nonce"]))
            await client(everybody.fresh("api", sources.POD, data))

    async def revokes() -> None:
        target = {"level": "token", "target": secrets.token_hex(16)}
        data = post("/v1/revoke", target, bearer=everybody.facts["admin"])
        await everybody.timed("admin", everybody.fresh("api", sources.ADMIN, data), (200,), AT_ONCE_SECONDS)

    return [
        everybody.repeat(_PAUSE_SECONDS, validates_anew),
        everybody.repeat(_PAUSE_SECONDS, validates_on_a_kept_connection),
        everybody.repeat(_PAUSE_SECONDS, asks_for_a_challenge),
        everybody.repeat(_SLOW_PAUSE_SECONDS, registers),
        everybody.repeat(_SLOW_PAUSE_SECONDS, revokes),
        *_kubelet(everybody, "ops", ("/livez", "/readyz", "/metrics"), (200,)),
        _control(everybody),
    ]


def of_broker_and_a_pod(everybody: Everybody) -> list[Awaitable[None]]:
    """The same, and a pod whose sidecar asks for its launch token."""
    body = {"policy": "reader", "public_key": public_key()}
    # Ten times what it takes without anybody else, and a turn of all sources at 16 reviews at a time.
    patience = SLOW_REVIEW_SECONDS * (10 + float(everybody.facts["sources"]) / 16)

    async def launches() -> None:
        data = post("/v1/k8s/launch-tokens", body, bearer=pod_bearer())
        answer = everybody.fresh("api", sources.POD, data)
        await everybody.timed("pod", answer, (201,), patience)

    # A pod may ask three times at once. Its sidecar would try again after a refusal, but a start would take as long.
    late = _late(everybody)
    return [*of_broker(everybody), *(_once(everybody, late * part, launches) for part in (1, 1.15, 1.3))]


def of_broker_and_late_logins(everybody: Everybody) -> list[Awaitable[None]]:
    """The same, and later in the attack an admin and an app that log in three times each, for the first time since the
    broker's start."""

    async def admin_logs_in() -> None:
        answer = everybody.fresh("api", sources.ADMIN, post("/v1/admin/auth", {"secret": ADMIN_SECRET}))
        await everybody.timed_by_work("admin login", answer, (200,), _LOGIN_PATIENCE_SECONDS)

    begin = _late(everybody) * 0.6
    return [
        *of_broker(everybody),
        *(_once(everybody, begin + pause, lambda: _app_logs_in(everybody, (200,))) for pause in (0, 0.2, 0.4)),
        *(_once(everybody, begin + pause, admin_logs_in) for pause in (0, 0.2, 0.4)),
    ]


def of_broker_and_a_new_app(everybody: Everybody) -> list[Awaitable[None]]:
    """The same with an app alone. It may be told to come back in a second (503), but not that it has asked too often."""
    very_late = _late(everybody) * 1.5
    return [*of_broker(everybody), _once(everybody, very_late, lambda: _app_logs_in(everybody, (200, 503)))]


def _late(everybody: Everybody) -> float:
    return float(everybody.facts["seconds"]) * 0.6


async def _app_logs_in(everybody: Everybody, wanted: tuple[int, ...]) -> None:
    login = {"client_id": everybody.facts["client_id"], "client_secret": everybody.facts["client_secret"]}
    answer = everybody.fresh("api", sources.POD, post("/v1/app/auth", login))
    await everybody.timed_by_work("app", answer, wanted, _LOGIN_PATIENCE_SECONDS)


def of_sidecar(everybody: Everybody) -> list[Awaitable[None]]:
    """The kubelet probes, and the application asks for its token."""
    token = request("GET", "/token", headers={"Agentwrit-Request": "1", "Host": "127.0.0.1"})

    async def asks() -> None:
        # From the pod's own loopback address, as every process of the pod.
        answer = everybody.fresh("endpoint", "127.0.0.1", token)
        await everybody.timed("client", answer, (200, 503), PATIENCE_SECONDS)

    return [
        everybody.repeat(_PAUSE_SECONDS, asks),
        *_kubelet(everybody, "health", ("/startup", "/ready"), (200, 503)),
        _control(everybody),
    ]


def of_controller(everybody: Everybody) -> list[Awaitable[None]]:
    """The API server asks about a normal pod, and the kubelet probes."""
    normal = post("/mutate", controller.review(controller.pod()))

    async def client(work: Awaitable[Answer]) -> None:
        await everybody.timed("client", work, (200,), PATIENCE_SECONDS, b'"allowed":true')

    async def on_a_connection_of_its_own() -> None:
        await client(everybody.fresh("webhook", sources.API_SERVER, normal))

    async def on_a_kept_connection() -> None:
        await client(everybody.kept("webhook", sources.API_SERVER, normal))

    return [
        everybody.repeat(_PAUSE_SECONDS, on_a_connection_of_its_own),
        everybody.repeat(_PAUSE_SECONDS, on_a_kept_connection),
        *_kubelet(everybody, "ops", ("/livez", "/readyz", "/metrics"), (200,)),
        _control(everybody),
    ]


def _kubelet(everybody: Everybody, name: str, paths: tuple[str, ...], wanted: tuple[int, ...]) -> list[Awaitable[None]]:
    async def probes(path: str) -> None:
        answer = everybody.fresh(name, sources.KUBELET, request("GET", path))
        await everybody.timed("kubelet", answer, wanted, AT_ONCE_SECONDS)

    def prober(path: str) -> Awaitable[None]:
        return everybody.repeat(_SLOW_PAUSE_SECONDS, lambda: probes(path))

    return [prober(path) for path in paths]


def _control(everybody: Everybody) -> Awaitable[None]:
    """Asks the small API server, which nobody attacks, as often as one client asks the program."""

    async def asks() -> None:
        answer = everybody.fresh("kube", sources.CLIENT, request("GET", "/counts"))
        await everybody.timed("control", answer, (200,), PATIENCE_SECONDS)

    return everybody.repeat(_PAUSE_SECONDS, asks)


async def _once(everybody: Everybody, after: float, once: Callable[[], Awaitable[None]]) -> None:
    try:
        await asyncio.wait_for(everybody.stopping.wait(), after)
    except TimeoutError:
        await once()
