"""The published Python SDK: delegation, hop by hop."""

from __future__ import annotations

import httpx
import pytest
from agentwrit import AuthorizationError, ProblemResponseError

from harness import claims_of

WIDE = ["read:data:*", "write:data:report"]


@pytest.fixture
def agents(app):
    """Creates agents: agents("lead", scope) ..."""
    return lambda task, scope=WIDE: app.create_agent("pipeline", task, list(scope))


def hop(app, token: str, to: str, scope: list[str], **fields) -> httpx.Response:
    """Delegation by a delegated token, for which the SDK has no method: its users post it themselves."""
    body = {"delegate_to": to, "scope": scope, **fields}
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.post(app.broker_url + "/v1/delegate", json=body, headers=headers, trust_env=False)


def test_a_narrower_scope_is_delegated(app, agents):
    lead, helper = agents("lead"), agents("helper")
    delegated = lead.delegate(helper.agent_id, ["read:data:partition-7"])
    assert delegated.expires_in == 60, "the broker's default"
    claims = app.validate(delegated.access_token).claims
    assert (claims.sub, claims.scope) == (helper.agent_id, ["read:data:partition-7"])
    assert (claims.task_id, claims.orch_id) == ("lead", "pipeline"), "the work is the delegator's"
    record = delegated.delegation_chain[0]
    assert (record.agent, record.scope) == (lead.agent_id, WIDE)
    assert claims.delegation_chain == delegated.delegation_chain and len(claims.chain_hash) == 64


def test_an_equal_scope_is_delegated_in_its_order(app, agents):
    scope = ["write:data:report", "read:data:*"]
    lead, helper = agents("lead", scope), agents("helper")
    delegated = lead.delegate(helper.agent_id, scope, ttl=30)
    assert delegated.expires_in == 30
    assert app.validate(delegated.access_token).claims.scope == scope


def test_an_agent_may_delegate_to_itself(app, agents):
    lead = agents("lead")
    delegated = lead.delegate(lead.agent_id, ["read:data:x"])
    assert app.validate(delegated.access_token).claims.sub == lead.agent_id


def test_five_hops_and_no_sixth(app, agents):
    chain = [agents(f"hop-{number}") for number in range(7)]
    token = chain[0].delegate(chain[1].agent_id, WIDE).access_token
    for length in range(2, 6):
        answer = hop(app, token, chain[length].agent_id, WIDE)
        assert answer.status_code == 200, answer.text
        token = answer.json()["access_token"]
        claims = app.validate(token).claims
        assert [record.agent for record in claims.delegation_chain] == [agent.agent_id for agent in chain[:length]]
    sixth = hop(app, token, chain[6].agent_id, WIDE)
    assert sixth.status_code == 403
    assert (sixth.json()["error_code"], sixth.json()["detail"]) == ("scope_violation", "delegation depth limit exceeded")


def test_each_hop_can_only_narrow(app, agents):
    lead, middle, last = agents("lead"), agents("middle"), agents("last")
    delegated = lead.delegate(middle.agent_id, ["read:data:a"])
    wider = hop(app, delegated.access_token, last.agent_id, ["read:data:*"])
    assert wider.status_code == 403 and wider.json()["error_code"] == "scope_violation"
    assert hop(app, delegated.access_token, last.agent_id, ["read:data:a"]).status_code == 200


def test_a_wider_scope_is_refused_with_a_whole_problem(agents):
    lead, helper = agents("lead", ["read:data:x"]), agents("helper")
    with pytest.raises(AuthorizationError) as raised:
        lead.delegate(helper.agent_id, ["read:data:x", "write:data:report"])
    problem = raised.value.problem
    assert raised.value.status_code == 403 == problem.status
    assert problem.type == "urn:agentwrit:error:scope_violation" and problem.title == "Forbidden"
    assert (problem.error_code, problem.instance) == ("scope_violation", "/v1/delegate")
    assert problem.detail == "delegated scope exceeds delegator scope" and problem.request_id


def test_an_unknown_delegate_is_not_found(agents):
    lead = agents("lead")
    with pytest.raises(ProblemResponseError) as raised:
        lead.delegate("spiffe://agentwrit.local/agent/pipeline/nobody/0123456789abcdef", ["read:data:x"])
    assert raised.value.status_code == 404 and raised.value.problem.error_code == "not_found"


def test_a_delegation_without_scope_is_a_bad_request(agents):
    lead, helper = agents("lead"), agents("helper")
    for to, scope in ((helper.agent_id, []), ("", ["read:data:x"])):
        with pytest.raises(ProblemResponseError) as raised:
            lead.delegate(to, scope)
        assert raised.value.status_code == 400 and raised.value.problem.error_code == "invalid_request"


@pytest.mark.parametrize("end", ["release", "token", "agent"])
def test_a_delegated_token_dies_with_its_delegator(app, agents, shared_broker, end):
    lead, middle, last = agents("lead"), agents("middle"), agents("last")
    first = lead.delegate(middle.agent_id, ["read:data:a"]).access_token
    second = hop(app, first, last.agent_id, ["read:data:a"]).json()["access_token"]
    if end == "release":
        lead.release()
    else:
        target = claims_of(lead.access_token)["jti" if end == "token" else "sub"]
        shared_broker.post("/v1/revoke", {"level": end, "target": target}, token=shared_broker.admin_token())
    for token in (first, second):
        assert not app.validate(token).valid
        answer = hop(app, token, last.agent_id, ["read:data:a"])
        assert (answer.status_code, answer.json()["detail"]) == (403, "token has been revoked")
    assert app.validate(middle.access_token).valid and app.validate(last.access_token).valid, "their own tokens stand"


def test_a_chain_revocation_ends_what_grew_from_its_root(app, agents, shared_broker):
    lead, middle, last = agents("lead"), agents("middle"), agents("last")
    first = lead.delegate(middle.agent_id, ["read:data:a"]).access_token
    second = hop(app, first, last.agent_id, ["read:data:a"]).json()["access_token"]
    elsewhere = middle.delegate(last.agent_id, ["read:data:a"]).access_token
    shared_broker.post("/v1/revoke", {"level": "chain", "target": lead.agent_id}, token=shared_broker.admin_token())
    assert not app.validate(first).valid and not app.validate(second).valid
    assert app.validate(elsewhere).valid


def test_renewing_the_delegator_leaves_its_delegations_alive(app, agents):
    lead, helper = agents("lead"), agents("helper")
    delegated = lead.delegate(helper.agent_id, ["read:data:a"])
    lead.renew()
    assert app.validate(delegated.access_token).valid


def test_a_delegated_token_never_outlives_its_delegator(app, agents):
    lead, helper = app.create_agent("pipeline", "short", ["read:data:a"], max_ttl=30), agents("helper")
    delegated = lead.delegate(helper.agent_id, ["read:data:a"], ttl=3600)
    assert claims_of(delegated.access_token)["exp"] <= claims_of(lead.access_token)["exp"]
    assert delegated.expires_in <= 30


def test_releasing_a_delegated_token_ends_only_that(app, agents):
    lead, helper = agents("lead"), agents("helper")
    one, other = (lead.delegate(helper.agent_id, ["read:data:a"]).access_token for _ in range(2))
    headers = {"Authorization": f"Bearer {one}"}
    assert httpx.post(app.broker_url + "/v1/token/release", headers=headers, trust_env=False).status_code == 204
    assert not app.validate(one).valid
    assert app.validate(other).valid and app.validate(lead.access_token).valid
