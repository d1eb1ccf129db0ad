"""Fake disks and clocks do what real ones do at their worst."""

from __future__ import annotations

from random import Random

import pytest

from tests.simulation.clocks import START_WALL_MS, Clock
from tests.simulation.disk import Disk, Journal
from tests.simulation.kernel import MS, World

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
    for write in (lambda: journal.append(b"late"), journal.sync, lambda: journal.compact([])):
        with pytest.raises(AssertionError, match="dead"):
            write()


def test_a_copy_is_of_its_day() -> None:
    disk, journal = journal_in_a_turn()
    yesterday = disk.copy()
    journal.sync()
    disk.checkpoint = [b"new"]
    assert disk.records == SYNCED + TURN
    disk.restore(yesterday)
    assert (disk.records, disk.checkpoint, disk.generation) == (SYNCED, None, 1)


def test_a_clock_jumps_and_drifts_and_only_the_wall_clock_does() -> None:
    world = World(0)
    clock, other = Clock(world, 0), Clock(world, 1)
    clock.set(-5_000, 50_000)
    world.run(10_000 * MS)
    assert clock.now().wall_ms == START_WALL_MS + 10_000 - 5_000 + 500
    assert clock.now().monotonic_ms != other.now().monotonic_ms, "nobody may compare the two"
    assert world.now_us == clock.world_us(clock.now().monotonic_ms) == other.world_us(other.now().monotonic_ms)
