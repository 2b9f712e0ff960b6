"""Whether a program held: from what everybody else saw, its memory, and whether it still runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from .core.limit import Peak
from .core.stats import Summary, allowed_p99, milliseconds, summary
from .world.everybody import Sample

# The role whose p99 is held against its quiet one; all others have their own time for each request.
CLIENT = "client"
# Asks a program that is not attacked, so that what the machine itself does can be told apart.
CONTROL = "control"
# In the table these come first and last.
_ORDER = {CLIENT: 0, CONTROL: 9}
_MIB = 1024 * 1024
# A longer line of the log is one whose length a stranger chose.
_LONGEST_LINE_BYTES = 16 * 1024


@dataclass
class Seen:
    """What one role saw, quiet and beside the attack."""

    quiet: Summary
    beside: Summary
    first_error: str = ""
    # Whether all that failed beside the attack failed because no answer came in time.
    only_late: bool = True


@dataclass(frozen=True)
class Reason:
    """Something against a program. `retry`: a busy machine can cause it as well."""

    text: str
    retry: bool = False


@dataclass
class Result:
    """One attack from one number of sources."""

    name: str
    sources: int
    wants: str
    reached: str = ""
    seen: dict[str, Seen] = field(default_factory=dict)
    peak: Peak = Peak()
    limit_mib: int = 0
    limit_kind: str = ""
    cpu_share: float = 0.0
    seconds: float = 0.0
    reasons: list[Reason] = field(default_factory=list)
    tries: int = 1

    @property
    def held(self) -> bool:
        """Whether nothing is against it."""
        return not self.reasons

    @property
    def is_worth_a_retry(self) -> bool:
        """Whether it failed, and by nothing but what a busy machine can cause."""
        return bool(self.reasons) and all(reason.retry for reason in self.reasons)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "held": self.held}


def seen_by_role(samples: Iterable[Sample], quiet: tuple[float, float], attack: tuple[float, float]) -> dict[str, Seen]:
    """Summaries of the requests that began in each of the two spans of time."""
    times: dict[str, tuple[list[float], list[float]]] = {}
    errors: Counter[tuple[str, bool]] = Counter()
    first: dict[str, str] = {}
    otherwise: set[str] = set()
    for sample in samples:
        spans = times.setdefault(sample.role, ([], []))
        for number, (begin, end) in enumerate((quiet, attack)):
            if not begin <= sample.begin < end:
                continue
            if sample.error:
                errors[sample.role, number == 1] += 1
                if number == 1:
                    first.setdefault(sample.role, sample.error)
                    if not sample.late:
                        otherwise.add(sample.role)
            else:
                spans[number].append(sample.seconds)
    return {
        role: Seen(
            summary(spans[0], errors[role, False]), summary(spans[1], errors[role, True]), first.get(role, ""),
            role not in otherwise,
        )
        for role, spans in times.items()
    }  # fmt: skip


def against(
    seen: dict[str, Seen], ended: str, peak: Peak, limit_mib: int, always_allowed: float, longest_line: int = 0
) -> list[Reason]:
    """What shows that the program did not hold; a client's p99 of `always_allowed` seconds does not."""
    reasons = [Reason(ended)] if ended else []
    if not ended and peak.together > limit_mib * _MIB:
        reasons.append(Reason(f"{peak.together // _MIB} MiB with socket buffers, which cgroup v2 charges to the container"))
    if longest_line > _LONGEST_LINE_BYTES:
        reasons.append(Reason(f"wrote a line of {longest_line} bytes into its log"))
    for role, one in seen.items():
        if role == CONTROL:
            continue
        if one.beside.count == 0:
            reasons.append(Reason(f"{role}: nothing was measured", retry=True))
        if one.beside.errors:
            text = f"{role}: {one.beside.errors} of {one.beside.count} failed, first: {one.first_error}"
            reasons.append(Reason(text, retry=one.only_late))
    client, control = seen.get(CLIENT), seen.get(CONTROL)
    if client is not None:
        allowed = allowed_p99(client.quiet.p99, control.beside.p99 if control else math.nan, always_allowed)
        if client.beside.p99 > allowed:
            text = f"client: p99 {milliseconds(client.beside.p99)} ms, allowed {milliseconds(allowed)}"
            reasons.append(Reason(text, retry=True))
    return reasons


def everybody_text(seen: dict[str, Seen]) -> str:
    """For the table: figures in milliseconds, the quiet ones in brackets, then how many failed of how many."""
    lines = []
    for role, one in sorted(seen.items(), key=lambda item: _ORDER.get(item[0], 2)):
        beside, quiet = one.beside, one.quiet
        if role in (CLIENT, CONTROL):
            text = (
                f"p50 {milliseconds(beside.p50)} ({milliseconds(quiet.p50)})"
                f" p99 {milliseconds(beside.p99)} ({milliseconds(quiet.p99)})"
            )
        else:
            text = f"worst {milliseconds(beside.worst)}"
        lines.append(f"{role}: {text}, failed {beside.errors}/{beside.count}")
    return "\n".join(lines)


def memory_text(result: Result) -> str:
    """For the table: MiB."""
    text = f"{result.peak.resident / _MIB:.0f} of {result.limit_mib}"
    if result.peak.sockets >= _MIB:
        text += f"\n+ {result.peak.sockets / _MIB:.0f} in sockets"
    return text
