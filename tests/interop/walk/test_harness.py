"""The harness itself: a broker starts, serves and ends in good order."""


def test_a_broker_starts_serves_and_ends_with_zero(broker):
    agent = broker.agent(["read:data:x"])
    assert broker.validate(agent.token)["claims"]["sub"] == agent.agent_id
    ended = broker.stop()
    assert "Shutting down gracefully (signal: terminated)" in ended.stdout


def test_a_restart_keeps_key_and_store(broker):
    agent = broker.agent()
    broker.restart()
    assert broker.validate(agent.token)["valid"]


def test_a_refused_start_is_seen(refused):
    ended = refused({"AA_PORT": "x"})
    assert ended.code == 1 and ended.stderr.startswith("FATAL: "), ended
