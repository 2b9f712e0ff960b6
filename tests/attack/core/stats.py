"""Percentiles, and the rule for what an honest client may see beside an attack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# The honest client's p99 beside an attack may be this many times its quiet one.
TIMES_QUIET = 10.0
# What a program that nobody attacks shows at the same time is the machine's doing; so much more is allowed as well.
TIMES_CONTROL = 2.0


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all values don't exceed (nearest rank). NaN when there is none."""
    if not 0 < percent <= 100:
        raise ValueError(f"percent must be above 0 and at most 100, not {percent}")
    if not values:
        return math.nan
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def allowed_p99(quiet: float, control: float, always: float) -> float:
    """The longest p99, in seconds, that the honest client may have beside an attack.

    `quiet` is its own p99 before the attack, `control` that of requests to a program that is not attacked, during it.
    Up to `always` no difference counts.
    """
    known = [value for value in (TIMES_QUIET * quiet, TIMES_CONTROL * control) if not math.isnan(value)]
    return max([always, *known])


@dataclass(frozen=True)
class Summary:
    """How long requests took (seconds), and how many failed."""

    count: int
    errors: int
    p50: float
    p99: float
    worst: float


def summary(seconds: Sequence[float], errors: int) -> Summary:
    """Of the requests that were answered; `errors` are those that were not, or wrongly."""
    worst = max(seconds, default=math.nan)
    return Summary(len(seconds) + errors, errors, percentile(seconds, 50), percentile(seconds, 99), worst)


def milliseconds(seconds: float) -> str:
    """`12.3` for 12.3 ms, whole numbers from 100 ms on, `-` when nothing was measured."""
    if math.isnan(seconds):
        return "-"
    value = seconds * 1000
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
