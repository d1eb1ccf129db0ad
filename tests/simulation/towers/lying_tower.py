"""Adversary: a watchtower that lies. It gives receipts, and then does what it likes.

Safety: whatever it does, layer 1 pays no less than the stale wedge said, money is conserved, and no honest member loses
its bond: a tower has no key of anybody. And where a group settles below a receipt that covers the dispute, receipt and
record show it.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from layer1.ledger.transactions import Report
from layer2.promises import window
from tests.simulation.towers.world import PERIOD_MS, Village, check_money

NEWEST = 4
Lie = Callable[[Village], None]


def says_nothing(village: Village) -> None:
    """It is paid by the liar, and sleeps."""


def reports_an_old_version(village: Village) -> None:
    """One that helps the liar; the customer's DELEGATE comes with it."""
    _report(village, NEWEST - 2)


def takes_the_delegate_of_the_liar(village: Village) -> None:
    """It reports the truth, and would have the bounty out of nobody's gain."""
    village.court.bring(
        Report(village.watched.id, village.watched.certificate(NEWEST), None, delegation=village.watched.delegation(1))
    )


def raises_its_bounty(village: Village) -> None:
    """A DELEGATE that the member did not sign so: layer 1 refuses the report with it."""
    more = structs.replace(village.watched.delegation(0, 20), bounty=40)
    village.court.bring(Report(village.watched.id, village.watched.certificate(NEWEST), None, delegation=more))


def forges_a_version(village: Village) -> None:
    """Above all that was signed, with signatures of another one."""
    certificate = village.watched.certificate(NEWEST)
    header = village.watched.header(NEWEST + 5)
    village.court.bring(Report(village.watched.id, type(certificate)(header, certificate.signatures), None))


def reports_too_late(village: Village) -> None:
    """At the deadline, which is too late."""
    _, ends = window(village.court.group)
    village.court.wait(ends - village.court.clock_ms)
    _report(village, NEWEST)


def claims_for_its_customer(village: Village) -> None:
    """It has no key: it can show what was certified, and nothing more."""
    _report(village, NEWEST - 1)
    _report(village, NEWEST - 2)


LIES: dict[str, tuple[Lie, bool]] = {
    "says nothing": (says_nothing, True),
    "reports an old version": (reports_an_old_version, True),
    "takes the liar's DELEGATE": (takes_the_delegate_of_the_liar, False),
    "raises its bounty": (raises_its_bounty, True),
    "forges a version": (forges_a_version, True),
    "reports too late": (reports_too_late, True),
    "reports the version before": (claims_for_its_customer, True),
}
"""By name: what it does, and whether that breaks its word."""


def run(name: str, stale: int) -> Village:
    """A run of one lie; violations are assertions."""
    lie, breaks = LIES[name]
    village = Village(stale)
    for version in range(1, NEWEST + 1):
        assert village.tower.serve(village.watched.message(version, 0, bounty=20), 0) == ""
    village.wedge(stale)
    village.court.wait(PERIOD_MS // 2)
    lie(village)
    group = village.settle()
    check_money(village)
    assert group.version >= stale, "rule 14: a lower version never replaces a higher"
    assert bool(village.broken()) == (breaks and group.version < NEWEST), "the proof does not say what happened"
    assert sum(bounty.units for bounty in group.bounties) <= 20, "more than the member promised"
    return village


def _report(village: Village, version: int) -> None:
    watched = village.watched
    village.court.bring(Report(watched.id, watched.certificate(version), None, delegation=watched.delegation(0, 20)))
