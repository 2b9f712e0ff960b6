"""A broker program under test: start it, talk to it, stop it.

Everything goes through the outside: environment, HTTP, standard output and error, exit code.
`conftest.py` has the fixtures; see its text for examples.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import stores

T = TypeVar("T")
# A start, a stop or a log line that takes longer has failed.
DEADLINE_SECONDS = 20.0
ADMIN_SECRET = "interop-admin-secret-of-the-tests"
LISTENING = re.compile(r"^AgentWrit broker v\S+ listening on (?P<address>\S+)(?P<tls> \(TLS\))?$")


def program(variable: str) -> str:
    """Path of a program that scripts/interop.sh names in the environment."""
    path = os.environ.get(variable)
    if not path:
        raise RuntimeError(f"{variable} is not set; run scripts/interop.sh, or set it to the program's path")
    return path


def decode_segment(segment: str) -> Any:
    """The JSON of one base64url segment of a JWT."""
    return json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT, without looking at its signature."""
    return decode_segment(token.split(".")[1])


def header_of(token: str) -> dict[str, Any]:
    """The header of a JWT."""
    return decode_segment(token.split(".")[0])


def until(condition: Callable[[], T], deadline: float = DEADLINE_SECONDS) -> T:
    """Asks again and again until the condition answers something true, and returns that."""
    end = time.monotonic() + deadline
    while not (answer := condition()):
        assert time.monotonic() < end, f"still {answer!r} after {deadline} s"
        time.sleep(0.02)  # between two questions, so as not to be a load; nothing depends on how long
    return answer


class Lines:
    """What a program has printed so far on one stream, gathered by a thread of its own."""

    def __init__(self, stream: IO[str]) -> None:
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._gather, args=(stream,), daemon=True)
        self._thread.start()

    def _gather(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, pattern: str | re.Pattern[str], deadline: float = DEADLINE_SECONDS) -> re.Match[str] | None:
        """The first line, printed already or yet to come, in which the pattern is found; None when the
        program closed the stream, or the deadline passed, without one."""
        pattern = re.compile(pattern)
        seen = 0

        def look() -> re.Match[str] | bool:
            nonlocal seen
            for line in self._lines[seen:]:
                seen += 1
                if match := pattern.search(line):
                    return match
            return self._ended

        with self._changed:
            found = self._changed.wait_for(look, timeout=deadline)
        return found if isinstance(found, re.Match) else None

    def finish(self) -> None:
        """Waits until the stream is closed, so that `text` is all of it."""
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive(), "the stream is still open"

    @property
    def text(self) -> str:
        with self._changed:
            return "".join(line + "\n" for line in self._lines)

    def __iter__(self):
        with self._changed:
            return iter(list(self._lines))


@dataclass
class Registered:
    """An agent that has registered, with the key it did so with."""

    agent_id: str
    token: str
    expires_in: int
    key: Ed25519PrivateKey
    launch_token: str

    @property
    def claims(self) -> dict[str, Any]:
        return claims_of(self.token)

    @property
    def jti(self) -> str:
        return self.claims["jti"]


@dataclass
class App:
    """An app that an admin registered: what its owner was shown, once."""

    app_id: str
    client_id: str
    client_secret: str


@dataclass
class Ended:
    """A program that has ended."""

    code: int
    stdout: str
    stderr: str


def environment(folder: Path, env: dict[str, str | None]) -> dict[str, str]:
    """A clean environment with a test's defaults; None takes a default out."""
    settings: dict[str, str | None] = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AA_ADMIN_SECRET": ADMIN_SECRET,
        "AA_PORT": "0",
        "AA_SIGNING_KEY_PATH": str(folder / "signing.key"),
        **stores.settings(folder, env),
        **env,
    }
    return {name: value for name, value in settings.items() if value is not None}


