"""Runs one attack from one number of sources: program, honest clients, quiet time, attack, verdict."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace

from .attacks.registry import BYTES_ON_DISK, Attack
from .core import sources
from .core.program import NotStarted, try_once
from .core.swarm import attack_with
from .core.wire import request
from .settings import KINDS
from .verdict import Reason, Result, against, seen_by_role
from .world.everybody import AT_ONCE_SECONDS, Beside, Sample
from .world.setting import LIMITS, Options, Setting


@dataclass(frozen=True)
class Size:
    """How long, and which of an attack's two numbers of connections."""

    full: bool
    quiet_seconds: float
    seconds: float
    # Up to this p99, in seconds, no difference counts.
    always_allowed: float


# Programs that were built the quick way, on any machine, and a p99 that is nearly the worst of two seconds: whether
# anybody is locked out. How fast everybody else stays is shown by the full form, which takes the released programs.
SHORT = Size(False, 0.4, 2.0, AT_ONCE_SECONDS)
FULL = Size(True, 2.0, 15.0, 0.100)
# Others use the machine too.
_TRIES = 3


def run(attack: Attack, source_count: int, size: Size, options: Options, number: int) -> Result:
    """The result. One that a busy machine may have caused is tried again, and the last try counts."""
    result = _once(attack, source_count, size, options, f"{number:03}-{attack.name}")
    while result.is_worth_a_retry and result.tries < _TRIES:
        before, result = result, _once(attack, source_count, size, options, f"{number:03}-{attack.name}-{result.tries + 1}")
        result.tries = before.tries + 1
        result.seconds += before.seconds
    return result


def _once(attack: Attack, source_count: int, size: Size, options: Options, name: str) -> Result:
    """A program that can't be started has not held."""
    kind = KINDS[attack.setting]
    begin = time.monotonic()
    folder = options.folder / name
    folder.mkdir()
    result = Result(attack.name, source_count, attack.wants, limit_mib=LIMITS[kind.program])
    try:
        with kind.runs(replace(options, folder=folder)) as setting:
            result.limit_kind = setting.program.limit.kind
            _attack(attack, source_count, size, setting, result)
    except NotStarted as problem:
        result.reasons.append(Reason(str(problem)))
    except RuntimeError as problem:
        # The attack or the honest clients got no further: that says nothing of the program.
        result.reasons.append(Reason(str(problem), retry=True))
    result.seconds = time.monotonic() - begin
    if result.held:
        shutil.rmtree(folder)
    return result


def _attack(attack: Attack, source_count: int, size: Size, setting: Setting, result: Result) -> None:
    kind, program = KINDS[attack.setting], setting.program
    seconds = size.seconds / 2 if attack.brief else size.seconds
    facts = {**setting.facts, "seconds": str(size.quiet_seconds + seconds), "sources": str(source_count)}
    before, stored = _requests_of_the_program(setting), setting.stored()
    everybody = Beside(kind.roles, setting.addresses, facts)
    try:
        quiet_begin = time.monotonic()
        time.sleep(size.quiet_seconds)
        begin, cpu = time.monotonic(), program.cpu_seconds()
        reached = attack_with(
            attack.hands, attack.connections[size.full], source_count, seconds, setting.addresses, facts
        )
        end = time.monotonic()
        result.cpu_share = (program.cpu_seconds() - cpu) / (end - begin)
        samples: list[Sample] = everybody.stop()
    finally:
        everybody.close()
    ended = program.ended()
    result.reached = reached.text()
    result.peak = program.limit.peak()
    result.seen = seen_by_role(samples, (quiet_begin, begin), (begin, end))
    result.reasons += against(
        result.seen, ended, result.peak, result.limit_mib, size.always_allowed, program.longest_line()
    )
    if attack.judge is not None:
        after = _requests_of_the_program(setting)
        made = {path: count - before.get(path, 0) for path, count in after.items()}
        made[BYTES_ON_DISK] = setting.stored() - stored
        result.reached += f", store grown by {made[BYTES_ON_DISK] // 1024} KiB"
        result.reasons += [Reason(text) for text in attack.judge(reached, made)]


def _requests_of_the_program(setting: Setting) -> dict[str, int]:
    """What the small API server was asked for so far, by method and path."""
    answer = try_once(setting.addresses["kube"], request("GET", "/counts"), sources.CLIENT)
    if answer is None:
        raise RuntimeError("the small API server does not answer")
    counts: dict[str, int] = answer.json()
    return counts
