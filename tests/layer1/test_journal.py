"""The journal against a list, and against crashes, damage and a disk that fails."""

from __future__ import annotations

import os
import shutil
import stat
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from layer1 import journal as journal_module
from layer1.errors import LocalError
from layer1.journal import FILL_BYTES, HEADER_BYTES, Journal, has_segments

SMALL = 2 * HEADER_BYTES
records_strategy = st.lists(st.binary(max_size=300), max_size=8)


class Crash(BaseException):
    """The process ends here."""


def write(directory: Path, *turns: list[bytes], segment_bytes: int = SMALL) -> None:
    with Journal.open(directory, segment_bytes=segment_bytes) as journal:
        for turn in turns:
            for record in turn:
                journal.append(record)
            journal.sync()


def read(directory: Path) -> list[bytes]:
    with Journal.open(directory, segment_bytes=SMALL) as journal:
        return list(journal.replay())


def segment_path(directory: Path, index: int = -1) -> Path:
    return sorted(directory.glob("segment-*"))[index]


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def used_bytes(path: Path) -> int:
    return len(path.read_bytes().rstrip(b"\0"))


def test_opening_takes_no_memory_for_what_is_reserved(tmp_path: Path) -> None:
    """A heap that was once so large stays so: a wallet that reads 16 MiB at its start has them to its end."""
    write(tmp_path, [b"x" * 1_000], segment_bytes=8 * 2**20)
    tracemalloc.start()
    try:
        with Journal.open(tmp_path) as journal:
            assert list(journal.replay()) == [b"x" * 1_000]
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_new_journal_is_empty_private_and_of_generation_1(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "a" / "b") as journal:
        assert journal.generation == 1
        assert list(journal.replay()) == []
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert stat.S_IMODE(segment_path(tmp_path / "a" / "b").stat().st_mode) == 0o600


class AgainstAList(RuleBasedStateMachine):
    """Durable records are those of the last sync; a crash forgets exactly the rest."""

    numbers = count()

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(str(self.base)) / str(next(self.numbers))
        self.journal = Journal.open(self.directory, segment_bytes=SMALL)
        self.durable: list[bytes] = []
        self.buffered: list[bytes] = []
        self.generation = 1

    base: Path

    @rule(records=records_strategy)
    def append(self, records: list[bytes]) -> None:
        for record in records:
            self.journal.append(record)
        self.buffered += records

    @rule()
    def sync(self) -> None:
        self.journal.sync()
        self.durable += self.buffered
        self.buffered = []

    @rule(size=st.integers(3000, 20_000))
    def append_large(self, size: int) -> None:
        self.append([bytes([size % 255 + 1]) * size])

    @rule(keep=st.integers(0, 3), rise=st.integers(0, 2))
    def compact(self, keep: int, rise: int) -> None:
        self.generation += rise
        self.durable = self.durable[-keep:] if keep else []
        self.journal.compact(iter(self.durable), generation=self.generation)

    @rule()
    def restart(self) -> None:
        self.journal.close()
        self.buffered = []
        self.journal = Journal.open(self.directory, segment_bytes=SMALL)
        assert list(self.journal.replay()) == self.durable
        assert self.journal.dropped_bytes == 0

    @invariant()
    def size_and_generation_are_right(self) -> None:
        assert self.journal.generation == self.generation
        sizes = [max(HEADER_BYTES, used_bytes(path)) for path in self.directory.glob("segment-*")]
        assert sum(sizes) <= self.journal.size_bytes

    def teardown(self) -> None:
        self.restart()
        self.journal.close()


