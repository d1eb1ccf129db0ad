"""The garbage collector of a long-lived process: what a start has built lives as long as the process does."""

from __future__ import annotations

import gc

THRESHOLDS = (20_000, 20, 100)
"""More than Python's: a busy process makes and drops thousands of objects in each turn, few in rings."""


def settle_memory() -> None:
    """Collect once, then leave alone what lives long: full collections of a large state take too long (limits.md)."""
    gc.unfreeze()  # what was left by something else that ran in this process before
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
