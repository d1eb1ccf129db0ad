"""Within a story, the product dials simulated links, and draws and measures from the process that asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from layer2 import chain_driver, driver
from tests.simulation.groups import standins
from tests.simulation.groups.standins import simulated_time_and_chance
from tests.simulation.stories.homes import write_standing
from tests.simulation.stories.links import connect
from wallet import entrusting, headship
from wallet.watchtower import lookout

DIALING: tuple[ModuleType, ...] = (driver, entrusting, chain_driver)
"""Modules that make links."""
RANDOM: tuple[ModuleType, ...] = (lookout, chain_driver)
"""Modules that draw salts, besides those of wallets over a ledger."""


@contextmanager
def simulated_surroundings() -> Iterator[None]:
    """All that the product would ask of the machine."""
    places: list[tuple[ModuleType, str, object]] = [(module, "connect", connect) for module in DIALING]
    places += [(module, "os", standins._Os()) for module in RANDOM]
    places += [(headship, "write_standing", write_standing)]
    before = [(module, name, vars(module)[name]) for module, name, _ in places]
    for module, name, standin in places:
        vars(module)[name] = standin
    try:
        with simulated_time_and_chance():
            yield
    finally:
        for module, name, original in before:
            vars(module)[name] = original
