"""A broker as the chart runs it, with an admin, an app, an agent and a pod that have come before the attack."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core import sources
from ..core.ed25519 import Key
from ..core.program import NotStarted, Program, answers, try_once
from ..core.wire import Address, post, request
from .kube import REVIEWED, ApiServer, service_account_token
from .setting import Options, Setting, free_address, start

ADMIN_SECRET = "attack-admin-secret-of-the-tests"
# bcrypt of it, as `awrit init --mode prod` keeps it.
ADMIN_SECRET_HASH = "$2b$12$VADvvlon0JpgnJgf4ExjXu5d7YxCJ/c7hPTl05mVccpeZEERFiKsy"
# How long the API server takes for a TokenReview where that is part of the attack.
SLOW_REVIEW_SECONDS = 0.1
AUDIENCE = "agentwrit://agentwrit-system/agentwrit"
CONTROLLER = "system:serviceaccount:agentwrit-system:agentwrit-controller"
POD_UID = "0b8b3f0e-6f5e-4f6e-9d53-0d4c5b1f7a11"
# Of a pod whose agent attacks.
HOSTILE_UID = "c41d2e90-11d7-4b1b-8a53-5e0f9a7d2b02"


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Certificate and key for a TLS listener, made once a run."""
    certificate, key = folder / "tls.crt", folder / "tls.key"
    if not certificate.exists():
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                   "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                   "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def _pod(name: str, uid: str) -> dict[str, Any]:
    """An injected pod of the namespace shop."""
    sidecar = {"name": "agentwrit-sidecar", "image": "registry.example/agentwrit-sidecar:1", "restartPolicy": "Always",
               "env": [{"name": "AGENTWRIT_LAUNCH_TOKEN", "value": "reader"}]}  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": uid,
                     "labels": {"agentwrit.io/inject": "true", "agentwrit.io/injected": "true"},
                     "annotations": {"agentwrit.io/launch-token": "reader"}},
        "spec": {"serviceAccountName": "reader", "nodeName": "node-1", "initContainers": [sidecar],
                 "containers": [{"name": "web", "image": "web"}]},
        "status": {"phase": "Running"},
    }  # fmt: skip


def _bearer(user: dict[str, Any]) -> str:
    return service_account_token({"aud": [AUDIENCE], "exp": int(time.time()) + 3600, REVIEWED: user})


def pod_bearer(name: str = "web-0", uid: str = POD_UID) -> str:
    """The projected token of a pod."""
    extra = {"authentication.kubernetes.io/pod-name": [name], "authentication.kubernetes.io/pod-uid": [uid]}
    return _bearer({"username": "system:serviceaccount:shop:reader", "uid": "1", "extra": extra})


def strangers_bearer() -> str:
    """Well formed, for our audience, not expired; the API server doesn't know it."""
    return service_account_token({"aud": [AUDIENCE], "exp": int(time.time()) + 3600, "jti": secrets.token_hex(8)})


@contextlib.contextmanager
def broker(
    options: Options, *, tls: bool = False, review_seconds: float = 0.0, restarted: bool = False
) -> Iterator[Setting]:
    """Runs for the length of a `with`. `restarted`: after what came before, on the same store, so that it remembers no
    secret; that of the admin is then known to it as a hash only."""
    api, ops = free_address(tls), free_address()
    store = options.folder / "store"
    store.mkdir()
    pods = [_pod("web-0", POD_UID), _pod("hostile-0", HOSTILE_UID)]
    kube = ApiServer(options.folder, [("/api/v1/namespaces/shop/pods", pod) for pod in pods], review_seconds)
    settings = {
        "AA_ADMIN_SECRET": ADMIN_SECRET, "AA_ADMIN_TOKEN_TTL": "3600", "AA_BIND_ADDRESS": api.host,
        "AA_PORT": str(api.port), "AA_OPS_ADDRESS": str(ops), "AA_DB_PATH": str(store / "data.db"),
        "AA_SIGNING_KEY_PATH": str(store / "signing.key"), "AA_STORE_REQUIRED": "true", "AA_LOG_FORMAT": "json",
        "AA_LOG_LEVEL": "standard", "AA_DENIAL_AUDIT_RATE": "10", "AA_ATTEST_AUDIENCE": AUDIENCE,
        "AA_CONTROLLER_SUBJECT": CONTROLLER, "KUBECONFIG": str(kube.kubeconfig), "SQLITE_TMPDIR": str(store),
    }  # fmt: skip
    if tls:
        certificate, key = _certificate(options.folder.parent)
        settings |= {"AA_TLS_MODE": "tls", "AA_TLS_CERT": str(certificate), "AA_TLS_KEY": str(key)}
    if restarted:
        settings["AA_ADMIN_SECRET"] = ADMIN_SECRET_HASH
    try:
        with contextlib.ExitStack() as stack:
            program = stack.enter_context(_running(options, api, settings, gently=restarted))
            facts = _before(api)
            if restarted:
                stack.pop_all().close()
                program = stack.enter_context(_running(options, api, settings))
            addresses = {"api": api, "ops": ops, "kube": Address("127.0.0.1", kube.port)}
            yield Setting(program, addresses, facts, store)
    finally:
        kube.stop()