@pytest.mark.slow
def test_against_a_list(tmp_path: Path) -> None:
    AgainstAList.base = tmp_path
    few = settings(max_examples=40, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(AgainstAList, settings=few)


def test_records_span_segments_and_one_may_exceed_a_segment(tmp_path: Path) -> None:
    turns = [[bytes([n]) * 3000] for n in range(5)] + [[b"x" * 50_000], [b"end"]]
    write(tmp_path, *turns)
    assert len(list(tmp_path.glob("segment-*"))) > 4
    assert read(tmp_path) == [turn[0] for turn in turns]


def test_one_sync_is_one_write_and_one_fdatasync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    with Journal.open(tmp_path) as journal:
        for name in ("pwrite", "fdatasync", "fsync"):
            spy(monkeypatch, name, calls)
        journal.append(b"a")
        journal.append(b"b")
        journal.sync()
        journal.sync()
    assert calls == ["pwrite", "fdatasync"]


def test_space_is_written_in_large_pieces_before_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system notes once for many turns that blocks were written; and nobody reads what stands behind the end."""
    ends: list[int] = []
    real, size = os.pwrite, 3 * FILL_BYTES - 100

    def pwrite(file: int, data: bytes, offset: int) -> int:
        ends.append(offset + len(data))
        return real(file, data, offset)

    with Journal.open(tmp_path, segment_bytes=size) as journal:
        monkeypatch.setattr(os, "pwrite", pwrite)
        for _ in range(9):
            journal.append(b"x" * 20_000)
            journal.sync()
        lasts = [min(-(-end // FILL_BYTES) * FILL_BYTES, size) for end in ends]
        filling = [end for i, end in enumerate(ends) if i == 0 or lasts[i] != lasts[i - 1]]
        assert filling == [FILL_BYTES, 2 * FILL_BYTES, size] and len(ends) == 9
        assert segment_path(tmp_path).stat().st_size == size
    assert read(tmp_path) == [b"x" * 20_000] * 9
    with Journal.open(tmp_path, segment_bytes=size) as again:
        assert again.dropped_bytes == 0


def spy(monkeypatch: pytest.MonkeyPatch, name: str, calls: list[str]) -> None:
    real = getattr(os, name)

    def called(*arguments: Any) -> Any:
        calls.append(name)
        return real(*arguments)

    monkeypatch.setattr(os, name, called)


def test_a_write_torn_at_any_byte_is_dropped(tmp_path: Path) -> None:
    """What a crash leaves of the last turn: a prefix of it, in reserved space."""
    write(tmp_path / "j", [b"one"], [b"two"])
    path = segment_path(tmp_path / "j")
    before = used_bytes(path)
    write(tmp_path / "j", [b"three", b"four"])
    data, after = path.read_bytes(), used_bytes(path)
    for end in range(before, after):
        path.write_bytes(data[:end].ljust(len(data), b"\0"))
        with Journal.open(tmp_path / "j", segment_bytes=SMALL) as journal:
            assert list(journal.replay()) == [b"one", b"two"]
            assert journal.dropped_bytes == len(data[before:end].rstrip(b"\0"))
            journal.append(b"new")
            journal.sync()
        assert read(tmp_path / "j") == [b"one", b"two", b"new"]


@pytest.mark.slow
@given(lost=st.sets(st.integers(0, 40)), seed=st.binary(min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
def test_a_write_may_lose_any_of_its_sectors(
    tmp_path_factory: pytest.TempPathFactory, lost: set[int], seed: bytes
) -> None:
    """Sectors reach the disk in any order: the first may be lost while sound records follow."""
    directory = tmp_path_factory.mktemp("torn")
    write(directory, [b"kept"], segment_bytes=2**15)
    path = segment_path(directory)
    before = path.read_bytes()
    records = [seed * n for n in range(1, 90)]
    write(directory, records)
    data = bytearray(path.read_bytes())
    for sector in lost:
        place = slice(HEADER_BYTES + 512 * sector, HEADER_BYTES + 512 * (sector + 1))
        data[place] = before[place]
    torn = bytes(data) != path.read_bytes()
    path.write_bytes(data)
    assert read(directory) == ([b"kept"] if torn else [b"kept", *records])


def test_a_file_cut_short_at_any_byte_is_refused(tmp_path: Path) -> None:
    """Segments get their size before their name: no crash shortens one."""
    write(tmp_path, [b"one"], [b"two"])
    path = segment_path(tmp_path)
    data = path.read_bytes()
    for size in [*range(0, HEADER_BYTES, 64), *range(HEADER_BYTES, used_bytes(path) + 9), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(LocalError, match="damaged at byte"):
            read(tmp_path)


def test_a_flipped_bit_before_the_last_turn_is_refused_and_named(tmp_path: Path) -> None:
    write(tmp_path, [b"one", b"two"], [b"three"])
    path = segment_path(tmp_path)
    first_turn = journal_module._TURN.size + 4 + 3 + 4 + 3
    for offset in [*range(0, 60), *range(HEADER_BYTES, HEADER_BYTES + first_turn)]:
        flip(path, offset)
        with pytest.raises(LocalError, match=f"{path.name}: damaged at byte .*Do not continue"):
            read(tmp_path)
        flip(path, offset)
    assert read(tmp_path) == [b"one", b"two", b"three"]


def test_a_flipped_bit_in_the_last_turn_drops_it(tmp_path: Path) -> None:
    """It looks like a torn write; the generation that peers remember is against this loss."""
    write(tmp_path / "j", [b"one"], [b"two"])
    path = segment_path(tmp_path / "j")
    for offset in range(used_bytes(path) - journal_module._TURN.size - 7, used_bytes(path)):
        shutil.copytree(tmp_path / "j", tmp_path / str(offset))
        flip(segment_path(tmp_path / str(offset)), offset)
        assert read(tmp_path / str(offset)) == [b"one"]


def test_a_flipped_bit_anywhere_in_an_earlier_segment_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [b"x" * 3000], [b"y" * 3000], [b"z"])
    path = segment_path(tmp_path, 0)
    for offset in (HEADER_BYTES + 9, HEADER_BYTES + 2000, path.stat().st_size - 1):
        flip(path, offset)
        with pytest.raises(LocalError, match=path.name):
            read(tmp_path)
        flip(path, offset)


def test_a_missing_segment_is_refused(tmp_path: Path) -> None:
    write(tmp_path, *[[bytes(3000)] for _ in range(4)])
    segment_path(tmp_path, 1).unlink()
    with pytest.raises(LocalError, match="missing"):
        read(tmp_path)


def test_a_segment_of_another_set_or_place_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "j", [b"x" * 3000], [b"y" * 3000])
    write(tmp_path / "other", [b"x" * 3000], [b"y" * 3000])
    shutil.copy(segment_path(tmp_path / "j", 0), segment_path(tmp_path / "j", 1))
    with pytest.raises(LocalError, match="its header is of segment 1"):
        read(tmp_path / "j")
    with Journal.open(tmp_path / "other", segment_bytes=SMALL) as journal:
        old = segment_path(tmp_path / "other", 0).read_bytes()
        journal.compact([b"z"], generation=2)
        journal.append(b"z" * 8000)
        journal.sync()
    segment_path(tmp_path / "other", 0).write_bytes(old)
    with pytest.raises(LocalError, match="its header is of segment 1"):
        read(tmp_path / "other")


def test_damage_in_what_a_compaction_settled_is_refused_even_at_the_end(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.compact([b"one"])
    flip(segment_path(tmp_path), HEADER_BYTES + journal_module._TURN.size + 5)
    with pytest.raises(LocalError, match="a compaction wrote up to"):
        read(tmp_path)


def test_a_record_that_contains_a_turn_does_not_pass_for_one(tmp_path: Path) -> None:
    write(tmp_path / "a", [b"one"])
    turn = segment_path(tmp_path / "a").read_bytes()[HEADER_BYTES : used_bytes(segment_path(tmp_path / "a"))]
    write(tmp_path / "j", [b"first"], [turn * 3])
    path = segment_path(tmp_path / "j")
    flip(path, used_bytes(path) - 1)
    assert read(tmp_path / "j") == [b"first"]


def test_a_compaction_keeps_what_waits_for_the_next_sync(tmp_path: Path) -> None:
    with Journal.open(tmp_path, segment_bytes=SMALL) as journal:
        journal.append(b"old")
        journal.sync()
        journal.append(b"waiting")
        journal.compact([b"new"], generation=3)
        journal.sync()
    with Journal.open(tmp_path) as journal:
        assert list(journal.replay()) == [b"new", b"waiting"]
        assert journal.generation == 3
        with pytest.raises(LocalError, match="generation 2 is below the journal's 3"):
            journal.compact([], generation=2)


def test_a_compaction_may_read_the_replay_and_span_many_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "COMPACTION_TURN_BYTES", 100)
    records = [bytes([n]) * 60 for n in range(200)]
    write(tmp_path, records)
    with Journal.open(tmp_path, segment_bytes=SMALL) as journal:
        journal.compact(record for record in journal.replay() if record[0] % 2)
    assert read(tmp_path) == records[1::2]


def test_a_compaction_whose_records_fail_changes_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[bytes]:
        yield b"new"
        raise ValueError("ours")

    write(tmp_path, [b"old"])
    with Journal.open(tmp_path) as journal:
        with pytest.raises(ValueError, match="ours"):
            journal.compact(failing())
        journal.append(b"more")
        journal.sync()
    assert read(tmp_path) == [b"old", b"more"]


MUTATING = ("pwrite", "fsync", "fdatasync", "rename", "posix_fallocate", "unlink", "open")


def crash_at(monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException) -> Callable[[], int]:
    """Let the ``step``-th of the calls that change the disk raise ``error``; counts the calls."""
    calls = count()
    seen = [0]

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            seen[0] += 1
            if next(calls) == step:
                raise error
            return real(*arguments, **options)

        return called

    for name in MUTATING:
        monkeypatch.setattr(os, name, wrap(getattr(os, name)))
    return lambda: seen[0]


def crashing(directory: Path, work: Callable[[Journal], None], error: BaseException) -> Iterator[Path]:
    """Copies of ``directory``, one for each step at which ``work`` was cut off, and a last one uncut."""
    for step in count():
        copy = directory.with_name(f"{directory.name}-{step}")
        shutil.copytree(directory, copy)
        journal = Journal.open(copy, segment_bytes=SMALL)
        with pytest.MonkeyPatch.context() as monkeypatch:
            calls = crash_at(monkeypatch, step, error)
            with suppress(Crash, LocalError):
                work(journal)
            done = calls() <= step
        if not done:
            with pytest.raises(LocalError, match="frozen"):
                journal.append(b"after")
        journal.close()
        yield copy
        if done:
            return


@pytest.mark.parametrize("error", [Crash(), OSError(28, "No space left on device")])
def test_a_compaction_cut_off_at_any_step_leaves_old_or_new(tmp_path: Path, error: BaseException) -> None:
    old, new = [b"x" * 3000, b"y" * 3000, b"z"], [b"n" * 9000, b"m"]
    write(tmp_path / "j", *[[record] for record in old])
    outcomes = [
        read(copy) for copy in crashing(tmp_path / "j", lambda journal: journal.compact(new, generation=2), error)
    ]
    assert old in outcomes and outcomes[-1] == new
    assert all(outcome in (old, new) for outcome in outcomes)
    assert outcomes == sorted(outcomes, key=lambda outcome: outcome == new), "once new, always new"


@pytest.mark.parametrize("error", [Crash(), OSError(5, "Input/output error")])
def test_a_sync_cut_off_at_any_step_keeps_all_that_was_confirmed(tmp_path: Path, error: BaseException) -> None:
    """Also when the turn opens a new segment."""

    def work(journal: Journal) -> None:
        for record in (b"b" * 3000, b"c" * 3000):
            journal.append(record)
            journal.sync()

    write(tmp_path / "j", [b"a"])
    wanted = [b"a", b"b" * 3000, b"c" * 3000]
    outcomes = [read(copy) for copy in crashing(tmp_path / "j", work, error)]
    assert outcomes[-1] == wanted
    assert all(outcome == wanted[: len(outcome)] and outcome for outcome in outcomes)


def test_a_crash_while_opening_a_torn_journal_loses_nothing(tmp_path: Path) -> None:
    write(tmp_path / "j", [b"kept"], [b"torn"])
    flip(segment_path(tmp_path / "j"), used_bytes(segment_path(tmp_path / "j")) - 1)
    for step in count():
        copy = tmp_path / str(step)
        shutil.copytree(tmp_path / "j", copy)
        with pytest.MonkeyPatch.context() as monkeypatch, suppress(Crash):
            calls = crash_at(monkeypatch, step, Crash())
            read(copy)
        assert read(copy) == [b"kept"]
        if calls() <= step:
            break


def test_a_second_opener_is_refused(tmp_path: Path) -> None:
    with Journal.open(tmp_path), pytest.raises(LocalError, match="another process holds the journal"):
        Journal.open(tmp_path)
    Journal.open(tmp_path).close()


def test_a_disk_that_does_not_confirm_freezes_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_file: int) -> None:
        raise OSError(5, "Input/output error")

    journal = Journal.open(tmp_path)
    journal.append(b"a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing)
        with pytest.raises(LocalError, match=r"frozen: syncing it failed .*Input/output"):
            journal.sync()
    for again in (journal.sync, lambda: journal.append(b"b"), lambda: journal.compact([]), journal.replay):
        with pytest.raises(LocalError, match="frozen"):
            again()
    journal.close()


def test_opening_confirms_a_turn_that_only_memory_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed sync the system may forget what the disk still lacks: the last turn is written again."""
    write(tmp_path, [b"one"], [b"two"])
    written: list[bytes] = []
    real = os.pwrite

    def pwrite(file: int, data: bytes, offset: int) -> int:
        written.append(data)
        return real(file, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    assert read(tmp_path) == [b"one", b"two"]
    assert any(b"two" in data and b"one" not in data for data in written)


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: real(file, data[:10], offset))
    write(tmp_path, [b"a record longer than ten bytes"])
    monkeypatch.undo()
    assert read(tmp_path) == [b"a record longer than ten bytes"]


def test_misuse_is_refused_in_clear_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LocalError, match="segments of 100 bytes are too small: use 8192"):
        Journal.open(tmp_path, segment_bytes=100)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LocalError, match="cannot open the journal"):
        Journal.open(tmp_path / "file")
    with Journal.open(tmp_path / "j") as journal:
        journal.replay()
        with pytest.raises(LocalError, match="replayed already"):
            journal.replay()
        monkeypatch.setattr(journal_module, "MAX_RECORD_BYTES", 4)
        with pytest.raises(LocalError, match="a record of 5 bytes exceeds 4"):
            journal.append(b"12345")
        journal.append(b"1234")
    with pytest.raises(LocalError, match="is closed"):
        journal.append(b"")
    journal.close()


