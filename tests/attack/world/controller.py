"""A controller as the chart runs it, beside a small API server; its webhook is what is attacked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ..core import sources
from ..core.program import answers
from ..core.wire import Address, post, request
from .kube import ApiServer
from .setting import Options, Setting, free_address, start

NAMESPACE = "agentwrit-system"


def _objects() -> list[tuple[str, dict[str, Any]]]:
    """What is there when the controller starts: namespaces, one policy, the webhook configuration."""
    webhook = {"name": "pod.inject.agentwrit.io", "clientConfig": {"url": "https://127.0.0.1:1/mutate"},
               "sideEffects": "None", "admissionReviewVersions": ["v1"]}  # fmt: skip
    group = "agentwrit.io/v1alpha1"
    app = {"apiVersion": group, "kind": "AgentApp", "metadata": {"name": "orders"},
           "spec": {"scopes": ["read:orders:*"]}}  # fmt: skip
    launch_token = {"apiVersion": group, "kind": "LaunchToken", "metadata": {"name": "reader"},
                    "spec": {"appRef": {"name": "orders"}, "agentName": "reader",
                             "allowedScopes": ["read:orders:*"], "serviceAccountNames": ["default"]}}  # fmt: skip
    configuration = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
                     "metadata": {"name": "agentwrit-injector"}, "webhooks": [webhook]}  # fmt: skip
    namespaces = [
        ("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for name in (NAMESPACE, "shop")
    ]
    return [
        *namespaces,
        ("/apis/agentwrit.io/v1alpha1/namespaces/shop/agentapps", app),
        ("/apis/agentwrit.io/v1alpha1/namespaces/shop/launchtokens", launch_token),
        ("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", configuration),
    ]


def pod() -> dict[str, Any]:
    """A normal pod that asks for injection, as large as those of a Deployment are: some 12 KB."""
    variables = [{"name": f"SETTING_{number}", "value": f"value-of-setting-{number}"} for number in range(24)]
    probe = {"httpGet": {"path": "/healthz", "port": 8080, "scheme": "HTTP"}, "periodSeconds": 10, "timeoutSeconds": 1}
    containers = [
        {"name": name, "image": f"registry.example/{name}:1.2.3", "env": variables, "livenessProbe": probe,
         "readinessProbe": probe, "ports": [{"containerPort": 8080, "protocol": "TCP"}],
         "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "50m", "memory": "128Mi"}},
         "volumeMounts": [{"name": "config", "mountPath": f"/etc/{name}", "readOnly": True}]}
        for name in ("web", "proxy", "exporter")
    ]  # fmt: skip
    fields: dict[str, Any] = {f'k:{{"name":"SETTING_{number}"}}': {".": {}, "f:name": {}, "f:value": {}} for number in range(48)}
    managed = {"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
               "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": fields}}  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "web-5d8f7b6c9-", "labels": {"agentwrit.io/inject": "true", "app": "web"},
                     "annotations": {"agentwrit.io/launch-token": "reader"}, "managedFields": [managed]},
        "spec": {"serviceAccountName": "default", "containers": containers,
                 "volumes": [{"name": "config", "configMap": {"name": "web"}}]},
    }  # fmt: skip


def review(value: dict[str, Any], namespace: str = "shop") -> dict[str, Any]:
    """As the API server asks about a pod that is to be created."""
    resource = {"group": "", "version": "v1", "resource": "pods"}
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    return {
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "1c7d5f6e-3c0a-4d3f-8a8b-0a1b2c3d4e5f", "kind": kind, "resource": resource,
                    "requestKind": kind, "requestResource": resource, "namespace": namespace, "operation": "CREATE",
                    "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
                    "object": value, "oldObject": None, "dryRun": False, "options": {}},
    }  # fmt: skip


@contextlib.contextmanager
def controller(options: Options) -> Iterator[Setting]:
    """Runs for the length of a `with`."""
    webhook, ops = free_address(tls=True), free_address()
    kube = ApiServer(options.folder, _objects())
    token = options.folder / "controller-token"
    token.write_text("the-controllers-own-token")
    arguments = [
        f"--namespace={NAMESPACE}", "--pod-name=controller-0", "--broker-url=http://127.0.0.1:1",
        f"--attest-audience=agentwrit://{NAMESPACE}/agentwrit", "--sidecar-image=registry.example/agentwrit-sidecar:1",
        "--sidecar-uid=64512", f"--identity-token-file={token}", f"--webhook-address={webhook}",
        "--webhook-names=127.0.0.1", f"--ops-address={ops}",
    ]  # fmt: skip
    try:
        program = start("controller", options, arguments, {"KUBECONFIG": str(kube.kubeconfig)})
        try:
            normal = post("/mutate", review(pod()))
            ready = request("GET", "/readyz")
            program.wait_for("ready", lambda: answers(ops, ready, sources.KUBELET))
            program.wait_for("answering reviews", lambda: answers(webhook, normal, sources.API_SERVER))
            yield Setting(program, {"webhook": webhook, "ops": ops, "kube": Address("127.0.0.1", kube.port)})
        finally:
            program.stop()
    finally:
        kube.stop()
