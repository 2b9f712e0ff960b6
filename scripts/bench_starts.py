"""How long a pod takes from its creation to the start of its application, by start gate: one after the other, and many at once.

bench_starts.py NAMESPACE IDLE_IMAGE [--pods N] [--at-once N] [--json]

Runs on the node as root: the start of a process is read from /proc (10 ms steps). Beside the gates stand, in the same run, the pod
as it is (plain) and the pod with an idle native sidecar that has no probe (floor). scripts/bench.sh calls it.
"""

import argparse
import base64
import http.client
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GATES = ("none", "hook", "probe")
KINDS = ("plain", "floor", *GATES)
# Seconds that may be added to the floor, one pod at a time; and times the floor, many at once.
GOALS = {"none": (0.15, 1.15), "hook": (0.15, 1.15), "probe": (1.1, 1.3)}
PATIENCE = 180


class Api:
    """The API server of the current kubeconfig, over one connection."""

    def __init__(self) -> None:
        view = subprocess.run(["kubectl", "config", "view", "--raw", "--minify", "-o", "json"], check=True, capture_output=True)
        config = json.loads(view.stdout)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        with tempfile.TemporaryDirectory() as folder:
            context = ssl.create_default_context(cafile=self._file(folder, cluster, "certificate-authority"))
            context.load_cert_chain(self._file(folder, user, "client-certificate"), self._file(folder, user, "client-key"))
        self.address = cluster["server"].removeprefix("https://")
        self.connection = http.client.HTTPSConnection(self.address, context=context, timeout=30)

    @staticmethod
    def _file(folder: str, holder: dict, name: str) -> str:
        if name in holder:
            return holder[name]
        path = Path(folder) / name
        path.write_bytes(base64.b64decode(holder[f"{name}-data"]))
        return str(path)

    def ask(self, method: str, path: str, body: dict | None = None) -> dict | None:
        text = None if body is None else json.dumps(body)
        self.connection.request(method, path, text, {"content-type": "application/json"})
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status == 404:
            return None
        if answer.status >= 300:
            sys.exit(f"bench_starts: {method} {path}: {answer.status} {content[:500].decode()}")
        return json.loads(content)


def pod(kind: str, name: str, image: str) -> dict:
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    idle = {"image": image, "imagePullPolicy": "IfNotPresent", "securityContext": security}
    whole = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"bench": kind}, "annotations": {}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "app", **idle}],
        },
    }
    if kind == "floor":
        whole["spec"]["initContainers"] = [{"name": "idle", "restartPolicy": "Always", **idle}]
    elif kind in GATES:
        whole["metadata"]["labels"]["agentwrit.io/inject"] = "true"
        annotations = {"agentwrit.io/launch-token": "bench", "agentwrit.io/start-gate": kind}
        whole["metadata"]["annotations"] = annotations
    return whole


def is_running(found: dict) -> bool:
    statuses = found.get("status", {}).get("containerStatuses", [])
    return any("running" in status.get("state", {}) for status in statuses)


def app_start(uid: str) -> float:
    """When the application of this pod was started: the last idle process that has its mounts; 0 when there is none."""
    hertz = os.sysconf("SC_CLK_TCK")
    boot = time.time() - float(Path("/proc/uptime").read_text().split()[0])
    starts = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            if "pause" in (folder / "comm").read_text() and uid in (folder / "mountinfo").read_text():
                ticks = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[19])
                starts.append(boot + ticks / hertz)
        except OSError:
            continue  # It has ended.
    return max(starts, default=0.0)


class Bench:
    def __init__(self, namespace: str, image: str) -> None:
        self.api, self.image = Api(), image
        self.pods = f"/api/v1/namespaces/{namespace}/pods"

    def start(self, kind: str, names: list[str]) -> list[float]:
        """Seconds from the first creation to the start of each pod's application; the pods are gone afterwards."""
        begin = time.time()
        for name in names:
            self.api.ask("POST", self.pods, pod(kind, name, self.image))
        took = [self.started(name, begin) - begin for name in names]
        for name in names:
            self.api.ask("DELETE", f"{self.pods}/{name}", {"gracePeriodSeconds": 0})
        for name in names:
            while self.api.ask("GET", f"{self.pods}/{name}") is not None:
                time.sleep(0.05)
        # Force removes the object first; the kubelet is done when no process is left.
        time.sleep(1 + len(names) / 20)
        return took

    def started(self, name: str, begin: float) -> float:
        while True:
            found = self.api.ask("GET", f"{self.pods}/{name}")
            if found is None or time.time() - begin > PATIENCE:
                sys.exit(f"bench_starts: pod {name} doesn't run after {PATIENCE} s: {(found or {}).get('status')}")
            if is_running(found) and (start := app_start(found["metadata"]["uid"])):
                return start
            time.sleep(0.05)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[round((len(ordered) - 1) * share)]


def measure(bench: Bench, pods: int, at_once: int) -> dict[str, dict[str, float]]:
    single: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(pods):
        # In turn, so that what else the machine does hits all alike.
        for kind in KINDS:
            single[kind] += bench.start(kind, [f"{kind}-{number}"])
        say(f"pod {number + 1} of {pods}: " + ", ".join(f"{kind} {single[kind][-1]:.2f}" for kind in KINDS) + " s")
    figures = {}
    for kind in KINDS:
        figures[kind] = {"p50": percentile(single[kind], 0.5), "p95": percentile(single[kind], 0.95)}
        if at_once:
            figures[kind]["at_once"] = max(bench.start(kind, [f"{kind}-at-once-{n}" for n in range(at_once)]))
            say(f"{at_once} at once, {kind}: the last after {figures[kind]['at_once']:.1f} s")
    return figures


def report(figures: dict[str, dict[str, float]], at_once: int) -> None:
    floor = figures["floor"]
    say(f"pod create -> start of the application, seconds; floor: an idle native sidecar; goals beside it; {at_once} at once")
    for kind, row in figures.items():
        line = f"{kind:6} p50 {row['p50']:.2f} p95 {row['p95']:.2f}"
        if at_once:
            line += f" at once {row['at_once']:.1f}"
        if kind in GOALS:
            seconds, times = GOALS[kind]
            over = row["p50"] - floor["p50"]
            line += f"; floor + {over:.2f} s (goal {seconds}: {met(over <= seconds)})"
            if at_once:
                ratio = row["at_once"] / floor["at_once"]
                line += f"; {ratio:.2f} x floor (goal {times}: {met(ratio <= times)})"
        say(line)


def met(is_met: bool) -> str:
    return "met" if is_met else "NOT MET"


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("namespace")
    parser.add_argument("image")
    parser.add_argument("--pods", type=int, default=10)
    parser.add_argument("--at-once", type=int, default=50, help="0: none")
    parser.add_argument("--json", action="store_true", help="the figures on standard output")
    given = parser.parse_args()
    figures = measure(Bench(given.namespace, given.image), given.pods, given.at_once)
    report(figures, given.at_once)
    if given.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
