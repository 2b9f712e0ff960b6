"""The broker does what its OpenAPI document says; schemathesis makes the requests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from harness import Broker
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from .kubernetes import AUDIENCE, CONTROLLER, LAUNCH_TOKEN, POD, ApiServer, controller_token, pod_token

HERE = Path(__file__).parent
SEED = "20261121"
# Longer than any test here: tokens must not expire in the middle.
DAY = "86400"


@pytest.fixture
def api_server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as server:
        yield server


@pytest.fixture
def whole(broker_factory: Callable[..., Broker], api_server: ApiServer) -> Broker:
    """A broker with every optional route, whose limits are those of an ordinary day."""
    return broker_factory(
        env={
            "KUBECONFIG": str(api_server.kubeconfig),
            "AA_ATTEST_AUDIENCE": AUDIENCE,
            "AA_CONTROLLER_SUBJECT": CONTROLLER,
            "AA_ADMIN_TOKEN_TTL": DAY,
            "AA_LOG_LEVEL": "quiet",
        }
    )


def document(broker: Broker) -> dict[str, Any]:
    return broker.get("/openapi.json").json()


def conform(broker: Broker, known: dict[str, str], *arguments: str) -> None:
    """Runs schemathesis, to which these are known; what it says is what a failed test shows."""
    names = re.findall(r"\$\{(\w+)\}", (HERE / "schemathesis.toml").read_text()) + ["AGENT_ID"]
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", str(HERE / "schemathesis.toml")),
            *("run", f"{broker.url}/openapi.json", "--seed", SEED, *arguments),
        ],
        env={
            "PATH": os.environ["PATH"],
            "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py"),
            **{name: known.get(name, "") for name in names},
        },
        cwd=broker.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    print(ended.stdout, ended.stderr)
    assert ended.returncode == 0, ended.stdout[-20_000:] + ended.stderr
    # A run in which nothing was asked has shown nothing.
    tested = re.search(r"Tested: (\d+)", ended.stdout)
    assert tested and int(tested[1]) > 0, ended.stdout


def policies(broker: Broker) -> None:
    """What a pod needs to launch."""
    common = {"uid": "u-1", "generation": 1, "state": "ready"}
    app = {"scopes": ["read:orders:*"], "max_agent_ttl_seconds": 3600}
    launch = {
        "app": "orders",
        "agent_name": "reader",
        "allowed_scopes": ["read:orders:*"],
        "max_ttl_seconds": 900,
        "service_account_names": ["reader"],
    }
    for sequence, (kind, name, spec) in enumerate((("apps", "orders", app), ("launch-tokens", LAUNCH_TOKEN, launch))):
        body = {**common, "order": {"lease_epoch": 0, "sequence": sequence}, "spec": spec}
        path = f"/v1/k8s/policies/{kind}/{POD['namespace']}/{name}"
        answer = broker.put(path, body, token=controller_token())
        assert answer.status_code == 200, answer.text


def test_the_document_is_openapi_3_1(broker: Broker) -> None:
    OPENAPI_31_VALIDATOR.validate(document(broker))


def test_every_example_fits_its_schema(broker: Broker) -> None:
    whole = document(broker)
    seen = 0

    def check(content: dict[str, Any]) -> None:
        nonlocal seen
        for kind, media in content.items():
            if "json" in kind and "example" in media:
                schema = {**media["schema"], "components": whole["components"]}
                jsonschema_rs.validate(schema, media["example"])
                seen += 1

    def responses() -> Iterator[dict[str, Any]]:
        yield from whole["components"]["responses"].values()
        for item in whole["paths"].values():
            for operation in item.values():
                check(operation.get("requestBody", {}).get("content", {}))
                yield from operation["responses"].values()

    for response in responses():
        check(response.get("content", {}))
    assert seen > 100


def test_every_path_is_there(whole: Broker) -> None:
    for path, item in document(whole)["paths"].items():
        answer = whole.request("PATCH", re.sub(r"[{}]", "", path))
        assert answer.status_code == 405, path
        wanted = {method.upper() for method in item} | ({"HEAD"} if "get" in item else set())
        assert set(answer.headers["Allow"].split(", ")) == wanted, path


@pytest.mark.timeout(180)
def test_strangers_are_answered_as_documented(whole: Broker) -> None:
    phases = ("--phases", "examples,fuzzing", "--max-examples", "4")
    conform(whole, {}, *phases, "--exclude-checks", "positive_data_acceptance")


@pytest.mark.timeout(180)
def test_callers_with_credentials_are_answered_as_documented(whole: Broker) -> None:
    policies(whole)
    agent = whole.agent(["read:orders:*"], max_ttl=int(DAY))
    app = whole.app("conformance", ["read:orders:*"], token_ttl=int(DAY))
    known = {
        "ADMIN_TOKEN": whole.admin_token(),
        "AGENT_ID": agent.agent_id,
        "AGENT_TOKEN": agent.token,
        "APP_TOKEN": whole.app_token(app),
        "CONTROLLER_TOKEN": controller_token(),
        "POD_TOKEN": pod_token(),
        "RELEASED_TOKEN": whole.agent(task_id="released").token,
        "RENEWED_TOKEN": whole.agent(task_id="renewed").token,
    }
    # A mark of another store begins a new epoch: all tokens are refused from then on, so it comes last.
    mark = "/v1/k8s/mark"
    conform(whole, known, "--exclude-path", mark)
    # It got somewhere: what it asked for was done, too.
    for done in (
        "app_registered",
        "delegation_created",
        "launch_token_issued",
        "policy_applied",
        "token_released",
        "token_renewed",
        "token_revoked",
    ):
        assert whole.events(event_type=done), done
    conform(whole, known, "--include-path", mark)
    whole.admin_token(fresh=True)
    assert whole.events(event_type="store_restored"), "a mark of another store was shown"
