"""The settings that attacks name: a program, how it is set up, and who else uses it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from .world import roles
from .world.broker import SLOW_REVIEW_SECONDS, broker
from .world.controller import controller
from .world.everybody import Roles
from .world.setting import Options, Setting
from .world.sidecar import sidecar


@dataclass(frozen=True)
class Kind:
    """One setting."""

    program: str
    runs: Callable[[Options], AbstractContextManager[Setting]]
    roles: Roles


KINDS = {
    "broker": Kind("broker", broker, roles.of_broker),
    "broker-tls": Kind("broker", partial(broker, tls=True), roles.of_broker),
    "broker-slow-reviews": Kind(
        "broker", partial(broker, review_seconds=SLOW_REVIEW_SECONDS), roles.of_broker_and_a_pod
    ),
    "broker-restarted": Kind("broker", partial(broker, restarted=True), roles.of_broker_and_late_logins),
    "broker-and-a-new-app": Kind("broker", partial(broker, restarted=True), roles.of_broker_and_a_new_app),
    "sidecar": Kind("sidecar", sidecar, roles.of_sidecar),
    "controller": Kind("controller", controller, roles.of_controller),
}
