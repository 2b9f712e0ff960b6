"""As much of a Kubernetes API server as the broker asks: TokenReview, and one pod."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

AUDIENCE = "agentwrit://interop/agentwrit"
CONTROLLER = "system:serviceaccount:interop:controller"
POD = {"namespace": "shop", "name": "reader-x7k2p", "uid": "7f2c8c1e-0b7d-4f3a-9a55-2f1d0c6b8e90"}
LAUNCH_TOKEN = "reader"


def token(username: str, pod: dict[str, str] | None = None) -> str:
    """A ServiceAccount token that says what its review will be."""
    claims = {"aud": [AUDIENCE], "exp": 4_000_000_000, "sub": username, "pod": pod}
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


def controller_token() -> str:
    return token(CONTROLLER)


def pod_token() -> str:
    return token(f"system:serviceaccount:{POD['namespace']}:reader", POD)


def review(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a TokenReview."""
    status: dict[str, Any] = {"authenticated": False}
    try:
        payload = request["spec"]["token"].split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        user: dict[str, Any] = {"username": claims["sub"]}
        if claims.get("pod"):
            user["extra"] = {
                "authentication.kubernetes.io/pod-name": [claims["pod"]["name"]],
                "authentication.kubernetes.io/pod-uid": [claims["pod"]["uid"]],
            }
        status = {"authenticated": True, "audiences": claims["aud"], "user": user}
    except (ValueError, KeyError, IndexError, TypeError):
        pass
    return {**request, "status": status}


def pod() -> dict[str, Any]:
    """The pod, alive."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**POD, "annotations": {"agentwrit.io/launch-token": LAUNCH_TOKEN}},
        "spec": {"serviceAccountName": "reader", "containers": []},
        "status": {"phase": "Running"},
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(201, review(body))

    def do_GET(self) -> None:
        if self.path.split("?")[0] == f"/api/v1/namespaces/{POD['namespace']}/pods/{POD['name']}":
            self.answer(200, pod())
        else:
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            self.answer(404, missing)

    def log_message(self, *_: object) -> None:
        """Not on the test's standard error."""


class Server(ThreadingHTTPServer):
    # With the default of 5, a burst of connections waits for TCP to try again, longer than the broker waits.
    request_queue_size = 128


class ApiServer:
    """Runs while the `with` block does."""

    def __init__(self, folder: Path) -> None:
        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.kubeconfig = folder / "kubeconfig"
        address = f"http://127.0.0.1:{self._server.server_address[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "interop", "cluster": {"server": address}}],
            "users": [{"name": "interop", "user": {}}],
            "contexts": [{"name": "interop", "context": {"cluster": "interop", "user": "interop"}}],
            "current-context": "interop",
        }
        # JSON is YAML.
        self.kubeconfig.write_text(json.dumps(config))

    def __enter__(self) -> ApiServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