def test_a_replay_overtaken_by_a_compaction_says_so(tmp_path: Path) -> None:
    write(tmp_path, [b"one"])
    with Journal.open(tmp_path) as journal:
        late = journal.replay()
        journal.compact([])
        with pytest.raises(LocalError, match="replay before compacting"):
            list(late)


# ------------------------------------------------------------------------------------- in place of one that was lost


def test_a_journal_is_created_with_its_contents_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that lost its journal must not find an empty one of generation 1 after a crash."""
    directory = tmp_path / "journal"
    rename = os.rename

    def crash(before: Path, after: Path) -> None:
        if after == directory:
            raise Crash
        rename(before, after)

    monkeypatch.setattr(os, "rename", crash)
    with pytest.raises(Crash):
        Journal.create(directory, [b"votes from"], 7)
    assert not directory.exists()
    monkeypatch.setattr(os, "rename", rename)
    Journal.create(directory, [b"votes from"], 7)
    with Journal.open(directory) as journal:
        assert (journal.generation, list(journal.replay())) == (7, [b"votes from"])
    with pytest.raises(LocalError, match="is there already"):
        Journal.create(directory, [], 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal"]


def test_a_journal_in_use_is_not_set_aside(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    with Journal.open(directory), pytest.raises(LocalError, match="another process holds"):
        journal_module.set_aside(directory)
    assert journal_module.set_aside(directory) == tmp_path / "journal.lost-1"
    write(directory, [b"a"])
    assert journal_module.set_aside(directory) == tmp_path / "journal.lost-2"
    assert read(tmp_path / "journal.lost-2") == [b"a"]


def test_the_generation_of_a_damaged_journal_is_read_where_it_can_be(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    assert journal_module.generation_of(directory) == 0
    with Journal.open(directory, segment_bytes=SMALL) as journal:
        journal.compact([b"a"], generation=5)
    write(directory, *[[bytes(3_000)]] * 5)
    flip(segment_path(directory), 3)
    with pytest.raises(journal_module.Damaged, match="damaged at byte 0"):
        read(directory)
    assert journal_module.generation_of(directory) == 5
    for path in directory.glob("segment-*"):
        path.write_bytes(b"")
    assert journal_module.generation_of(directory) == 0


def test_whether_there_is_a_journal_is_said_or_refused_never_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty directory is none, and so is a lock alone; who may not look must not be told that it is lost."""
    assert not has_segments(tmp_path / "none")
    (tmp_path / "file").touch()
    assert not has_segments(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "lock").touch()
    assert not has_segments(tmp_path / "empty")
    write(tmp_path / "a", [b"x"])
    flip(segment_path(tmp_path / "a"), 3)
    assert has_segments(tmp_path / "a"), "a damaged one is one"

    def refuse(_: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(LocalError, match=r"Permission denied.*check path, owner and mode"):
        has_segments(tmp_path / "a")
