"""Each symptom of a running broker that the troubleshooting guide tells operators about."""

from __future__ import annotations

import time

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from harness import Broker, assert_problem, claims_of, header_of, until

# -- /v1/admin/auth ---------------------------------------------------------------------------------------------


def test_a_wrong_admin_secret(broker):
    for secret in ("a-wrong-but-long-enough-secret", "short", broker.secret + "x", broker.secret[:-1], broker.secret.upper()):
        assert_problem(broker.post("/v1/admin/auth", {"secret": secret}), 401, "unauthorized", "invalid credentials")


def test_a_well_known_admin_secret(broker):
    answer = broker.post("/v1/admin/auth", {"secret": "change-me-in-production"})
    assert_problem(answer, 401, "unauthorized", "admin secret does not meet security requirements")


def test_more_logins_than_the_rate_allows(broker):
    body = {"secret": broker.secret}
    answers = [broker.post("/v1/admin/auth", body) for _ in range(11)]
    assert [answer.status_code for answer in answers[:10]] == [200] * 10
    limited = until(lambda: (answer := broker.post("/v1/admin/auth", body)).status_code == 429 and answer, 5)
    assert_problem(limited, 429, "rate_limited", "rate limit exceeded, try again later")
    assert limited.headers["Retry-After"] == "1"
    # The guide's advice, trying again, works; a token that is there goes on working meanwhile.
    assert broker.get("/v1/audit/events", token=answers[0].json()["access_token"]).status_code == 200
    assert until(lambda: broker.post("/v1/admin/auth", body).status_code == 200, 5)


# -- the ceiling of lives -----------------------------------------------------------------------------------------


def test_a_life_above_the_ceiling_is_cut(broker_factory):
    broker = broker_factory(env={"AA_MAX_TTL": "120"})
    agent = broker.agent(max_ttl=7200)
    assert agent.expires_in == 120 == agent.claims["exp"] - agent.claims["iat"]
    assert broker.post("/v1/token/renew", token=agent.token).json()["expires_in"] == 120
    assert broker.agent(requested_ttl=60).expires_in == 60
    assert broker.post("/v1/admin/auth", {"secret": broker.secret}).json()["expires_in"] == 120


@pytest.mark.parametrize("ceiling, asked, given", [("604800", 604800, 604800), ("0", 31536000, 31536000), (None, 604800, 86400)])
def test_the_ceiling_can_be_raised_and_taken_away(broker_factory, ceiling, asked, given):
    broker = broker_factory(env={"AA_MAX_TTL": ceiling})
    agent = broker.agent(max_ttl=asked)
    assert agent.expires_in == given == agent.claims["exp"] - agent.claims["iat"]


# -- metrics ---------------------------------------------------------------------------------------------------


def samples(broker: Broker) -> dict[str, float]:
    """Name with labels → value."""
    text = broker.get("/v1/metrics").text
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if not line.startswith("#")}


def types(broker: Broker) -> dict[str, str]:
    lines = broker.get("/v1/metrics").text.splitlines()
    return {line.split()[2]: line.split()[3] for line in lines if line.startswith("# TYPE ")}


def from_the_future(broker: Broker, token: str) -> str:
    """The token with a nbf that the broker's clock has not reached, as a broker whose clock is ahead would sign it."""
    key = load_pem_private_key((broker.folder / "signing.key").read_bytes(), None)
    claims = {**claims_of(token), "nbf": int(time.time()) + 600, "exp": int(time.time()) + 1200}
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": header_of(token)["kid"]})


def test_the_metrics_of_the_guide_are_there_and_move(broker):
    assert broker.get("/v1/metrics").headers["Content-Type"].startswith("text/plain; version=0.0.4; charset=utf-8")
    agent, released = broker.agent(["read:data:*"]), broker.agent()
    admin = broker.admin_token()
    assert broker.post("/v1/token/renew", token=from_the_future(broker, agent.token)).status_code == 401
    broker.post("/v1/register", {**broker.registration(), "launch_token": "no such token"})
    broker.post("/v1/admin/auth", {"secret": "a-wrong-but-long-enough-secret"})
    broker.post("/v1/token/release", token=released.token)
    for level, target in (("token", agent.jti), ("agent", agent.agent_id), ("task", "task"), ("chain", agent.agent_id)):
        broker.post("/v1/revoke", {"level": level, "target": target}, token=admin)
    now = samples(broker)
    wanted = {
        'agentwrit_tokens_issued_total{scope="read:data:*"}': 2,
        'agentwrit_tokens_issued_total{scope="admin:launch-tokens:*"}': 1,
        **{f'agentwrit_tokens_revoked_total{{level="{level}"}}': 1 for level in ("token", "agent", "task", "chain")},
        'agentwrit_registrations_total{status="success"}': 2,
        'agentwrit_registrations_total{status="failure"}': 1,
        'agentwrit_admin_auth_total{status="success"}': 1,
        'agentwrit_admin_auth_total{status="failure"}': 1,
        "agentwrit_launch_tokens_created_total": 3,
        "agentwrit_clock_skew_total": 1,
        'agentwrit_audit_events_total{event_type="agent_registered"}': 2,
        'agentwrit_audit_events_total{event_type="token_revoked"}': 4,
        "agentwrit_audit_events_loaded": 0,
    }
    assert {name: now.get(name) for name in wanted} == wanted
    assert now['agentwrit_request_duration_seconds_count{endpoint="token_issue"}'] == 3
    assert now["agentwrit_audit_write_duration_seconds_count"] > 0
    counters = [
        "tokens_issued",
        "tokens_revoked",
        "registrations",
        "admin_auth",
        "launch_tokens_created",
        "clock_skew",
        "audit_events",
    ]
    kinds = {f"agentwrit_{name}_total": "counter" for name in counters}
    kinds |= {"agentwrit_active_agents": "gauge", "agentwrit_audit_events_loaded": "gauge"}
    kinds |= {f"agentwrit_{name}_duration_seconds": "histogram" for name in ("request", "audit_write")}
    assert {name: types(broker).get(name) for name in kinds} == kinds
    broker.restart()
    assert samples(broker)["agentwrit_audit_events_loaded"] > 0


def test_active_agents_follow_registrations_and_ends(broker):
    first, second = broker.agent(), broker.agent()
    assert until(lambda: samples(broker)["agentwrit_active_agents"] == 2)
    broker.post("/v1/token/release", token=first.token)
    broker.post("/v1/revoke", {"level": "agent", "target": second.agent_id}, token=broker.admin_token())
    assert until(lambda: samples(broker)["agentwrit_active_agents"] == 0, 20)


def test_a_store_that_does_not_open_is_counted(broker_factory, tmp_path):
    (tmp_path / "file").write_text("")
    broker = broker_factory(env={"AA_DB_PATH": str(tmp_path / "file" / "data.db")})
    assert samples(broker)['agentwrit_db_errors_total{operation="open"}'] == 1
    assert types(broker)["agentwrit_db_errors_total"] == "counter"
