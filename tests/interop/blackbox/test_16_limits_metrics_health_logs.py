"""docs/wire-contract.md §16: rate limits, metrics, health and logs."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from blackbox.driver import Broker, Start, fresh_source, unique
from blackbox.wire import Client, expect, ok
from harness import until
from stores import STORE

BAD = b"{"


def burst(caller: Client, count: int, path: str = "/v1/admin/auth", **headers: str) -> list[int]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return [caller.post(path, raw=BAD, headers=sent).status for _ in range(count)]


# -- 16.1 rate limits ----------------------------------------------------------------------------------------------


@pytest.mark.real_time("the bucket refills by the second")
def test_the_bucket_of_admin_logins_refills_at_five_a_second(broker: Broker) -> None:
    caller = broker.elsewhere()
    begin = time.monotonic()
    statuses = burst(caller, 15)
    spent = time.monotonic() - begin
    passed = statuses.count(400)
    assert statuses[:10] == [400] * 10
    assert 10 <= passed <= 11 + 5 * spent
    time.sleep(1.02)
    statuses = burst(caller, 9)
    assert 5 <= statuses.count(400) <= 7 + 5 * spent
    assert 429 in statuses


def test_the_rightmost_untrusted_hop_counts(start: Start) -> None:
    """§20.1 W6."""
    broker = start(AA_TRUSTED_PROXIES="127.0.0.0/8, 10.0.0.0/8,::1/128")
    caller = Client(broker.address, fresh_source())
    assert 429 in burst(caller, 14, X_Forwarded_For="203.0.113.1")
    assert 429 not in burst(caller, 5, X_Forwarded_For="203.0.113.2"), "another client behind the same proxy"
    # What stands left of the hop is the client's own invention; trusted hops to its right are skipped.
    assert burst(caller, 1, X_Forwarded_For="198.51.100.7, 203.0.113.1") == [429]
    assert burst(caller, 1, X_Forwarded_For="203.0.113.1, 10.1.2.3, 127.0.0.1") == [429]
    assert burst(caller, 1, X_Forwarded_For="  203.0.113.1  ,10.1.2.3") == [429]
    assert burst(caller, 1, X_Forwarded_For="203.0.113.1, 203.0.113.3") == [400]


def test_forwarded_headers_of_strangers_are_ignored(start: Start) -> None:
    broker = start(AA_TRUSTED_PROXIES="10.0.0.0/8")
    caller = Client(broker.address, fresh_source())
    statuses = [burst(caller, 1, X_Forwarded_For=f"203.0.113.{number}")[0] for number in range(14)]
    assert 429 in statuses


@pytest.mark.parametrize(("setting", "method", "path"), [("AA_CHALLENGE_RATE", "GET", "/v1/challenge"), ("AA_REGISTER_RATE", "POST", "/v1/register")])
def test_challenges_and_registrations_have_generous_limits(start: Start, setting: str, method: str, path: str) -> None:
    """§20.1 W11: per address and second, a burst twice that, 0 = off."""
    broker = start(**{setting: "3"})
    caller = broker.elsewhere()
    replies = [caller.call(method, path, raw=BAD) for _ in range(12)]
    statuses = [reply.status for reply in replies]
    assert 429 not in statuses[:6]
    assert 429 in statuses
    limited = next(reply for reply in replies if reply.status == 429)
    expect(limited, 429, "rate_limited", "rate limit exceeded, try again later")
    assert int(limited.header("Retry-After") or 0) >= 1
    assert broker.elsewhere().call(method, path, raw=BAD).status != 429
    off = start(**{setting: "0"})
    caller = off.elsewhere()
    assert 429 not in [caller.call(method, path, raw=BAD).status for _ in range(40)]


def test_nothing_else_is_limited(broker: Broker) -> None:
    caller = broker.elsewhere()
    for method, path in (("POST", "/v1/token/validate"), ("POST", "/v1/revoke"), ("GET", "/v1/health"), ("GET", "/v1/metrics")):
        assert 429 not in [caller.call(method, path, raw=BAD).status for _ in range(40)]


# -- 16.2 metrics ------------------------------------------------------------------------------------------------------

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
FAMILIES = {
    "tokens_issued_total": "counter",
    "tokens_revoked_total": "counter",
    "registrations_total": "counter",
    "admin_auth_total": "counter",
    "launch_tokens_created_total": "counter",
    "active_agents": "gauge",
    "request_duration_seconds": "histogram",
    "clock_skew_total": "counter",
    "audit_events_total": "counter",
    "audit_write_duration_seconds": "histogram",
    "audit_events_loaded": "gauge",
}


def exposition(broker: Broker) -> str:
    reply = broker.get("/v1/metrics")
    assert reply.status == 200
    return reply.body.decode()


@pytest.mark.parametrize("accept", [None, "application/openmetrics-text; version=1.0.0", "application/json", "*/*", "text/html"])
def test_metrics_are_prometheus_text_whatever_is_asked(broker: Broker, accept: str | None) -> None:
    reply = broker.get("/v1/metrics", headers={"Accept": accept} if accept else {})
    assert reply.status == 200
    assert reply.header("Content-Type") == CONTENT_TYPE
    assert reply.body.endswith(b"\n") and b"# EOF" not in reply.body


def test_every_family_is_there_with_its_type_and_help(broker: Broker) -> None:
    broker.renewed(broker.agent().token)
    broker.revoke("token", "x")
    broker.login("wrong-but-long-enough")
    text = exposition(broker)
    types = dict(re.findall(r"^# TYPE agentwrit_(\w+) (\w+)$", text, re.MULTILINE))
    assert {name: types.get(name) for name in FAMILIES} == FAMILIES
    for name in FAMILIES:
        assert f"# HELP agentwrit_{name} " in text
    assert "process_resident_memory_bytes" in text and "process_open_fds" in text


def test_every_sample_is_well_formed(broker: Broker) -> None:
    text = exposition(broker)
    sample = re.compile(r'[a-zA-Z_:][\w:]*(\{(\w+="([^"\\\n]|\\[\\"n])*",?)*\})? [^ ]+')
    for line in text.split("\n")[:-1]:
        assert line.startswith("# ") or sample.fullmatch(line), line


def test_labelled_series_show_after_their_first_use_only(start: Start) -> None:
    text = exposition(start())
    assert "agentwrit_admin_auth_total{" not in text
    assert "agentwrit_tokens_revoked_total{" not in text
    assert "agentwrit_clock_skew_total 0" in text
    assert "agentwrit_active_agents 0" in text
    assert "agentwrit_launch_tokens_created_total 0" in text


def test_scope_labels_are_escaped(broker: Broker) -> None:
    scope = 'label:a\\b"c\nd\u2028e:x'
    broker.agent([scope])
    line = 'agentwrit_tokens_issued_total{scope="label:a\\\\b\\"c\\nd\u2028e:x"} 1'
    # The shared broker may have met its hundred labels already; a label of its own or `other`.
    text = exposition(broker)
    assert line in text.split("\n") or 'agentwrit_tokens_issued_total{scope="other"}' in text


def test_a_scope_label_is_written_as_prometheus_reads_it(start: Start) -> None:
    broker = start()
    broker.agent(['label:a\\b"c\nd\u2028e:x', "second:is:ignored"])
    assert 'agentwrit_tokens_issued_total{scope="label:a\\\\b\\"c\\nd\u2028e:x"} 1' in exposition(broker).split("\n")
    assert "second:is:ignored" not in exposition(broker)


def test_after_a_hundred_scope_labels_the_rest_is_other(start: Start) -> None:
    """§20.1 W30."""
    broker = start()
    scopes = [f"label:n:{number}" for number in range(105)]
    launch = broker.launch_token(scopes, single_use=False)
    for scope in scopes:
        ok(broker.register(launch, requested_scope=[scope]))
    labels = re.findall(r'agentwrit_tokens_issued_total\{scope="([^"]*)"\} (\d+)', exposition(broker))
    # The admin's own label is one of the hundred.
    assert len(labels) == 101
    assert ("other", "6") in labels


BUCKETS = {
    "request_duration_seconds": [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    "audit_write_duration_seconds": [0.001, 0.005, 0.01, 0.025, 0.05, 0.1],
}


@pytest.mark.parametrize("family", BUCKETS)
def test_histograms_have_their_buckets_and_move(broker: Broker, family: str) -> None:
    moved = broker.moved(lambda: broker.agent())
    counts = {name: value for name, value in moved.items() if name.startswith(family + "_count")}
    assert sum(counts.values()) >= 1, moved
    bounds = re.findall(rf'agentwrit_{family}_bucket\{{(?:endpoint="token_issue",)?le="([^"]+)"\}}', exposition(broker))
    assert [float(bound) for bound in dict.fromkeys(bounds)] == [*BUCKETS[family], float("inf")]


def test_issuing_is_the_endpoint_token_issue(broker: Broker) -> None:
    moved = broker.moved(lambda: broker.agent())
    assert moved['request_duration_seconds_count{endpoint="token_issue"}'] >= 1


def test_a_token_from_the_future_counts_as_clock_skew(broker: Broker) -> None:
    token = broker.forge.token(nbf=int(time.time()) + 60)
    assert broker.moved(lambda: broker.post("/v1/token/renew", token=token))["clock_skew_total"] >= 1
    assert "clock_skew_total" not in broker.moved(lambda: broker.post("/v1/token/renew", token="x"))


def test_the_gauge_of_agents_is_recomputed(start: Start) -> None:
    """§20.1 W30: it knows after a restart, too."""
    broker = start()
    agents = [broker.agent() for _ in range(3)]
    until(lambda: broker.metrics()["agentwrit_active_agents"] == 3)
    broker.restart()
    until(lambda: broker.metrics()["agentwrit_active_agents"] == 3)
    assert len(agents) == 3


def test_loaded_events_are_counted_once_at_start(start: Start) -> None:
    broker = start()
    assert broker.metrics()["agentwrit_audit_events_loaded"] == 0
    broker.agent()
    total = broker.count()
    assert broker.metrics()["agentwrit_audit_events_loaded"] == 0
    broker.restart()
    loaded = broker.metrics()["agentwrit_audit_events_loaded"]
    assert loaded >= total
    broker.agent()
    assert broker.metrics()["agentwrit_audit_events_loaded"] == loaded


def test_the_metrics_of_the_api_can_be_switched_off(start: Start) -> None:
    """§20.1 W34."""
    expect(start(AA_API_METRICS="false").get("/v1/metrics"), 404, "not_found")
    assert start(AA_API_METRICS="true").get("/v1/metrics").status == 200


def test_metrics_never_hold_a_secret(broker: Broker) -> None:
    agent = broker.agent()
    text = exposition(broker)
    for secret in (agent.token, agent.claims["jti"], broker.admin):
        assert secret not in text


# -- 16.3 health ---------------------------------------------------------------------------------------------------------


def test_health(start: Start) -> None:
    broker = start()
    body = ok(broker.get("/v1/health"))
    assert list(body) == ["status", "version", "uptime", "db_connected", "audit_events_count"]
    assert body == {"status": "ok", "version": "2.0.0", "uptime": body["uptime"], "db_connected": True, "audit_events_count": 0}
    assert type(body["uptime"]) is int and 0 <= body["uptime"] < 30
    broker.agent()
    count = ok(broker.get("/v1/health"))["audit_events_count"]
    assert count == broker.count() == 4
    broker.restart()
    assert ok(broker.get("/v1/health"))["audit_events_count"] >= count


def test_uptime_counts_seconds(broker: Broker) -> None:
    first = ok(broker.get("/v1/health"))["uptime"]
    until(lambda: ok(broker.get("/v1/health"))["uptime"] > first)


def test_live_and_ready_are_on_the_api_listener(start: Start) -> None:
    """§20.1."""
    broker = start()
    assert broker.get("/livez").status == 200
    assert broker.get("/readyz").status == 200


# -- 16.4 logs -----------------------------------------------------------------------------------------------------------

LINE = re.compile(r"\[AA:(?P<module>[A-Z0-9_]+):(?P<level>OK|WARN|FAIL|TRACE)\] (?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) \| (?P<component>[^|]+) \| (?P<message>[^|]+?)(?: \| (?P<context>.+))?")
BANNER = re.compile(r"AgentWrit broker v2\.0\.0 listening on \S+")


def stdout(broker: Broker) -> list[str]:
    return broker.process.stdout.text.splitlines()


def logged(broker: Broker, request_id: str) -> list[str]:
    """The lines of a request; they may come a moment after its answer."""
    return until(lambda: [line for line in stdout(broker) if request_id in line])


def test_every_line_has_the_form(start: Start) -> None:
    broker = start()
    broker.agent()
    broker.post("/v1/revoke")
    broker.process.stop()
    for line in stdout(broker):
        assert LINE.fullmatch(line) or BANNER.fullmatch(line) or line.startswith("Shutting down gracefully"), line
    assert broker.process.stderr.text == ""


def test_start_up_is_logged(broker: Broker) -> None:
    lines = stdout(broker)
    starting = [line for line in lines if "starting broker" in line]
    assert len(starting) == 1
    assert re.search(r"addr=\S+, version=2\.0\.0", starting[0]), starting
    assert [line for line in lines if BANNER.fullmatch(line)]


def test_each_request_is_logged_with_its_id(broker: Broker) -> None:
    request_id = unique("log-me")
    broker.send("POST", "/v1/revoke?x=1", b"{}", {"X-Request-ID": request_id})
    (line,) = logged(broker, request_id)
    match = LINE.fullmatch(line)
    assert match, line
    assert match["level"] == "OK"
    told = f"{match['message']} {match['context']}"
    for part in ("POST", "/v1/revoke", "401", request_id):
        assert part in told, line
    assert re.search(r"latency\S*=?\s?\d", told), line


def test_a_path_cannot_forge_a_line(broker: Broker) -> None:
    request_id = unique("forge")
    broker.send("GET", "/v1/x%0A[AA:BROKER:FAIL]%20%7C%1b[31m", None, {"X-Request-ID": request_id})
    (line,) = logged(broker, request_id)
    assert "\x1b" not in line
    assert not [line for line in stdout(broker) if line.startswith("[AA:BROKER:FAIL]")]


def test_logs_never_hold_a_secret(start: Start) -> None:
    broker = start(AA_LOG_LEVEL="trace")
    launch = broker.launch_token()
    body = broker.registration(launch)
    agent = ok(broker.post("/v1/register", body))["access_token"]
    renewed = broker.renewed(agent)
    app = broker.app()
    broker.app_login(app)
    wrong = "a-wrong-secret-that-is-a-canary"
    broker.login(wrong)
    broker.get("/v1/health?access_token=" + renewed)
    broker.get("/v1/nowhere/", headers={"Cookie": "canary-in-a-cookie"})
    broker.process.stop()
    output = broker.process.stdout.text + broker.process.stderr.text
    for secret in (launch, agent, renewed, broker.admin, wrong, app.client_secret, body["signature"], "canary-in-a-cookie", broker.process.secret):
        assert secret not in output
        assert secret.rsplit(".", 1)[-1] not in output


@pytest.mark.parametrize(("level", "requests", "trace"), [("quiet", False, False), ("QUIET", False, False), ("standard", True, False), ("Verbose", True, False), ("trace", True, True), ("nonsense", True, False), ("", True, False)])
def test_levels(start: Start, level: str, requests: bool, trace: bool) -> None:
    broker = start(AA_LOG_LEVEL=level)
    broker.send("POST", "/v1/revoke", b"{}", {"X-Request-ID": "the-id"})
    broker.agent()
    broker.process.stop()
    levels = {match["level"] for match in map(LINE.fullmatch, stdout(broker)) if match}
    assert ("OK" in levels) == requests
    assert any("the-id" in line for line in stdout(broker)) == requests
    assert ("TRACE" in levels) == trace
    assert any(BANNER.fullmatch(line) for line in stdout(broker))


def test_failures_go_to_stderr_also_when_quiet(start: Start, tmp_path: Any) -> None:
    broker = start(AA_DB_PATH=str(tmp_path / "missing" / "data.db"), AA_LOG_LEVEL="quiet")
    broker.process.stop()
    fails = [match for match in map(LINE.fullmatch, broker.process.stderr.text.splitlines()) if match]
    assert [match["level"] for match in fails] == ["FAIL"] * len(fails) and fails
    assert "FAIL" not in broker.process.stdout.text


def warnings(broker: Broker) -> list[str]:
    return [line for line in stdout(broker) if ":WARN]" in line]


def test_warnings_at_start(start: Start) -> None:
    broker = start(AA_BIND_ADDRESS="0.0.0.0", AA_DEFAULT_TTL="600", AA_MAX_TTL="300")
    told = warnings(broker)
    (ttl,) = [line for line in told if "AA_DEFAULT_TTL exceeds AA_MAX_TTL" in line]
    assert "CFG" in ttl
    assert [line for line in told if "0.0.0.0" in line and "TLS" in line]
    # Who names a database is past development.
    assert bool([line for line in told if "development" in line.lower()]) == (STORE.name == "sqlite")
    assert not [line for line in warnings(start()) if "AA_DEFAULT_TTL" in line or "0.0.0.0" in line]


def test_json_lines_are_a_choice(start: Start) -> None:
    broker = start(AA_LOG_FORMAT="json")
    broker.send("POST", "/v1/revoke", b"{}", {"X-Request-ID": "json-id"})
    broker.process.stop()
    lines = [line for line in stdout(broker) if not BANNER.fullmatch(line) and not line.startswith("Shutting down")]
    assert lines
    assert any(json.loads(line).get("request_id") == "json-id" or "json-id" in line for line in lines)
