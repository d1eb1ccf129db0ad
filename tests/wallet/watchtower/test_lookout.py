"""How a tower watches and answers: rules 9, 17 and 18, decision 032."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs

from layer1.errors import LocalError, Refused
from layer1.ledger.records import Group
from layer2.tower import Guarded
from tests.layer2.harness import agreement
from tests.layer2.tower_world import Watched
from tests.wallet.watchtower.standins import Records
from wallet.watchtower import lookout
from wallet.watchtower.lookout import CAUGHT_UP_BLOCKS, LOOKS_PER_PERIOD, NO_HURRY, SAVED_EVERY, Lookout
from wallet.watchtower.store import TowerStore


def guarded(version: int, number: int = 0, period_ms: int = 3_600_000) -> tuple[Watched, Guarded]:
    terms = structs.replace(agreement(), salt=number.to_bytes(16, "big"), challenge_period_ms=period_ms)
    watched = Watched(terms)
    watched.entrust(version)
    return watched, watched.held[watched.customer(0)]


class Hill:
    """A lookout with its store and layer 1."""

    def __init__(self, path: Path) -> None:
        self.store = TowerStore(path / "tower.db")
        self.records = Records()
        self.lookout = Lookout(self.store, self.records)
        self.running: asyncio.Task[None] | None = None

    def hold(self, version: int, number: int = 0, period_ms: int = 3_600_000) -> Watched:
        watched, held = guarded(version, number, period_ms)
        self.store.write([held])
        self.records.groups[watched.id] = watched.open
        return watched

    def start(self) -> None:
        self.running = asyncio.create_task(self.lookout.run())

    async def listening(self) -> None:
        """Until events are followed."""
        await self.records.until(lambda: self.records.followed)

    async def stop(self) -> None:
        if self.running is not None:
            self.running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.running
            self.running = None


@pytest.fixture
async def hill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hill]:
    monkeypatch.setattr(lookout, "PAUSE_S", (0.001,))
    made = Hill(tmp_path)
    yield made
    await made.stop()
    made.store.close()


async def test_a_hint_is_looked_at_with_proof_and_answered(hill: Hill) -> None:
    """ "Hints first, looks for certain": an event says where to look, and nothing else."""
    watched = hill.hold(7)
    hill.store.write(height=10)
    hill.lookout = Lookout(hill.store, hill.records)
    hill.start()
    await hill.listening()
    hill.records.groups[watched.id] = watched.wedged(2)
    hill.records.tell("group", 11, group=watched.id.hex(), change="wedged", deadline=70_000)
    await hill.records.until(lambda: hill.records.brought)
    (report,) = hill.records.brought
    assert report.certificate == watched.certificate(7) and hill.lookout.reported == 1


async def test_a_liar_that_says_nothing_delays_it_by_an_eighth_of_the_period(hill: Hill) -> None:
    """ "Every group is looked at, with proof, eight times in its challenge period all the same."."""
    watched = hill.hold(7, period_ms=1_000)
    hill.start()
    await hill.listening()
    hill.records.groups[watched.id] = watched.wedged(2)
    started = asyncio.get_running_loop().time()
    await hill.records.until(lambda: hill.records.brought)
    assert asyncio.get_running_loop().time() - started < 5


def test_the_rounds_come_to_each_group_eight_times_a_period(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed, without a clock: the parts of as many ticks as a period has ask for each group so often at least."""
    hill = Hill(tmp_path)
    held = [guarded(1, number, 2**16)[1] for number in range(30)]
    hill.store.write(held)
    looks: list[bytes] = []
    monkeypatch.setattr(hill.lookout, "want", lambda group, deadline_ms=NO_HURRY: looks.append(group))
    place, tick_s = (b"", 0.0), 1.0
    for _ in range(2**16 // 1000 + 1):
        place = hill.lookout._part(16, 30, tick_s, *place)
    counts = {looks.count(each.group_id) for each in held}
    assert min(counts) >= LOOKS_PER_PERIOD - 1 and max(counts) <= LOOKS_PER_PERIOD + 1
    hill.store.close()


async def test_a_liar_that_hints_at_all_other_groups_without_end_hides_none(hill: Hill) -> None:
    """However many hints wait, a round takes in what is due by time: a flood of them must not hide a stale wedge."""
    victim = hill.hold(7, period_ms=1_000)
    others = [hill.hold(1, number, period_ms=1_000).id for number in range(1, 700)]
    hill.records.groups[victim.id] = victim.wedged(2)
    look = hill.records.look

    async def look_and_flood(group_id: bytes) -> Group | None:
        hill.lookout.want(group_id, 0)  # the liar's: at once, again and again
        return await look(group_id)

    for other in others:
        hill.lookout.want(other, 0)
    hill.records.look = look_and_flood  # type: ignore[method-assign]
    hill.start()
    await hill.records.until(lambda: hill.records.brought)
    assert hill.records.brought[0].certificate == victim.certificate(7)


async def test_it_reports_again_until_layer_1_took_it(hill: Hill) -> None:
    """Whatever is stale is reported, "again until layer 1 has it"."""
    watched = hill.hold(7)
    hill.records.groups[watched.id] = watched.wedged(2)
    hill.records.takes = False
    hill.start()
    await hill.records.until(lambda: len(hill.records.brought) >= 3)
    assert hill.lookout.reported == 0
    hill.records.takes = True
    before = len(hill.records.brought)
    await hill.records.until(lambda: len(hill.records.brought) > before)
    assert hill.lookout.reported >= 1


async def test_an_outage_of_layer_1_is_waited_for(hill: Hill) -> None:
    watched = hill.hold(7)
    hill.records.groups[watched.id] = watched.wedged(2)
    hill.records.reachable = False
    hill.start()
    hill.lookout.want(watched.id, 0)
    await asyncio.sleep(0.01)
    assert not hill.records.brought
    hill.records.reachable = True
    await hill.records.until(lambda: hill.records.brought)


async def test_in_an_outage_the_looks_wait_and_keep_their_turns(hill: Hill) -> None:
    """Each group's own attempts again and again would be 100,000 of them: there is one pause for all."""
    for number in range(20):
        hill.hold(7, number)
    hill.records.reachable = False
    for group in list(hill.records.groups):
        hill.lookout.want(group)
    await hill.lookout._look_at(hill.lookout._next_round())
    assert hill.lookout.behind == 20 and hill.lookout._attempts == {}
    hill.records.reachable = True
    again = hill.lookout._next_round()
    assert {deadline for deadline, _ in again} == {NO_HURRY}
    await hill.lookout._look_at(again)
    assert hill.lookout.behind == 0 and hill.lookout.looked == 20


async def test_after_an_outage_it_hears_what_it_missed(hill: Hill) -> None:
    """ "They are resumed where they were left, so that an outage of the tower loses none."."""
    hill.hold(7)
    hill.store.write(height=400)
    hill.records.height = 450
    hill.lookout = Lookout(hill.store, hill.records)
    hill.start()
    await hill.listening()
    assert hill.records.followed == [400] and hill.records.looks == []


@pytest.mark.parametrize("saved", [None, 1])
async def test_after_a_long_outage_it_looks_at_every_group(hill: Hill, saved: int | None) -> None:
    """Sooner done than reading all blocks; the groups with the shortest periods first."""
    slow, fast = hill.hold(7, 1, period_ms=90_000_000), hill.hold(7, 2, period_ms=9_000_000)
    hill.records.height = CAUGHT_UP_BLOCKS + 2
    hill.store.write(height=saved)
    hill.lookout = Lookout(hill.store, hill.records)
    hill.start()
    await hill.records.until(lambda: len(hill.records.looks) == 2)
    assert hill.records.looks == [fast.id, slow.id]
    await hill.listening()
    assert hill.records.followed == [hill.records.height]


async def test_where_events_are_pruned_it_looks_at_every_group(hill: Hill, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = hill.hold(7)
    hill.store.write(height=5)
    hill.lookout = Lookout(hill.store, hill.records)
    events, calls = hill.records.events, []

    def pruned(after: int | None) -> object:
        calls.append(after)
        if len(calls) == 1:
            raise Refused("pruned", "no replica keeps them")
        return events(after)

    monkeypatch.setattr(hill.records, "events", pruned)
    hill.start()
    await hill.records.until(lambda: watched.id in hill.records.looks)
    await hill.listening()
    assert calls == [5, 10]


async def test_how_far_it_heard_is_kept_now_and_then(hill: Hill) -> None:
    """A note of each block would be a sync for each; to hear some news twice costs a look."""
    hill.store.write(height=10)
    hill.lookout = Lookout(hill.store, hill.records)
    hill.start()
    await hill.listening()
    hill.records.tell("block", 11)
    hill.records.tell("block", 10 + SAVED_EVERY)
    heights: set[int | None] = set()

    def heard_all() -> bool:
        heights.add(hill.store.height)
        return 10 + SAVED_EVERY in heights

    await hill.records.settled(heard_all)
    assert heights == {10, 10 + SAVED_EVERY}, "not of each block"


async def test_a_closed_group_is_forgotten(hill: Hill) -> None:
    watched = hill.hold(7)
    hill.records.groups[watched.id] = watched.closed(7)
    hill.start()
    hill.lookout.want(watched.id, 0)
    await hill.records.settled(lambda: hill.store.groups == 0)


async def test_what_nobody_renewed_is_forgotten_when_its_receipt_is_over(hill: Hill) -> None:
    watched = hill.hold(7)
    held = hill.store.of_group(watched.id)[0]
    hill.records.clock = held.until_ms
    hill.start()
    hill.lookout.want(watched.id, 0)
    await hill.records.settled(lambda: hill.lookout.looked >= 1)
    assert hill.store.groups == 1
    hill.records.clock = held.until_ms + 1
    hill.lookout.want(watched.id, 0)
    await hill.records.settled(lambda: hill.store.groups == 0)


async def test_a_version_that_comes_in_a_dispute_is_reported(hill: Hill) -> None:
    """Its customer may wake up late: what comes after the first report goes to layer 1 too."""
    watched = hill.hold(3)
    hill.records.groups[watched.id] = watched.wedged(3)
    hill.start()
    hill.lookout.want(watched.id, 0)
    await hill.records.settled(lambda: hill.lookout.looked >= 1)
    watched.entrust(9)
    hill.store.write([watched.held[watched.customer(0)]])
    hill.lookout.kept(watched.id)
    await hill.records.until(lambda: hill.records.brought)
    assert hill.records.brought[0].certificate == watched.certificate(9)


def test_what_ends_soonest_goes_first(tmp_path: Path) -> None:
    hill = Hill(tmp_path)
    names = [bytes([n]) * 32 for n in range(4)]
    hill.lookout.want(names[0])
    hill.lookout.want(names[1], 900)
    hill.lookout.want(names[2], 100)
    hill.lookout.want(names[0], 500)
    hill.lookout.want(names[0])
    assert [group for _, group in hill.lookout._next_round()] == [names[2], names[0], names[1]]
    assert hill.lookout._next_round() == [] and hill.lookout.behind == 0
    hill.store.close()


async def test_a_store_that_fails_ends_the_watch(hill: Hill, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tower that only seems to watch is worse than one that is seen to have ended."""

    def broken(group_id: bytes) -> list[Guarded]:
        raise LocalError("the disk is gone")

    watched = hill.hold(7)
    monkeypatch.setattr(hill.store, "of_group", broken)
    hill.start()
    hill.lookout.want(watched.id, 0)
    assert hill.running is not None
    with pytest.raises(ExceptionGroup):
        await asyncio.wait_for(hill.running, 5)
    hill.running = None
