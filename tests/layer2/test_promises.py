"""Receipts, and the proof that a tower broke one (decision 032)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from layer1.crypto import ZERO_HASH
from layer1.errors import Refused
from layer1.ledger import records as ledger
from layer2.promises import TowerReceipt, check_broken, describe, sign_receipt, verify_receipt, window
from layer2.tower import Promise, receipt_signed
from tests.layer2.harness import CHAIN, key
from tests.layer2.tower_world import CLOCK_MS, POLICY, TOWER, Watched

PERIOD_MS = Watched().terms.challenge_period_ms


def receipt(watched: Watched, version: int = 7) -> TowerReceipt:
    promise = watched.entrust(version)[-1]
    assert isinstance(promise, Promise)
    return receipt_signed(promise, TOWER, CHAIN)


def verdict(given: TowerReceipt, shown: ledger.Group) -> str:
    try:
        check_broken(CHAIN, given, shown)
    except Refused as error:
        return error.code
    return "broken"


@pytest.mark.parametrize(("settled", "expected"), [(0, "broken"), (6, "broken"), (7, "kept"), (8, "kept")])
def test_a_group_that_settles_below_a_receipt_breaks_it(settled: int, expected: str) -> None:
    """ "Closed by its deadline, same epoch, on a lower version"."""
    watched = Watched()
    assert verdict(receipt(watched), watched.closed(settled)) == expected


@pytest.mark.parametrize(
    ("began_ms", "expected"),
    [(CLOCK_MS - 1, "kept"), (CLOCK_MS, "broken"), (CLOCK_MS + POLICY.keep_ms - PERIOD_MS, "broken"),
     (CLOCK_MS + POLICY.keep_ms - PERIOD_MS + 1, "kept")],
)  # fmt: skip
def test_a_dispute_counts_if_its_period_is_within_the_receipt(began_ms: int, expected: str) -> None:
    """A customer could ask for a receipt a moment before a deadline, and hold it against the tower."""
    watched = Watched()
    assert verdict(receipt(watched), watched.closed(2, clock_ms=began_ms)) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"reason": ledger.Reason.FINAL},
        {"reason": ledger.Reason.CLAIMS},
        {"status": ledger.Status.WEDGED, "reason": None},
        {"status": ledger.Status.OPEN, "reason": None},
        {"epoch": 1},
        {"group_id": ZERO_HASH},
    ],
)
def test_only_the_end_of_a_dispute_of_its_group_and_epoch_breaks_it(change: dict[str, Any]) -> None:
    """ "A group that all members ended themselves, by FINAL or by claims of all, breaks no receipt."."""
    watched = Watched()
    assert verdict(receipt(watched), structs.replace(watched.closed(2), **change)) == "kept"


def test_the_wait_for_a_body_is_not_part_of_the_dispute() -> None:
    """Rule 12 adds time in which nothing can be reported, and the record's deadline goes on, or is gone."""
    watched = Watched()
    given = receipt(watched)
    late, early = watched.closed(2, clock_ms=CLOCK_MS - 1), watched.closed(2, clock_ms=CLOCK_MS)
    for deadline_ms in (CLOCK_MS + 9 * PERIOD_MS, None):
        waited = {"revealing": ledger.Reason.DEADLINE, "deadline_ms": deadline_ms}
        assert verdict(given, structs.replace(late, **waited)) == "kept"
        assert verdict(given, structs.replace(early, **waited)) == "broken"


def test_a_plea_makes_the_dispute_twice_as_long() -> None:
    """Rule 13: a receipt that ends before the dispute may have, says nothing about it."""
    watched = Watched()
    given = receipt(watched)
    begun_ms = given.until_ms - PERIOD_MS
    assert verdict(given, watched.closed(2, clock_ms=begun_ms)) == "broken"
    pleaded = structs.replace(watched.closed(2, clock_ms=begun_ms), pleas=(False, True))
    assert verdict(given, pleaded) == "kept"
    assert window(pleaded) == (begun_ms, begun_ms + 2 * PERIOD_MS)


def test_a_group_that_was_never_wedged_breaks_nothing() -> None:
    watched = Watched()
    assert verdict(receipt(watched), structs.replace(watched.closed(2), wedged_clock_ms=None)) == "kept"


@pytest.mark.parametrize("field", [f for f in TowerReceipt.__struct_fields__ if f != "signature"])
def test_a_receipt_is_signed_whole(field: str) -> None:
    """Nobody makes a receipt say what its tower did not."""
    watched = Watched()
    given = receipt(watched)
    value = getattr(given, field)
    forged = structs.replace(given, **{field: value + 1 if isinstance(value, int) else key("other").public})
    assert verify_receipt(CHAIN, given) and not verify_receipt(CHAIN, forged)
    assert verdict(forged, watched.closed(2)) == "bad_receipt"


def test_a_receipt_of_another_chain_is_none() -> None:
    watched = Watched()
    assert not verify_receipt(CHAIN, sign_receipt(TOWER, ZERO_HASH, receipt(watched)))


def test_a_receipt_reads_as_a_sentence() -> None:
    assert "holds version 7 of group" in describe(receipt(Watched()))
