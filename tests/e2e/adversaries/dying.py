"""A hub that dies when a test wants it: ``python -m tests.e2e.adversaries.dying FILE serve …`` is `wallet serve …`.

At each of :data:`MOMENTS` it looks into the file, and if that names the moment, SIGKILL ends it there. The product
knows nothing of it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from layer2.driver import GroupHost
from tests.e2e.adversaries.liar import replace_in
from wallet import cli
from wallet.forwarding.driver import ForwardDriver

MOMENTS = (
    "before take",  # an incoming lock is committed, nothing is noted
    "after take",  # it is to be passed on, which is not durable
    "synced take",  # it is durable, and the offer has not left
    "before shown",  # a version has the preimage, and is not signed
    "after shown",  # it is to be signed, which is not durable
    "synced shown",  # it is durable, and the signature has not left, nor our claim
    "synced lose",  # the outgoing lock is paid
)
"""Of a payment that the hub forwards, in order."""


def arm(file: Path) -> None:
    """Look out for the moments in this process."""
    syncing = ""

    def watch(name: str) -> None:
        real: Callable[..., Any] = getattr(ForwardDriver, name)

        def deadly(*arguments: Any, **named: Any) -> Any:
            nonlocal syncing
            _die_at(file, f"before {name}")
            found = real(*arguments, **named)
            _die_at(file, f"after {name}")
            syncing = name
            return found

        replace_in(ForwardDriver, name, deadly)

    perform: Callable[..., Any] = GroupHost._perform

    def perform_or_die(*arguments: Any) -> Any:
        nonlocal syncing
        done, syncing = syncing, ""
        _die_at(file, f"synced {done}")
        return perform(*arguments)

    for name in ("take", "shown", "lose"):
        watch(name)
    replace_in(GroupHost, "_perform", perform_or_die)


def _die_at(file: Path, moment: str) -> None:
    if file.read_text() == moment:
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Arguments: the file, and those of `wallet`."""
    arm(Path(sys.argv[1]))
    sys.argv = ["wallet", *sys.argv[2:]]
    cli.main()


if __name__ == "__main__":
    main()
