"""Broken drivers of the forwarder; a rule whose breach nobody notices is none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from layer1.codec import decode
from layer1.errors import LocalError
from tests.wallet.forwarding import test_closing as closing
from tests.wallet.forwarding import test_lost_hubs as lost_hubs
from tests.wallet.forwarding.test_driver import die_at_any_step
from tests.wallet.forwarding.town import Row, row
from wallet.forwarding import driver
from wallet.forwarding.companion import Passages
from wallet.forwarding.core import Forwarder
from wallet.forwarding.driver import ForwardDriver
from wallet.forwarding.events import Bound, OfferFailed, PreimageSeen, Record
from wallet.invoices import dealing
from wallet.locking import Locking

pytestmark = pytest.mark.slow
Story = Callable[[Row], Coroutine[Any, Any, Any]]


def dying(name: str, *steps: tuple[int, bool, bool]) -> Story:
    return lambda row: die_at_any_step(row, name, list(steps))


async def dying_before_it_was_told(row: Row) -> None:
    with pytest.MonkeyPatch.context() as patch:
        await closing.test_a_hub_that_dies_before_it_was_told_is_told_again(row, patch)


def without(kind: type) -> Callable[[Any], Any]:
    """What is to ride with a signature, less one kind of record."""

    def mutant(original: Any) -> Any:
        def signing(self: Passages, *args: Any) -> list[bytes]:
            return [data for data in original(self, *args) if not isinstance(decode(data, Record), kind)]  # type: ignore[arg-type]

        return signing

    return mutant


def gives_up_what_is_pending(_: Any) -> Any:
    """A link broke: the fate of the offer is not known, and the incoming lock goes back."""

    def offered(self: ForwardDriver, number: int, outcome: Any) -> None:
        if outcome.refused or outcome.pending:
            self._fail([number])

    return offered


def fails_what_is_wedged(original: Any) -> Any:
    """Rule 23: "when a group closes its locks pend, they don't fail"."""

    def stopped(self: ForwardDriver, group_id: bytes, shown: Any) -> None:
        original(self, group_id, shown)
        self._end_what_is_not_in(set(), group_id)

    return stopped


def forgets_what_layer_1_undid(original: Any) -> Any:
    """Nobody waits for a forwarded lock: that layer 1 settled without it is told to nobody."""
    return lambda self, group_id, shown: None


def tells_the_end_before_the_preimage(original: Any) -> Any:
    """Layer 1 paid the next one, and its registry was not asked yet: the lock is gone, and no preimage known."""

    def settle(self: Locking, group_id: bytes, each: Any) -> bool:
        self._registered.setdefault(each.lock.hash, None)
        return bool(original(self, group_id, each))

    return settle


def deaf_to(kind: type) -> Callable[[Any], Any]:
    """The core is not told."""

    def mutant(original: Any) -> Any:
        def step(self: ForwardDriver, event: Any, records: Any = None) -> None:
            if not isinstance(event, kind):
                original(self, event, records)

        return step

    return mutant


MUTANTS: dict[str, tuple[Any, str, Callable[[Any], Any], Story]] = {
    "signs_and_notes_no_binding": (Passages, "signing", without(Bound), dying("hub", (1, True, False))),
    "gives_up_offers_that_may_yet_enter": (
        driver, "is_past_the_restart", lambda _: lambda group: True, dying("hub", (3, False, True)),
    ),
    "gives_up_what_is_pending": (
        ForwardDriver, "offered", gives_up_what_is_pending, dying("alice", (0, False, True)),
    ),
    "never_gives_up_what_a_crash_cut_off": (
        ForwardDriver, "_step", deaf_to(OfferFailed), dying("hub", (1, False, False), (2, True, True)),
    ),
    "forgets_what_it_wanted": (
        Forwarder, "resume", lambda _: lambda self: [],
        dying("hub", (2, True, False), (3, True, False), (4, True, False)),
    ),
    "fails_what_is_wedged": (
        ForwardDriver, "stopped", fails_what_is_wedged,
        closing.test_a_preimage_that_is_registered_after_the_next_channel_closed_is_claimed_upstream,
    ),
    "forgets_what_layer_1_undid": (
        ForwardDriver, "stopped", forgets_what_layer_1_undid,
        closing.test_an_offer_that_layer_1_never_saw_goes_back_when_it_has_settled,
    ),
    "gives_back_what_a_copy_finds": (
        ForwardDriver, "_is_unsure", lambda _: lambda self: False,
        lost_hubs.test_a_hub_put_back_from_a_copy_gives_nothing_back_that_it_may_have_forwarded,
    ),
    "deaf_to_preimages": (
        ForwardDriver, "_step", deaf_to(PreimageSeen),
        closing.test_a_payer_that_closes_pays_by_the_registry,
    ),
    "tells_the_end_before_the_preimage": (
        Locking, "_settle_lock", tells_the_end_before_the_preimage,
        dying_before_it_was_told,
    ),
}  # fmt: skip
"""Where, what, how it is broken, and what notices."""


@pytest.fixture
async def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_scrypt: None) -> AsyncIterator[Row]:
    monkeypatch.setattr(dealing, "RETRY_S", 0.005)
    async with row(tmp_path, monkeypatch, "alice", "hub", "bob") as found:
        yield found


@pytest.mark.parametrize("name", MUTANTS)
async def test_dies(name: str, three: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    where, method, mutant, story = MUTANTS[name]
    three.patience_s = 4
    monkeypatch.setattr(where, method, mutant(getattr(where, method)))
    with pytest.raises((AssertionError, LocalError, TimeoutError)):
        await story(three)
