"""All worker processes of one attack."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Awaitable, Callable

from . import sources
from .hand import RAMP_SECONDS, Hand, Reached, Slot, Task, work
from .wire import Address

# On two cores, with the program and the honest client beside them.
WORKERS = 2
# No verdict rests on it: workers run with a low priority, and a busy machine starves them.
_GRACE_SECONDS = 30.0 + RAMP_SECONDS

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["attack.core.preload"])


def attack_with(
    attack: Callable[[Hand], Awaitable[None]],
    connections: int,
    source_count: int,
    seconds: float,
    addresses: dict[str, Address],
    facts: dict[str, str],
) -> Reached:
    """Attacks for so long, and says what was reached."""
    slots = [Slot(number, source) for number, source in enumerate(sources.deal(connections, source_count))]
    workers = []
    for worker in range(min(WORKERS, connections)):
        mine, theirs = processes.Pipe(duplex=False)
        task = Task(sources.share(slots, worker, WORKERS), addresses, facts, seconds)
        process = processes.Process(target=work, args=(attack, task, theirs), daemon=True)
        process.start()
        theirs.close()
        workers.append((process, mine))
    end = time.monotonic() + seconds + _GRACE_SECONDS
    reached = Reached()
    for process, result in workers:
        try:
            answer = result.recv() if result.poll(max(end - time.monotonic(), 0)) else None
        except EOFError:
            answer = None
        process.join(1)
        if process.is_alive():
            process.kill()
            process.join()
        if isinstance(answer, Exception):
            raise RuntimeError(f"the attack itself failed: {answer!r}") from answer
        if answer is None:
            raise RuntimeError(f"a worker of the attack did not answer within {seconds + _GRACE_SECONDS:.0f} s")
        reached.add(answer)
    return reached
