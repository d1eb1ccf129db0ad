"""Fake disks and clocks do what real ones do at their worst."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from tests.simulation.clocks import START_WALL_MS, Clock
from tests.simulation.disk import Disk, Journal
from tests.simulation.kernel import MS, World
from tests.simulation.replica import Replica
from tests.simulation.scenario import Options, Scenario

SYNCED, TURN = [b"one", b"two"], [b"three", b"four", b"five"]


def journal_in_a_turn() -> tuple[Disk, Journal]:
    disk = Disk()
    journal = Journal(disk)
    for record in SYNCED:
        journal.append(record)
    journal.sync()
    for record in TURN:
        journal.append(record)
    return disk, journal


def test_a_crash_loses_what_was_not_synced() -> None:
    disk, journal = journal_in_a_turn()
    assert journal.crash(Random(0), while_syncing=False) == 0
    assert disk.records == SYNCED


def test_a_crash_while_syncing_leaves_any_part_of_the_turn_from_its_start_on() -> None:
    left = set()
    for seed in range(100):
        disk, journal = journal_in_a_turn()
        kept = journal.crash(Random(seed), while_syncing=True)
        assert disk.records == SYNCED + TURN[:kept]
        left.add(kept)
    assert left == {0, 1, 2, 3}


def test_a_dead_process_writes_nothing() -> None:
    _, journal = journal_in_a_turn()
    journal.crash(Random(0), while_syncing=False)
    with pytest.raises(AssertionError, match="dead"):
        journal.append(b"late")
    with pytest.raises(AssertionError, match="dead"):
        journal.sync()
    with pytest.raises(AssertionError, match="dead"):
        journal.compact([])


def test_a_copy_is_of_its_day() -> None:
    disk, journal = journal_in_a_turn()
    yesterday = disk.copy()
    journal.sync()
    disk.checkpoint = [b"new"]
    assert disk.records == SYNCED + TURN
    disk.restore(yesterday)
    assert disk.records == SYNCED and disk.generation == 1
    assert disk.checkpoint is None


def test_a_clock_jumps_and_drifts_and_only_the_wall_clock_does() -> None:
    world = World(0)
    clock, other = Clock(world, 0), Clock(world, 1)
    clock.set(-5_000, 50_000)
    world.run(10_000 * MS)
    assert clock.now().wall_ms == START_WALL_MS + 10_000 - 5_000 + 500
    assert clock.now().monotonic_ms != other.now().monotonic_ms, "nobody may compare the two"
    assert world.now_us == clock.world_us(clock.now().monotonic_ms) == other.world_us(other.now().monotonic_ms)


class Stage:
    """One replica of a calm network, stopped at the moment in which its next sync is under way."""

    def __init__(self) -> None:
        self.scenario = Scenario(Options(seed=2, duration_ms=1_000, pause_ms=50))
        self.replica = self.scenario.replicas[1]
        self.sent: list[bytes] = []
        self.scenario.world.schedule(300 * MS, self._watch)

    def _watch(self) -> None:
        send = self.replica.network.send

        def note(sender: str, peer: int | None, data: bytes) -> None:
            if sender == self.replica.name:
                self.sent.append(data)
            send(sender, peer, data)

        self.replica.network.send = note  # type: ignore[method-assign]

    def run_to_strike(self, strike: Callable[[], None]) -> tuple[int, int]:
        """Let this happen in the middle of the next sync: how many records were durable and how many were not."""
        found: list[tuple[int, int]] = []

        def stop() -> None:
            life = self.replica.life
            assert life is not None and life.syncing
            found.append((len(self.replica.disk.records), life.journal.unsynced))
            self.sent.clear()
            strike()

        def arm() -> None:
            self.replica.at_sync = stop

        self.scenario.world.schedule(500 * MS, arm)
        self.scenario.safety_phase()
        return found[0]


def test_a_process_stopped_during_its_sync_sends_when_it_goes_on() -> None:
    """Its records are durable; what waited for them leaves much later, and nothing in between."""
    stage = Stage()
    replica, world = stage.replica, stage.scenario.world
    durable, unsynced = stage.run_to_strike(lambda: replica.pause(5_000 * MS))
    assert unsynced > 0
    assert len(replica.disk.records) == durable + unsynced, "one turn was synced, and no other begun"
    assert world.stats["turns held"] == 1 and not stage.sent
    world.run(world.now_us + 5_000 * MS)
    assert not replica.paused and stage.sent


def test_a_process_killed_while_it_is_held_sends_nothing() -> None:
    """What was synced stays; what waited for it is gone."""
    stage = Stage()
    replica = stage.replica
    durable, unsynced = stage.run_to_strike(lambda: replica.pause(5_000 * MS))
    replica.kill()
    replica.resume()
    assert len(replica.disk.records) == durable + unsynced and not stage.sent


def test_a_process_killed_during_its_sync_sends_nothing() -> None:
    """Any part of the turn is left."""
    stage = Stage()
    replica = stage.replica
    durable, unsynced = stage.run_to_strike(replica.kill)
    assert durable <= len(replica.disk.records) <= durable + unsynced
    assert not replica.alive and not stage.sent
    assert stage.scenario.world.stats["kills while syncing"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("term_views", [1, 8])
def test_replicas_survive_torn_turns(monkeypatch: pytest.MonkeyPatch, term_views: int) -> None:
    """The power goes in the middle of a sync, again and again, at any of them: what is left contradicts nothing."""
    takes_us, torn = Replica._sync_us, 0

    def tear(self: Replica) -> int:
        us = takes_us(self)
        if self.world.now_us < 2_000 * MS and self._random.random() < 0.1:
            self.world.after(us // 2, self.kill)
            self.world.after(us // 2 + self._random.randint(1, 300) * MS, self.start)
        return us

    monkeypatch.setattr(Replica, "_sync_us", tear)
    for seed in range(5):
        result = Scenario(Options(seed, term_views=term_views, duration_ms=2_000, pause_ms=100)).run()
        assert not result.error, f"{result.options}: {result.error}"
        torn += result.stats["turns torn"]
    assert torn > 10
