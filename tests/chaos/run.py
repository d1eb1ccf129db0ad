"""One run: clients at work, a nemesis, then a healed network on which everything must come to an end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from layer1.ledger.genesis import Parameters
from layer1.proof import max_age_ms
from tests.chaos.clients import Clients
from tests.chaos.cluster import Cluster
from tests.chaos.history import History
from tests.chaos.linearizability import explain
from tests.chaos.nemesis import Harm, attack

MORE = 12
"""Transfers that must become final after the network has healed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left to look at after a run."""

    history: History
    during: int
    """Transfers acknowledged while things broke."""


async def run(net: Cluster, seed: int, *lanes: Sequence[Harm], allied: bool = False) -> Outcome:
    """Let clients write and read through all of this, and check what they saw.

    The ledger must go on once the network has healed, every transfer become final or dead, all honest replicas stand
    at one block, and one order explain the history: strictly for each client by itself, and for all of them if they
    are allied; else what one did may be missing at another for as long as an answer counts as fresh.
    """
    random = Random(seed)
    async with Clients(net, random, allied=allied) as clients:
        clients.work()
        await attack(net, random, *lanes)
        during = clients.acknowledged

        async def goes_on() -> bool:
            return clients.acknowledged >= during + MORE

        await net.until(goes_on, f"{MORE} more transfers are final on the healed network")
        await clients.rest()
        await clients.settle()
        await clients.read_all()
        await net.one_chain(net.honest)
        assert clients.refused == []
        assert clients.unknown == 0
        fault = explain(clients.history, 0.0 if allied else staleness_s(net.genesis.parameters))
        assert fault is None, fault
        return Outcome(clients.history, during)


def staleness_s(parameters: Parameters) -> float:
    """How late a client may learn what another one did: a head is believed so long, and its time was ahead so far."""
    return (max_age_ms(parameters) + parameters.drift_bound_ms) / 1000
