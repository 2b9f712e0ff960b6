"""What the server that forks worker processes has loaded already, so that a worker starts at once."""

from __future__ import annotations

from .. import attacks  # noqa: F401
from ..world import roles  # noqa: F401
