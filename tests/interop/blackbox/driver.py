"""What an operator, an app and an agent do with a broker, in one call each."""

from __future__ import annotations

import base64
import itertools
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Callable, TypeVar
from urllib.parse import urlencode, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from blackbox.jose import Forge, claims_of, load_key, raw_public
from blackbox.wire import Client, Reply, ok
from harness import ADMIN_SECRET as SECRET
from harness import Broker as Process

T = TypeVar("T")
_sources = itertools.count(1)
_serial = itertools.count(1)

INVALID = {"valid": False, "error": "token is invalid or expired"}


def fresh_source() -> str:
    """A loopback address that nothing has sent from yet: a rate bucket of its own."""
    number = next(_sources)
    return f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"


def unique(prefix: str = "x") -> str:
    return f"{prefix}-{next(_serial)}"


@dataclass
class Agent:
    """A registered agent and its token."""

    id: str
    token: str
    expires_in: int

    @property
    def claims(self) -> dict[str, Any]:
        return claims_of(self.token)


@dataclass
class App:
    """A registered app with its credentials."""

    id: str
    client_id: str
    client_secret: str
    name: str


class Broker(Client):
    """A client of one broker that knows the flows. The process is the harness's; the bytes are ours."""

    def __init__(self, process: Process, source: str | None = None) -> None:
        self.process = process
        super().__init__(("", 0), source)
        self._admin: tuple[str, float] | None = None
        self._tenant: tuple[App, str] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; another port after each start."""
        url = urlsplit(self.process.url)
        return (url.hostname or "", url.port or 0)

    @address.setter
    def address(self, _: tuple[str, int]) -> None:
        """The process decides."""

    def elsewhere(self) -> Client:
        """The same broker from an address of its own."""
        return Client(self.address, fresh_source())

    @cached_property
    def forge(self) -> Forge:
        return Forge(load_key(self.process.folder / "signing.key"))

    def restart(self, **env: str | None) -> None:
        """In good order, with these settings changed."""
        self.process.stop()
        self.start(**env)

    def crash(self) -> None:
        """SIGKILL, and up again."""
        self.process.kill()
        self.start()

    def start(self, **env: str | None) -> None:
        """After its end. The key may be another, and the admin token may stand no longer."""
        self.process.start(**env)
        self._admin = None
        self.__dict__.pop("forge", None)

    # -- operator ------------------------------------------------------------------------------------------

    def login(self, secret: str = SECRET) -> Reply:
        return self.elsewhere().post("/v1/admin/auth", {"secret": secret})

    @property
    def admin(self) -> str:
        if self._admin is None or time.monotonic() > self._admin[1]:
            body = ok(self.login())
            self._admin = (body["access_token"], time.monotonic() + body["expires_in"] / 2)
        return self._admin[0]

    def launch(self, scope: list[str] | None = None, *, token: str | None = None, path: str = "/v1/admin/launch-tokens", **fields: Any) -> Reply:
        body = {"agent_name": "box", "allowed_scope": ["read:data:*"] if scope is None else scope, **fields}
        return self.post(path, body, token=token or self.admin)

    def launch_token(self, scope: list[str] | None = None, **fields: Any) -> str:
        return str(ok(self.launch(scope, **fields), 201)["launch_token"])

    def revoke(self, level: str, target: str) -> dict[str, Any]:
        return ok(self.post("/v1/revoke", {"level": level, "target": target}, token=self.admin))

    def app(self, scopes: list[str] | None = None, name: str | None = None, **fields: Any) -> App:
        name = name or unique("app")
        body = ok(self.post("/v1/admin/apps", {"name": name, "scopes": scopes or ["read:data:*"], **fields}, token=self.admin), 201)
        return App(body["app_id"], body["client_id"], body["client_secret"], name)

    def app_login(self, app: App) -> Reply:
        return self.elsewhere().post("/v1/app/auth", {"client_id": app.client_id, "client_secret": app.client_secret})

    def app_token(self, app: App) -> str:
        return str(ok(self.app_login(app))["access_token"])

    def ceiling(self, scopes: list[str]) -> str:
        """A token of an app under this ceiling. It is one app, since bcrypt makes each registration and login slow."""
        if self._tenant is None:
            app = self.app()
            self._tenant = (app, self.app_token(app))
        app, token = self._tenant
        ok(self.put(f"/v1/admin/apps/{app.id}", {"scopes": scopes}, token=self.admin))
        return token

    # -- agent ---------------------------------------------------------------------------------------------

    def nonce(self) -> str:
        return str(ok(self.get("/v1/challenge"))["nonce"])

    def registration(self, launch_token: str | None = None, *, key: Ed25519PrivateKey | None = None, **fields: Any) -> dict[str, Any]:
        """A body that registers. Changed fields override; None leaves a field out."""
        key = key or Ed25519PrivateKey.generate()
        nonce = fields.get("nonce") or self.nonce()
        body = {
            "launch_token": launch_token if launch_token is not None else self.launch_token(),
            "nonce": nonce,
            "public_key": base64.b64encode(raw_public(key)).decode(),
            "signature": base64.b64encode(key.sign(signed_bytes(nonce))).decode(),
            "orch_id": "orch",
            "task_id": "task",
            "requested_scope": ["read:data:*"],
        }
        body.update(fields)
        return {name: value for name, value in body.items() if value is not None}

    def register(self, launch_token: str | None = None, **fields: Any) -> Reply:
        return self.post("/v1/register", self.registration(launch_token, **fields))

    def agent(self, scope: list[str] | None = None, **fields: Any) -> Agent:
        """A new agent; `max_ttl` goes to its launch token, everything else to the registration."""
        scope = scope or ["read:data:*"]
        launch = {name: fields.pop(name) for name in ("max_ttl", "ttl", "single_use") if name in fields}
        body = ok(self.register(self.launch_token(scope, **launch), requested_scope=scope, **fields))
        return Agent(body["agent_id"], body["access_token"], body["expires_in"])

    def renew(self, token: str, **options: Any) -> Reply:
        return self.post("/v1/token/renew", token=token, **options)

    def renewed(self, token: str) -> str:
        return str(ok(self.renew(token))["access_token"])

    def release(self, token: str, **options: Any) -> Reply:
        return self.post("/v1/token/release", token=token, **options)

    def delegate(self, token: str, to: str, scope: list[str], **fields: Any) -> Reply:
        return self.post("/v1/delegate", {"delegate_to": to, "scope": scope, **fields}, token=token)

    def delegated(self, token: str, to: str, scope: list[str], **fields: Any) -> str:
        return str(ok(self.delegate(token, to, scope, **fields))["access_token"])

    def validate(self, token: str) -> dict[str, Any]:
        return ok(self.post("/v1/token/validate", {"token": token}))

    def stands(self, token: str) -> bool:
        """Whether the broker takes this token, asked both ways: by validate and as a bearer."""
        by_validate = self.validate(token)
        # No subject but an admin passes the guard of this endpoint; which refusal it is tells the rest.
        by_bearer = self.get("/v1/audit/events?limit=1", token=token)
        if by_validate["valid"]:
            assert by_bearer.status == 200 or by_bearer.json["detail"].startswith("token lacks required scope"), by_bearer
        else:
            assert by_validate == INVALID
            assert by_bearer.status in (401, 403), by_bearer
            assert by_bearer.json["detail"] in ("token has been revoked", "token verification failed"), by_bearer
        return bool(by_validate["valid"])

    # -- what is seen afterwards ---------------------------------------------------------------------------

    def audit(self, **query: Any) -> dict[str, Any]:
        return ok(self.get("/v1/audit/events?" + urlencode(query), token=self.admin))

    def events(self, **query: Any) -> list[dict[str, Any]]:
        """All events that match, from the first to the last."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.audit(limit=1000, offset=len(found), **query)
            found += page["events"]
            if len(found) >= page["total"] or not page["events"]:
                return found

    def count(self) -> int:
        return int(self.audit(limit=1)["total"])

    def during(self, action: Callable[[], T]) -> tuple[T, list[dict[str, Any]]]:
        """What the action answers, and the events that it left. Each thousandth event is followed by a checkpoint, which is not the action's."""
        before = self.count()
        answer = action()
        events = self.audit(offset=before, limit=1000)["events"]
        return answer, [event for event in events if event["event_type"] != "audit_checkpoint"]

    def metrics(self) -> dict[str, float]:
        """Samples by their text, as `agentwrit_x_total{label="y"}`."""
        reply = self.get("/v1/metrics")
        assert reply.status == 200
        return parse_metrics(reply.body.decode())

    def moved(self, action: Callable[[], Any]) -> dict[str, float]:
        """The broker's own samples that changed while the action ran, and by how much."""
        before = self.metrics()
        action()
        after = self.metrics()
        changed = {name: value - before.get(name, 0.0) for name, value in after.items() if value != before.get(name, 0.0)}
        return {name.removeprefix("agentwrit_"): value for name, value in changed.items() if name.startswith("agentwrit_")}


# What the fixture `start` does: a running broker with these settings.
Start = Callable[..., Broker]


def signed_bytes(nonce: str) -> bytes:
    """What a client signs: the decoded nonce; something at all if a case made it undecodable."""
    try:
        return bytes.fromhex(nonce)
    except ValueError:
        return nonce.encode()


def parse_metrics(text: str) -> dict[str, float]:
    samples = {}
    for line in text.split("\n"):  # not splitlines: a scope label may hold U+2028
        if line and not line.startswith("#"):
            name, value = re.match(r"(.*\S)\s+(\S+)\Z", line).groups()  # type: ignore[union-attr]
            samples[name] = float(value)
    return samples


def at_once(count: int, action: Callable[[int], T]) -> list[T]:
    """Runs the action in as many threads, and gives all answers."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(action, range(count)))


def details(events: list[dict[str, Any]]) -> str:
    return json.dumps(events)


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["event_type"] for event in events]
