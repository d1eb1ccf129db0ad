"""Kinds of runs: a ledger by itself, with liars or with omission faults alone, and wallets over a ledger.

By default a seed says which it is, as all else.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from tests.simulation.groups.scenario import run_groups
from tests.simulation.result import Result
from tests.simulation.scenario import run, run_omission


class RunKind(Protocol):
    """The run of a seed."""

    def __call__(self, seed: int, *, keep_trace: bool = False) -> Result:
        """Run it; `keep_trace` makes it readable."""


def run_any(seed: int, *, keep_trace: bool = False) -> Result:
    """Every third seed has wallets: such a run takes about as long as two others. Every sixth has omission faults."""
    if seed % 3 == 2:
        return run_groups(seed, keep_trace=keep_trace)
    return (run_omission if seed % 6 == 1 else run)(seed, keep_trace=keep_trace)


KINDS: Mapping[str, RunKind] = MappingProxyType(
    {"all": run_any, "ledger": run, "omission": run_omission, "groups": run_groups}
)
"""By the name that the command line has for it."""