@contextlib.contextmanager
def _running(options: Options, api: Address, settings: dict[str, str], *, gently: bool = False) -> Iterator[Program]:
    program = start("broker", options, [], settings)
    try:
        health = request("GET", "/v1/health")
        program.wait_for("answering", lambda: answers(api, health, sources.CLIENT))
        yield program
    finally:
        program.stop(gently=gently)


def _before(api: Address) -> dict[str, str]:
    """Logs in, registers an app and an agent, puts the policy of the pod."""
    facts = {}

    def done(what: str, data: bytes, source: str = sources.ADMIN) -> Any:
        answer = try_once(api, data, source, 10)
        if answer is None or answer.status not in (200, 201):
            raise NotStarted(f"before the attack: {what}: {answer and (answer.status, answer.body[:300])}")
        return answer.json()

    admin = done("admin login", post("/v1/admin/auth", {"secret": ADMIN_SECRET}))["access_token"]
    facts["admin"] = admin
    app = {"name": "attack-app", "scopes": ["read:data:*"], "token_ttl": 3600}
    registered = done("app", post("/v1/admin/apps", app, bearer=admin))
    facts["client_id"], facts["client_secret"] = registered["client_id"], registered["client_secret"]
    login = {"client_id": facts["client_id"], "client_secret": facts["client_secret"]}
    facts["app"] = done("app login", post("/v1/app/auth", login), sources.CLIENT)["access_token"]
    for name in ("agent", "honest"):
        launch = done("launch token", post("/v1/admin/launch-tokens", launch_request(), bearer=admin))["launch_token"]
        nonce = done("challenge", request("GET", "/v1/challenge"))["nonce"]
        agent = done("agent", post("/v1/register", registration(launch, nonce)))
        facts[name], facts[f"{name}_id"] = agent["access_token"], agent["agent_id"]
    controller = _bearer({"username": CONTROLLER, "uid": "2"})
    order = {"lease_epoch": 1, "sequence": 1}
    put = {"uid": "app-uid", "generation": 1, "order": order, "state": "ready",
           "spec": {"max_agent_ttl_seconds": 3600, "scopes": ["read:orders:*"]}}  # fmt: skip
    data = json.dumps(put).encode()
    done("policy of the app", request("PUT", "/v1/k8s/policies/apps/shop/orders", data, bearer=controller))
    put |= {"uid": "ltok-uid", "spec": {"agent_name": "reader", "allowed_scopes": ["read:orders:*"], "app": "orders",
                                        "max_ttl_seconds": 900, "service_account_names": ["reader"]}}  # fmt: skip
    data = json.dumps(put).encode()
    done("policy of the launch token", request("PUT", "/v1/k8s/policies/launch-tokens/shop/reader", data, bearer=controller))
    launch = {"policy": "reader", "public_key": public_key()}
    hostile = post("/v1/k8s/launch-tokens", launch, bearer=pod_bearer("hostile-0", HOSTILE_UID))
    launched = done("launch of a pod", hostile, sources.CLIENT)
    nonce = done("challenge", request("GET", "/v1/challenge"))["nonce"]
    whole = registration(launched["launch_token"], nonce)
    whole |= {"orch_id": launched["orch_id"], "task_id": launched["task_id"], "requested_scope": ["read:orders:*"]}
    agent = done("agent of a pod", post("/v1/register", whole), sources.CLIENT)
    facts["hostile"], facts["hostile_id"] = agent["access_token"], agent["agent_id"]
    return facts


def launch_request() -> dict[str, Any]:
    """For an agent that reads."""
    return {"agent_name": "reader", "allowed_scope": ["read:data:*"], "max_ttl": 3600, "ttl": 300}


_KEY = Key(b"k" * 32)


def public_key() -> str:
    """The key of all our agents."""
    return base64.b64encode(_KEY.public).decode()


def registration(launch_token: str, nonce: str) -> dict[str, Any]:
    """A registration that the broker accepts, if it knows launch token and nonce."""
    return {
        "launch_token": launch_token, "nonce": nonce, "public_key": public_key(),
        "signature": base64.b64encode(_KEY.sign(bytes.fromhex(nonce))).decode(),
        "orch_id": "attack", "task_id": "task-1", "requested_scope": ["read:data:x"],
    }  # fmt: skip
