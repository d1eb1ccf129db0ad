"""The forwarder among payers and payees who lie, a ledger, and crashes between any two effects."""

from __future__ import annotations

import pytest

from layer1.errors import LocalError
from tests.wallet.forwarding.world import TIMING, World
from wallet.forwarding.core import Forwarder
from wallet.forwarding.events import Bound, Ended, Gone
from wallet.forwarding.policy import Terms

SEEDS = 400


@pytest.mark.slow
def test_nothing_is_lost_whatever_neighbours_do_and_wherever_it_dies() -> None:
    """Rules 22 and 23, [F9]: no payment twice, none at a loss, each unit conserved, each payment ends for both ends."""
    paid = crashed = failed = registered = wedged = 0
    for seed in range(SEEDS):
        world = World(seed)
        world.run()
        paid += world.paid
        crashed += world.steps.count("crash")
        failed += sum(isinstance(record, Gone) for record in world.records)
        registered += len(world.registry)
        wedged += sum(group.wedged and group.peer in world.faulty for group in world.groups.values())
    assert min(paid, crashed, failed) > SEEDS, "these stories do not go where it matters"
    assert min(registered, wedged) > SEEDS / 4


@pytest.mark.slow
def test_where_nobody_dies_either() -> None:
    for seed in range(100):
        World(seed, crashes=False).run()


def test_what_is_compacted_is_all_that_matters() -> None:
    """A forwarder from its compacted records is the one that wrote them."""
    for seed in range(20):
        world = World(seed, crashes=False)
        for _ in range(120):
            world.guarded(world.chance.choice([world.pay, world.payee_acts, world.serve_queue, world.pass_time]))
        records = list(world.forwarder.records())
        again = Forwarder(lambda _: Terms(), TIMING, records, world.clock)
        assert again.passages() == world.forwarder.passages()
        assert list(again.records()) == records
        whole = Forwarder(lambda _: Terms(), TIMING, world.records, world.clock)
        assert list(whole.records()) == records


def test_records_that_contradict_each_other_stop_it() -> None:
    for record in (Bound(1, 1), Gone(1, b""), Ended(1)):
        with pytest.raises(LocalError, match="damaged"):
            Forwarder(lambda _: Terms(), TIMING, [record])
