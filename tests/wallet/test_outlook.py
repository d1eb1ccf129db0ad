"""Issue: "every close shows what happens next and when"."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from layer1.ledger import records as ledger
from layer1.ledger.agreements import Lock
from layer2.events import CloseRequested, PleaRequested, WedgeRequested
from tests.layer2.harness import Court, Party, agreement, pair
from tests.layer2.test_disputes import submissions
from wallet.book import ChannelRecord, Stage
from wallet.outlook import what_comes_next


class Case:
    """A pair after a payment, with its court; member 0 is us."""

    def __init__(self, **terms: Any) -> None:
        self.a, self.b, *_ = made = pair(**terms)
        self.court = Court(self.a.terms)
        self.parties: list[Party] = [self.a, self.b]
        self.wire = made[-1]

    def bring(self, party: Party, event: Any) -> None:
        party.step(event)
        for payload in submissions(party):
            self.court.bring(payload)

    def says(self, *, me: int = 0, shown: ledger.Group | None = None) -> str:
        record = _record(self.a.terms, me)
        text = what_comes_next(record, self.parties[me].group, shown or self.court.group, self.court.clock_ms)
        assert text is not None
        assert str(self.court.group.deadline_ms or "clock") not in text, "a person reads no clock in milliseconds"
        return text


def _record(terms: Any, index: int) -> ChannelRecord:
    class Stub:
        stage = Stage.OPEN
        agreement = terms

        def __init__(self) -> None:
            self.index = index

    found: Any = Stub()
    return found  # type: ignore[no-any-return]


def test_a_wedge_is_settled_at_its_deadline_or_as_soon_as_both_have_claimed() -> None:
    case = Case()
    case.bring(case.a, WedgeRequested())
    text = case.says()
    assert "settles it in 1 m, or as soon as both have claimed (1 of them has)" in text
    assert "on version 0, or a newer one" in text and text.endswith("nothing more is to be done")
    case.court.clock_ms += 40_000
    assert "in 20 s" in case.says()
    case.court.clock_ms += 40_000
    assert "with its next blocks" in case.says()


@pytest.mark.parametrize("me", [0, 1])
def test_a_plea_says_who_has_to_report_and_what_it_costs(me: int) -> None:
    case = Case()
    case.bring(case.a, PleaRequested())
    text = case.says(me=me)
    ours = "we may have lost data: unless the peer reports by then, its bond is forfeited"
    theirs = (
        "the peer may have lost data: unless we report by then, our bond (this wallet answers by itself) is forfeited"
    )
    assert (ours if me == 0 else theirs) in text and "in 2 m" in text
    case.bring(case.b, PleaRequested())
    assert "nobody's bond is at stake" in case.says(me=me)


@pytest.mark.parametrize("me", [0, 1])
def test_after_a_report_no_bond_is_at_stake_for_a_plea(me: int) -> None:
    """It went on to say that the peer's bond is forfeited unless it reports, below its claim."""
    case = Case()
    case.bring(case.a, PleaRequested())
    case.bring(case.b, WedgeRequested())
    assert case.court.group.claims[1] is not None
    text = case.says(me=me)
    told = "we may have lost data, and the peer has reported" if me == 0 else "the peer may have lost data, and we have"
    assert told in text and "no bond is at stake" in text and "forfeited" not in text


def test_who_lost_data_is_told_how_to_end_it_sooner() -> None:
    case = Case()
    case.bring(case.b, WedgeRequested())
    case.a.forget()
    assert "`wallet channel agree` settles it at once" in case.says()


@pytest.mark.parametrize("timeout_ms", [0, 3_600_000])
def test_a_witnessed_close_needs_no_time(timeout_ms: int) -> None:
    case = Case(witnessed=True)
    case.court.group = structs.replace(
        case.court.group, agreement=structs.replace(case.a.terms, witness_timeout_ms=timeout_ms)
    )
    case.bring(case.a, WedgeRequested())
    text = case.says()
    assert "as soon as two of the three have claimed (1 of them has)" in text
    assert ("at the latest in 1 h" in text) is bool(timeout_ms)


@pytest.mark.parametrize("pleads", [False, True])
def test_a_missing_body_is_waited_for(pleads: bool) -> None:
    """Rule 12: by whom, and what happens if it does not come."""
    case = Case()
    case.bring(case.a, WedgeRequested())
    shown = structs.replace(
        case.court.group,
        revealing=ledger.Reason.DEADLINE,
        body=None,
        deadline_ms=case.court.clock_ms + 30_000,
        pleas=(pleads, False),
    )
    held = case.says(shown=shown)
    assert "this wallet's copy of the state is there" in held
    foreign = structs.replace(shown.certificate.header, version=7)
    missing = structs.replace(shown, certificate=structs.replace(shown.certificate, header=foreign))
    text = case.says(shown=missing)
    assert "on version 7" in text and "as soon as the peer shows the state behind it" in text
    assert ("if nobody does so in 30 s, the peer's bond is forfeited" in text) is pleads
    assert ("nobody can take the money meanwhile" in text) is not pleads


def test_what_is_signed_and_not_on_the_ledger_is_told() -> None:
    case = Case()
    case.a.step(CloseRequested())
    case.wire.run()
    group = case.a.group
    assert what_comes_next(_record(case.a.terms, 0), group, None, 1) == "both signed the end; it waits for the ledger"
    alone = structs.replace(group, final=structs.replace(group.final, signatures=(b"", None)))  # type: ignore[type-var]
    assert what_comes_next(_record(case.a.terms, 0), alone, None, 1) == "we signed the end; it waits for the peer"
    case = Case()
    case.a.step(WedgeRequested())
    text = what_comes_next(_record(case.a.terms, 0), case.a.group, None, None)
    assert text is not None and "not on the ledger yet" in text


LOCKS = tuple(
    ledger.ClosedLock(Lock(number, payer, 1 - payer, 700, bytes(32), 90_000), 90_000)
    for number, payer in ((1, 0), (2, 0), (3, 1))
)


def test_what_is_under_way_when_a_channel_is_settled_is_told_from_both_sides() -> None:
    """Such a channel was said to wait for the ledger to take what we had signed."""
    case = Case()
    case.bring(case.a, WedgeRequested())
    closed = structs.replace(case.court.group, status=ledger.Status.CLOSED, deadline_ms=None, locks=LOCKS)
    case.court.clock_ms = 60_000
    text = case.says(shown=closed)
    assert "has settled the channel, and pays what is under way by itself, all of it in 30 s at the latest" in text
    assert "2 conditional payments of ours: paid if the peer shows the preimage in time, else it comes back" in text
    assert "1 conditional payment of the peer's: ours if we show the preimage in time, else it goes back" in text
    other = case.says(me=1, shown=closed)
    assert "1 conditional payment of ours" in other and "2 conditional payments of the peer's" in other
    case.court.clock_ms = 90_001
    assert "with its next blocks at the latest" in case.says(shown=closed)


def test_of_an_open_or_closed_channel_there_is_nothing_to_say() -> None:
    case = Case()
    assert what_comes_next(_record(agreement(), 0), case.a.group, case.court.group, 1) is None
