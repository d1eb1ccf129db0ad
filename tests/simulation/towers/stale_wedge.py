"""Adversary: a stale wedge at every earlier version, while every honest party is offline but the watchtower.

The peer, who may collude with whoever else talks to the tower, brings every nonsense to it as well: forged versions,
old ones, DELEGATEs that layer 1 refuses, and real ones a moment before the deadline.

Safety: layer 1 settles on the newest version that the tower receipted in time, or a higher one; and nobody can show
that an honest tower broke a receipt.
"""

from __future__ import annotations

from msgspec import structs

from layer1.ledger.agreements import Certificate
from layer1.ledger.records import Forfeit
from layer1.ledger.transactions import Report
from layer2.promises import window
from layer2.tower import Entrust
from tests.simulation.towers.world import PERIOD_MS, Village, check_money

NEWEST = 6
"""Versions that the members made."""
LOOKS = 8
"""Of the tower, in a challenge period."""


def run(seed: int) -> Village:
    """A run; violations are assertions. The version that is wedged goes through all as seeds go up."""
    village = Village(seed)
    random, tower, court = village.random, village.tower, village.court
    for version in range(1, NEWEST + 1):
        if random.random() < 0.8:
            _maybe_kill(village)
            tower.serve(village.watched.message(version, 0), 0)
        if random.random() < 0.4:
            tower.serve(_nonsense(village, version), random.choice((0, 1)))
        if random.random() < 0.2:
            court.wait(random.randint(1, 2_000))
            tower.look()
    promised = max((receipt.version for receipt in tower.receipts), default=0)
    stale = seed % (NEWEST + 1)
    village.wedge(stale)
    _dispute(village)
    group = village.settle()
    check_money(village)
    assert group.version >= max(promised, stale), f"settled on {group.version}, receipted were {promised}"
    if promised > stale:
        assert group.forfeits[1] is Forfeit.LIE, "the liar keeps its bond"
        assert group.bounties, "the tower reported, and got nothing"
    assert not village.broken(), f"a receipt of {village.broken()[0].version} counts as broken"
    return village


def _maybe_kill(village: Village) -> None:
    if village.random.random() < 0.4:
        village.tower.fuse = village.random.randint(0, 3)


def _dispute(village: Village) -> None:
    """The period, with the tower's looks in it: some are lost to kills, and so are reports."""
    random, tower, court = village.random, village.tower, village.court
    began, ends = window(court.group)
    held = max(tower.disk.values(), key=lambda each: each.version, default=None)
    if held is not None and random.random() < 0.3:  # somebody copies the report, and is quicker
        court.bring(Report(village.watched.id, held.certificate, None))
    for number in range(LOOKS):
        court.wait(began + number * PERIOD_MS // LOOKS + 1 - court.clock_ms)
        if number < LOOKS - 2:
            _maybe_kill(village)
        else:
            tower.fuse = None  # rule 18: it is there before the end
        tower.look()
        if random.random() < 0.2:
            tower.serve(_nonsense(village, NEWEST), random.choice((0, 1)))
    if random.random() < 0.5:  # a moment before the deadline: a real version, too late to be reported
        court.wait(ends - court.clock_ms - 1)
        tower.serve(village.watched.message(NEWEST, 1), 1)


def _nonsense(village: Village, version: int) -> Entrust:
    """What a customer who wants to frame the tower would bring."""
    watched, random = village.watched, village.random
    real = watched.message(version, 0)
    header = structs.replace(watched.header(version + 50))
    match random.randrange(5):
        case 0:  # signatures of another version
            return structs.replace(real, certificate=Certificate(header, real.certificate.signatures))
        case 1:  # one member signed it alone
            signatures = (watched.certificate(version + 50).signatures[0], bytes(64))
            return structs.replace(real, certificate=Certificate(header, signatures))
        case 2:  # a DELEGATE that layer 1 refuses
            return structs.replace(real, delegation=structs.replace(real.delegation, bounty=40))
        case 3:  # an old version
            return watched.message(max(version - 2, 1), 0)
        case _:  # one of the other member
            return watched.message(version, 1)
