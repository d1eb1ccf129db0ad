"""What the product's modules find where they look for the time, or for chance: the process that they run in."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from layer1 import client, failover
from layer2 import driver
from tests.simulation.groups.loop import ProcessLoop
from wallet import observer, openings, submitter

TIMED: tuple[ModuleType, ...] = (client, failover, observer)
"""Modules that read a monotonic clock."""
RANDOM: tuple[ModuleType, ...] = (client, driver, openings, submitter)
"""Modules that draw salts."""


def _process() -> ProcessLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ProcessLoop), "only simulated processes run within a simulation"
    return loop


class _Time:
    """`time`, with the world's monotonic clock."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    @staticmethod
    def monotonic() -> float:
        return _process().time()


class _Os:
    """`os`, with a seeded `urandom`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    @staticmethod
    def urandom(size: int) -> bytes:
        return _process().urandom(size)


@contextmanager
def simulated_time_and_chance() -> Iterator[None]:
    """Within this, what the product draws and measures comes from the simulated process that asks."""
    places: list[tuple[ModuleType, str, object]] = [(module, "time", _Time()) for module in TIMED]
    places += [(module, "os", _Os()) for module in RANDOM]
    before = [(module, name, vars(module)[name]) for module, name, _ in places]
    for module, name, standin in places:
        vars(module)[name] = standin
    disabled = logging.root.manager.disable
    logging.disable()  # what a wallet tells people is no part of a run, and would cost most of its time
    try:
        yield
    finally:
        logging.disable(disabled)
        for module, name, original in before:
            vars(module)[name] = original
