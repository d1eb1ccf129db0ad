"""Whether to forward: each limit, and that nobody takes all slots."""

from __future__ import annotations

from dataclasses import replace

import pytest

from layer1.crypto import Domain, digest
from wallet.forwarding.events import Came, LockRef, Passage, Way
from wallet.forwarding.policy import Terms, Timing, choose
from wallet.onion.failure import Code

TIMING = Timing(margin_ms=100, least_life_ms=300, most_ahead_ms=10_000, patience_ms=50)
IN, OUT, SECOND = (digest(Domain.GROUP, name) for name in (b"in", b"out", b"second"))
WAY = Way(OUT, can_send=1_000, ready=True, slots=8, slots_taken=0, value=800, value_taken=0, least=2)
CAME = Came(LockRef(IN, 1), b"peer", 110, b"hash", 1_000, 100, bytes(32), b"", (WAY,))
TERMS = Terms(fee_base=5, fee_ppm=10_000, min_amount=10, max_amount=500)


def asked(came: Came = CAME, terms: Terms = TERMS, clock_ms: int = 0, *passing: Passage) -> Way | Code:
    return choose(came, lambda _: terms, TIMING, clock_ms, passing)


def way(**changes: object) -> Came:
    return replace(CAME, ways=(replace(WAY, **changes),))  # type: ignore[arg-type]


def passage(number: int, peer: bytes, amount: int) -> Passage:
    return Passage(number, LockRef(IN, number), amount, peer, b"hash", 1_000, OUT, amount, bytes(32))


def test_what_keeps_all_limits_is_forwarded() -> None:
    assert asked() == WAY
    assert asked(replace(CAME, came=106)) == WAY, "just the fee"


@pytest.mark.parametrize(
    ("came", "terms", "clock_ms", "code"),
    [
        (replace(CAME, came=105), TERMS, 0, Code.FEE_TOO_SMALL),
        (replace(CAME, came=90), Terms(), 0, Code.FEE_TOO_SMALL),
        (CAME, TERMS, 701, Code.EXPIRES_TOO_SOON),
        (replace(CAME, expiry_ms=10_001), TERMS, 0, Code.EXPIRES_TOO_LATE),
        (replace(CAME, ways=()), TERMS, 0, Code.UNKNOWN_NEXT),
        (CAME, replace(TERMS, enabled=False), 0, Code.UNKNOWN_NEXT),
        (way(group=IN), TERMS, 0, Code.UNKNOWN_NEXT),
        (way(ready=False), TERMS, 0, Code.NEXT_AWAY),
        (replace(CAME, amount=9), TERMS, 0, Code.AMOUNT_TOO_SMALL),
        (way(least=101), TERMS, 0, Code.AMOUNT_TOO_SMALL),
        (replace(CAME, amount=501, came=600), TERMS, 0, Code.AMOUNT_TOO_LARGE),
        (way(value=99), TERMS, 0, Code.AMOUNT_TOO_LARGE),
        (way(can_send=99), TERMS, 0, Code.NO_LIQUIDITY),
        (way(slots_taken=8), TERMS, 0, Code.NO_LIQUIDITY),
        (way(value_taken=701), TERMS, 0, Code.NO_LIQUIDITY),
    ],
)
def test_each_limit_has_its_code(came: Came, terms: Terms, clock_ms: int, code: Code) -> None:
    assert asked(came, terms, clock_ms) == code


def test_of_several_channels_the_fullest_that_can_is_taken() -> None:
    second = replace(WAY, group=SECOND, can_send=2_000)
    assert asked(replace(CAME, ways=(WAY, second))) == second
    assert asked(replace(CAME, ways=(WAY, replace(second, slots_taken=8)))) == WAY


def test_a_neighbour_gets_half_and_dust_gets_half() -> None:
    """Against jamming: of slots and of value one neighbour gets half, and so do locks below a slot's fair share."""
    assert asked(CAME, TERMS, 0, *(passage(n, b"peer", 10) for n in range(3))) == WAY
    assert asked(CAME, TERMS, 0, *(passage(n, b"peer", 10) for n in range(4))) == Code.BUSY
    assert asked(CAME, TERMS, 0, *(passage(n, b"other", 100) for n in range(6))) == WAY
    assert asked(CAME, TERMS, 0, passage(1, b"peer", 300)) == WAY
    assert asked(CAME, TERMS, 0, passage(1, b"peer", 301)) == Code.BUSY
    dust = replace(CAME, amount=99, came=120)
    assert asked(dust, TERMS, 0, *(passage(n, b"other", 99) for n in range(3))) == WAY
    assert asked(dust, TERMS, 0, *(passage(n, b"other", 99) for n in range(4))) == Code.BUSY
    assert asked(CAME, TERMS, 0, *(passage(n, b"other", 99) for n in range(4))) == WAY


def test_margins_that_leave_no_time_are_refused() -> None:
    with pytest.raises(ValueError, match="twice the margin"):
        Timing(margin_ms=100, least_life_ms=199, most_ahead_ms=1_000, patience_ms=1)
