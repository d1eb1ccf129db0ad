"""A replica process that kills itself at a step of its checkpoints: ``python -m ... HOME STEP WHEN TIME``.

It pays one unit after the other, and prints how many payments were final.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from layer1.config import load_config
from layer1.loop import run
from layer1.replica.driver import Replica
from tests.layer1.replica.paying import transfer


def kill_at(step: str, when: str, time: int) -> None:
    """Die before or after a function is called for the n-th time."""
    module, _, path = step.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    real, calls = getattr(owner, name), 0

    def deadly(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == time and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = real(*arguments, **named)
        if calls == time:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, deadly)


async def pay(home: Path) -> None:
    """Until it dies."""
    replica = Replica(load_config(home))
    await replica.start()
    for number in range(1, 200):
        ids = replica.submit([transfer(replica.genesis.chain_id)])
        await replica.wait_final(ids, 10_000)
        os.write(1, f"{number}\n".encode())
    await replica.stop()


if __name__ == "__main__":
    kill_at(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    run(pay(Path(sys.argv[1])))
