"""The published Python SDK: what the broker refuses reaches the user as the right exception."""

from __future__ import annotations

import pytest
from agentwrit import (
    AgentWritApp,
    AuthenticationError,
    AuthorizationError,
    ProblemResponseError,
    RateLimitError,
    TransportError,
)


def stranger(broker, client_id: str, secret: str) -> AgentWritApp:
    return AgentWritApp(broker.url, client_id, secret)


@pytest.mark.parametrize("what", ["secret", "client id"])
def test_wrong_credentials_are_an_authentication_error(broker, what):
    owner = broker.app("wrong-credentials", ["read:data:*"])
    client_id, secret = (owner.client_id, "f" * 64) if what == "secret" else ("wc-0123456789ab", owner.client_secret)
    with pytest.raises(AuthenticationError) as raised:
        stranger(broker, client_id, secret).create_agent("orch", "task", ["read:data:x"])
    assert raised.value.status_code == 401
    assert (raised.value.problem.error_code, raised.value.problem.detail) == ("unauthorized", "Authentication failed")


def test_more_than_the_ceiling_is_an_authorization_error(broker, app_of):
    app = app_of(broker, ["read:data:*"])
    with pytest.raises(AuthorizationError) as raised:
        app.create_agent("orch", "task", ["write:data:x"])
    problem = raised.value.problem
    assert (raised.value.status_code, problem.error_code, problem.instance) == (403, "forbidden", "/v1/app/launch-tokens")
    assert "ceiling" in problem.detail and "read:data:*" in problem.detail
    assert broker.events(event_type="scope_ceiling_exceeded")[0]["agent_id"] == f"app:{app.app_id}"


def test_a_deregistered_app_is_refused_at_once(broker, app_of):
    app = app_of(broker)
    agent = app.create_agent("orch", "task", ["read:data:x"])
    assert broker.delete(f"/v1/admin/apps/{app.app_id}", token=broker.admin_token()).status_code == 200
    with pytest.raises(AuthorizationError) as raised:
        app.create_agent("orch", "task", ["read:data:x"])
    assert raised.value.status_code == 403
    assert app.validate(agent.access_token).valid, "agents that it made keep what they have"


def test_the_fourth_login_in_a_row_is_a_rate_limit_error(broker):
    owner = broker.app("impatient", ["read:data:*"])
    for _ in range(3):
        stranger(broker, owner.client_id, owner.client_secret).create_agent("orch", "task", ["read:data:x"])
    with pytest.raises(RateLimitError) as raised:
        stranger(broker, owner.client_id, owner.client_secret).create_agent("orch", "task", ["read:data:x"])
    assert (raised.value.status_code, raised.value.problem.error_code) == (429, "rate_limited")
    assert raised.value.problem.detail == "rate limit exceeded, try again later"


@pytest.mark.parametrize("orch, task", [("not a segment", "task"), ("orch", "a/b"), ("..", "task"), ("orch", "ä")])
def test_names_that_fit_no_spiffe_id_are_a_bad_request(broker, app_of, orch, task):
    app = app_of(broker)
    with pytest.raises(ProblemResponseError) as raised:
        app.create_agent(orch, task, ["read:data:x"])
    assert (raised.value.status_code, raised.value.problem.error_code) == (400, "invalid_request")
    assert ("orch_id" if task == "task" else "task_id") in raised.value.problem.detail


def test_an_empty_scope_list_is_a_bad_request(broker, app_of):
    with pytest.raises(ProblemResponseError) as raised:
        app_of(broker).create_agent("orch", "task", [])
    assert raised.value.status_code == 400 and raised.value.problem.request_id


def test_a_broker_that_is_away_is_a_transport_error(broker, app_of):
    app = app_of(broker)
    app.create_agent("orch", "task", ["read:data:x"])
    broker.stop()
    with pytest.raises(TransportError):
        app.health()
    with pytest.raises(TransportError):
        app.create_agent("orch", "task", ["read:data:x"])