def run_to_its_end(folder: Path, env: dict[str, str | None], *arguments: str) -> Ended:
    """Runs the broker that is expected to end by itself, such as one that refuses its settings."""
    done = subprocess.run(
        [program("AGENTWRIT_BROKER"), *arguments],
        cwd=folder,
        env=environment(folder, env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@dataclass
class Broker:
    """A running broker and its folder (signing.key; its store is a file in it, or a database of its own)."""

    folder: Path
    env: dict[str, str | None] = field(default_factory=dict)
    ca: Path | None = None
    client_cert: tuple[Path, Path] | None = None
    url: str = ""

    def __post_init__(self) -> None:
        self._admin: str | None = None
        self._process: subprocess.Popen[str] | None = None
        self.start()

    # -- the process ---------------------------------------------------------------------------

    def start(self, **env: str | None) -> None:
        """Starts it (again), in the same folder, with these settings changed, and waits until it listens."""
        assert self._process is None, "it runs already"
        self.env = {**self.env, **env}
        self._process = subprocess.Popen(
            [program("AGENTWRIT_BROKER")],
            cwd=self.folder,
            env=environment(self.folder, self.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.stdout = Lines(self._process.stdout)
        self.stderr = Lines(self._process.stderr)
        banner = self.stdout.wait_for(LISTENING)
        if banner is None:
            ended = self.kill()
            raise AssertionError(f"the broker did not start:\n{ended.stdout}{ended.stderr}")
        self.url = f"{'https' if banner['tls'] else 'http'}://{banner['address']}"
        self._admin = None
        context: ssl.SSLContext | bool = True
        if self.ca is not None:
            context = ssl.create_default_context(cafile=str(self.ca))
            if self.client_cert is not None:
                context.load_cert_chain(*map(str, self.client_cert))
        # trust_env: a proxy of the machine must not come between us and the loopback.
        self.http = httpx.Client(base_url=self.url, timeout=DEADLINE_SECONDS, verify=context, trust_env=False)

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    @property
    def secret(self) -> str:
        return environment(self.folder, self.env)["AA_ADMIN_SECRET"]

    @property
    def running(self) -> bool:
        return self._process is not None

    def _end(self, deadline: float) -> Ended:
        process, self._process = self._process, None
        try:
            code = process.wait(deadline)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the broker did not end within {deadline} s:\n{self.stdout.text}") from None
        finally:
            self.stdout.finish()
            self.stderr.finish()
        return Ended(code, self.stdout.text, self.stderr.text)

    def stop(self) -> Ended:
        """SIGTERM; it must end in good order, with exit code 0."""
        self.http.close()
        os.kill(self.pid, signal.SIGTERM)
        ended = self._end(DEADLINE_SECONDS)
        assert ended.code == 0, f"exit code {ended.code}:\n{ended.stdout}{ended.stderr}"
        assert "panicked" not in ended.stderr, ended.stderr
        return ended

    def kill(self) -> Ended:
        """SIGKILL, as power does it."""
        if hasattr(self, "http"):
            self.http.close()
        os.kill(self.pid, signal.SIGKILL)
        return self._end(DEADLINE_SECONDS)

    def restart(self, **env: str | None) -> None:
        """Stops it in good order and starts it again."""
        self.stop()
        self.start(**env)

    # -- HTTP ----------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        **arguments: Any,
    ) -> httpx.Response:
        """One request; `token` becomes the bearer, the rest is httpx's (json=, content=, params=)."""
        headers = dict(headers or {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return self.http.request(method, path, headers=headers, **arguments)

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("GET", path, **arguments)

    def post(self, path: str, body: Any = None, **arguments: Any) -> httpx.Response:
        """POST; `body` is sent as JSON unless it is None."""
        if body is not None:
            arguments["json"] = body
        return self.request("POST", path, **arguments)

    def put(self, path: str, body: Any, **arguments: Any) -> httpx.Response:
        return self.request("PUT", path, json=body, **arguments)

    def delete(self, path: str, **arguments: Any) -> httpx.Response:
        return self.request("DELETE", path, **arguments)

    # -- the usual steps ---------------------------------------------------------------------------

    def admin_token(self, *, fresh: bool = False) -> str:
        """An admin's token; the same one each time, since logins are rate limited, unless a fresh one is asked for."""
        if self._admin is None or fresh:
            answer = self.post("/v1/admin/auth", {"secret": self.secret})
            assert answer.status_code == 200, answer.text
            self._admin = answer.json()["access_token"]
        return self._admin

    def launch_token(self, scope: list[str] | None = None, *, token: str | None = None, **fields: Any) -> str:
        """A launch token, by an admin, or on the app path by the app whose `token` is given."""
        path = "/v1/admin/launch-tokens" if token is None else "/v1/app/launch-tokens"
        body = {"agent_name": "interop", "allowed_scope": scope or ["read:data:*"], **fields}
        answer = self.post(path, body, token=token or self.admin_token())
        assert answer.status_code == 201, answer.text
        return answer.json()["launch_token"]

    def challenge(self) -> str:
        """A nonce."""
        answer = self.get("/v1/challenge")
        assert answer.status_code == 200, answer.text
        return answer.json()["nonce"]

    def registration(self, *, key: Ed25519PrivateKey | None = None, **fields: Any) -> dict[str, Any]:
        """The body of a good registration, signed; `fields` replace members after that, None removes one.

        launch_token and nonce are fetched unless given."""
        key = key or Ed25519PrivateKey.generate()
        nonce = fields.get("nonce") or self.challenge()
        body = {
            "nonce": nonce,
            "public_key": base64.b64encode(key.public_key().public_bytes_raw()).decode(),
            "signature": base64.b64encode(key.sign(bytes.fromhex(nonce))).decode() if is_hex(nonce) else "",
            "orch_id": "orch",
            "task_id": "task",
            "requested_scope": ["read:data:*"],
            **fields,
        }
        if "launch_token" not in body:
            body["launch_token"] = self.launch_token(body["requested_scope"])
        return {name: value for name, value in body.items() if value is not None}

    def agent(self, scope: list[str] | None = None, **fields: Any) -> Registered:
        """A registered agent; `fields` as for `registration`, and max_ttl for its launch token."""
        key = fields.pop("key", None) or Ed25519PrivateKey.generate()
        scope = scope or ["read:data:*"]
        if "launch_token" not in fields:
            launch = {name: fields.pop(name) for name in ("max_ttl",) if name in fields}
            fields["launch_token"] = self.launch_token(scope, **launch)
        body = self.registration(key=key, requested_scope=scope, **fields)
        answer = self.post("/v1/register", body)
        assert answer.status_code == 200, answer.text
        reply = answer.json()
        return Registered(reply["agent_id"], reply["access_token"], reply["expires_in"], key, body["launch_token"])

    def app(self, name: str, scopes: list[str], **fields: Any) -> App:
        """An app with this ceiling."""
        body = {"name": name, "scopes": scopes, **fields}
        answer = self.post("/v1/admin/apps", body, token=self.admin_token())
        assert answer.status_code == 201, answer.text
        reply = answer.json()
        return App(reply["app_id"], reply["client_id"], reply["client_secret"])

    def app_token(self, app: App) -> str:
        """A fresh token of an app; logins are rate limited by client_id (burst 3)."""
        body = {"client_id": app.client_id, "client_secret": app.client_secret}
        answer = self.post("/v1/app/auth", body)
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def delegated(self, token: str, to: str, scope: list[str], **fields: Any) -> dict[str, Any]:
        """The answer to a delegation."""
        answer = self.post("/v1/delegate", {"delegate_to": to, "scope": scope, **fields}, token=token)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def validate(self, token: str) -> dict[str, Any]:
        """What POST /v1/token/validate says."""
        answer = self.post("/v1/token/validate", {"token": token})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def events(self, **query: str) -> list[dict[str, Any]]:
        """Audit events, oldest first; limit is 1000 unless given."""
        answer = self.get("/v1/audit/events", params={"limit": "1000", **query}, token=self.admin_token())
        assert answer.status_code == 200, answer.text
        return answer.json()["events"]


def is_hex(text: Any) -> bool:
    """Whether bytes.fromhex takes it."""
    return isinstance(text, str) and len(text) % 2 == 0 and re.fullmatch(r"[0-9A-Fa-f]+", text) is not None


def assert_problem(answer: httpx.Response, status: int, error_code: str, detail: str | None = None) -> dict[str, Any]:
    """The answer is a problem object, whole and consistent (contract section 2); `detail` is compared exactly."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["type"] == f"urn:agentwrit:error:{error_code}", body
    assert body["status"] == status
    assert body["title"] == httpx.codes.get_reason_phrase(status) or status == 413, body
    assert body["error_code"] == error_code
    assert body["instance"] == answer.request.url.path
    assert body["request_id"] == answer.headers["X-Request-ID"]
    if detail is not None:
        assert body["detail"] == detail, body
    return body
