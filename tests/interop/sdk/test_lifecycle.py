"""The published Python SDK: an agent's life from registration to release."""

from __future__ import annotations

import re

import agentwrit
import httpx
import pytest
from agentwrit import AgentWritError, AuthorizationError, scope_is_subset
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness import claims_of, until

DEAD = "token is invalid or expired"


def test_an_agent_is_created_with_identity_scope_and_life(app, shared_broker):
    scope = ["write:data:b", "read:data:a"]
    agent = app.create_agent("my-service", "read-data", scope)
    assert re.fullmatch(r"spiffe://agentwrit\.local/agent/my-service/read-data/[0-9a-f]{16}", agent.agent_id)
    assert (agent.scope, agent.task_id, agent.orch_id, agent.expires_in) == (scope, "read-data", "my-service", 300)
    assert agent.bearer_header == {"Authorization": f"Bearer {agent.access_token}"}
    event = shared_broker.events(event_type="agent_registered", agent_id=agent.agent_id)[0]
    assert app.app_id in event["detail"], "the trail says whose agent it is"


def test_the_claims_come_through_validation_whole(app):
    agent = app.create_agent("orch", "task", ["read:data:x", "read:orders:o-7"], max_ttl=120)
    result = app.validate(agent.access_token)
    assert (result.valid, result.error) == (True, None)
    claims = claims_of(agent.access_token)
    for name in ("iss", "sub", "exp", "nbf", "iat", "jti", "scope", "task_id", "orch_id", "sid"):
        assert getattr(result.claims, name) == claims[name], name
    assert result.claims.sub == agent.agent_id
    assert result.claims.exp - result.claims.iat == 120 == agent.expires_in
    assert not result.claims.delegation_chain and result.claims.chain_hash is None
    assert agentwrit.validate(app.broker_url, agent.access_token) == result


@pytest.mark.parametrize("token", ["rubbish", "a.b.c", "{}.{}.{}"])
def test_what_is_no_token_is_invalid_and_no_error(app, token):
    result = app.validate(token)
    assert (result.valid, result.claims, result.error) == (False, None, DEAD)


def test_a_key_of_ones_own_may_register_many_times(app):
    key = Ed25519PrivateKey.generate()
    first, second = (app.create_agent("orch", "task", ["read:data:x"], private_key=key) for _ in range(2))
    assert first.agent_id != second.agent_id
    assert app.validate(first.access_token).valid and app.validate(second.access_token).valid


def test_a_label_names_the_agent_in_the_trail(app, shared_broker):
    app.create_agent("orch", "task", ["read:data:x"], label="night-shift")
    assert any("night-shift" in event["detail"] for event in shared_broker.events(event_type="launch_token_issued"))


def test_renewal_keeps_the_agent_and_ends_the_old_token(app):
    agent = app.create_agent("orch", "task", ["read:data:x"])
    before, old, old_claims = agent.agent_id, agent.access_token, claims_of(agent.access_token)
    agent.renew()
    assert agent.agent_id == before and agent.access_token != old and agent.expires_in == 300
    assert (app.validate(old).valid, app.validate(old).error) == (False, DEAD)
    claims = claims_of(agent.access_token)
    assert app.validate(agent.access_token).valid
    changed = {name for name in claims if claims[name] != old_claims[name]}
    assert "jti" in changed and changed <= {"jti", "iat", "nbf", "exp"}


def test_a_released_token_is_dead_and_may_be_released_again(app):
    agent = app.create_agent("orch", "task", ["read:data:x"])
    token = agent.access_token
    assert agent.release() is None
    assert (app.validate(token).valid, app.validate(token).error) == (False, DEAD)
    agent.release()
    answer = httpx.post(app.broker_url + "/v1/token/renew", headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    assert (answer.status_code, answer.json()["detail"]) == (403, "token has been revoked")


def test_an_agent_that_released_can_not_go_on(app):
    agent = app.create_agent("orch", "task", ["read:data:x"])
    agent.release()
    with pytest.raises(AgentWritError):
        agent.renew()
    with pytest.raises(AgentWritError):
        agent.delegate(agent.agent_id, ["read:data:x"])


def test_releasing_one_agent_leaves_its_sisters_alone(app):
    one, other = (app.create_agent("orch", "task", ["read:data:x"]) for _ in range(2))
    one.release()
    assert app.validate(other.access_token).valid


@pytest.mark.real_time("only the broker's own clock ends a token; the SDK's users rely on five seconds being five seconds")
def test_a_token_of_five_seconds_is_dead_after_at_most_seven(app):
    agent = app.create_agent("orch", "task", ["read:data:x"], max_ttl=5)
    assert agent.expires_in == 5 and app.validate(agent.access_token).valid
    result = until(lambda: (answer := app.validate(agent.access_token)) and not answer.valid and answer, 7)
    assert result.error == DEAD


def test_health_has_all_five_fields(app, shared_broker):
    before = app.health()
    assert (before.status, before.version, before.db_connected) == ("ok", "2.0.0", True)
    app.create_agent("orch", "task", ["read:data:x"])
    after = app.health()
    assert after.audit_events_count >= before.audit_events_count + 3 and after.uptime >= before.uptime
    until(lambda: app.health().uptime > 0, 3)


@pytest.mark.parametrize(
    "requested, allowed",
    [
        (["read:data:x"], ["read:data:*"]),
        (["read:data:*"], ["read:data:*"]),
        (["read:data:*"], ["read:data:x"]),
        (["write:data:x"], ["read:data:*"]),
        (["read:data:x", "write:data:x"], ["read:data:*"]),
        (["read:data:xyz"], ["read:data:x*"]),
    ],
)
def test_sdk_and_broker_agree_on_what_covers_what(shared_broker, requested, allowed):
    body = shared_broker.registration(launch_token=shared_broker.launch_token(allowed), requested_scope=requested)
    answer = shared_broker.post("/v1/register", body)
    assert answer.status_code == (200 if scope_is_subset(requested, allowed) else 403)


def test_an_app_logs_in_once_for_many_agents(app_of, shared_broker):
    app = app_of(shared_broker)
    for _ in range(5):
        app.create_agent("orch", "task", ["read:data:x"])
    logins = [event for event in shared_broker.events(event_type="app_authenticated") if app.app_id in str(event)]
    assert len(logins) == 1


def test_an_app_outlives_a_restart_of_the_broker(broker, app_of):
    app = app_of(broker)
    agent = app.create_agent("orch", "task", ["read:data:x"])
    port = broker.url.rsplit(":", 1)[1]
    broker.restart(AA_PORT=port)
    assert app.validate(agent.access_token).valid
    agent.renew()
    assert app.validate(app.create_agent("orch", "task", ["read:data:x"]).access_token).valid


def test_revocation_by_an_admin_reaches_the_agent(app, shared_broker):
    agent = app.create_agent("orch", "doomed", ["read:data:x"])
    shared_broker.post("/v1/revoke", {"level": "agent", "target": agent.agent_id}, token=shared_broker.admin_token())
    assert not app.validate(agent.access_token).valid
    with pytest.raises(AuthorizationError) as raised:
        agent.renew()
    assert raised.value.problem.detail == "token has been revoked"
