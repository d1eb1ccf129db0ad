"""A core whose records stand between those of the groups: durable together, compacted and handed over together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from layer1.codec import encode
from layer1.crypto import Hash
from layer1.errors import LocalError
from layer1.journal import Journal
from layer2.driver import GroupHost
from layer2.payments import pay
from layer2.records import Noted
from layer2.value import Group
from tests.layer2.test_driver import GROUP, Pair, Side, settled, sides  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("sides")


class Notes:
    """Notes each version that is signed, the newest of each group alone; damaged by what says so."""

    def __init__(self) -> None:
        self.known: list[bytes] = []
        self.signed: list[int] = []

    def replay(self, record: bytes) -> None:
        if record == b"damaged":
            raise LocalError("it does not fit")
        self.known.append(record)

    def records(self) -> Iterable[bytes]:
        return list(self.known)

    def clear(self) -> None:
        self.known.clear()

    def signing(self, group_id: Hash, before: Group, after: Group, effects: Sequence[Any]) -> Iterable[bytes]:
        if after.highest.version == before.highest.version:
            return ()
        self.known.append(b"signed %d" % after.highest.version)
        return (self.known[-1],)


def restart(side: Side) -> Notes:
    """As after a crash: what was not synced is gone."""
    side.journal.close()
    notes = Notes()
    side.start(companion=notes)
    return notes


async def test_what_is_noted_at_a_signature_is_durable_with_it(sides: Pair) -> None:  # noqa: F811
    """Cut the journal anywhere: no signature without its note, and no note without its signature."""
    for side in (sides.a, sides.b):
        restart(side)
    seen: list[tuple[int, list[bytes]]] = []
    original = sides.a.journal.sync

    def sync() -> None:
        original()
        copy = sides.a.path.with_name("copy")
        for path in sides.a.path.iterdir():
            copy.mkdir(exist_ok=True)
            (copy / path.name).write_bytes(path.read_bytes())
        notes = Notes()
        journal = Journal.open(copy)
        other = GroupHost(
            journal, sides.a.link_key, sides.a.host.chain_id, machines=sides.a.host._machines,
            observer=sides.a.log, group_key=sides.a.host._group_key, companion=notes,
        )  # fmt: skip
        seen.append((other.groups[GROUP].highest.version, notes.known))
        journal.close()

    sides.a.journal.sync = sync  # type: ignore[method-assign]
    await sides.connect()
    for _ in range(3):
        await sides.a.host.submit(GROUP, pay(1, 1))
    await settled()
    assert {version for version, _ in seen} >= {1, 2, 3}
    for version, known in seen:
        assert known == [b"signed %d" % each for each in range(1, version + 1)]


async def test_a_note_is_durable_before_what_is_issued_after_it(sides: Pair) -> None:  # noqa: F811
    """And a crash before the turn ends forgets it, with all that was issued."""
    restart(sides.b)
    await sides.connect()
    sides.b.host.note(b"this becomes that")
    assert restart(sides.b).known == [], "nothing was synced"
    await sides.connect()
    sides.b.host.note(b"this becomes that")
    link, unsynced = sides.b.host._links[sides.a.link_key.public], list[bytes]()
    send = link.send_nowait

    def spy(data: bytes) -> bool:
        unsynced.append(bytes(sides.b.journal._buffer))
        return send(data)

    link.send_nowait = spy  # type: ignore[method-assign]
    await sides.b.host.submit(GROUP, pay(0, 5))
    assert unsynced and not any(unsynced), "it left before the note was durable"
    notes = restart(sides.b)
    assert notes.known[0] == b"this becomes that" and sides.b.group.state.body.balances == (1005, 995)


async def test_a_disk_that_fails_takes_note_and_signature(sides: Pair) -> None:  # noqa: F811
    restart(sides.a)
    await sides.connect()

    def fail() -> None:
        raise LocalError("the disk is gone")

    sides.a.journal.sync = fail  # type: ignore[method-assign]
    sides.a.host.note(b"never confirmed")
    with pytest.raises(LocalError, match="the disk is gone"):
        sides.a.host.end_turn()
    assert sides.a.group.frozen and restart(sides.a).known == []


async def test_a_compaction_keeps_what_the_companion_needs(sides: Pair) -> None:  # noqa: F811
    notes = restart(sides.a)
    await sides.connect()
    for _ in range(3):
        await sides.a.host.submit(GROUP, pay(1, 1))
    notes.known[:] = notes.known[-1:]
    sides.a.host.compact()
    assert restart(sides.a).known == [b"signed 3"] and sides.a.group.version == 3


async def test_a_standby_gets_it_and_a_handover_replaces_it(tmp_path: Path, sides: Pair) -> None:  # noqa: F811
    """By turns (`take`) and as a whole (`swap`); one that does not fit changes nothing."""
    head = restart(sides.a)
    await sides.connect()
    await sides.a.host.submit(GROUP, pay(1, 1))
    sides.a.host.end_turn()
    other, follower = Side(tmp_path / "standby", 0), Notes()
    other.journal.close()
    other.start(companion=follower)
    other.host.swap(sides.a.host.everything())
    assert follower.known == head.known == [b"signed 1"] and other.group.version == 1
    sides.a.host.note(b"later")
    other.host.take(sides.a.host._records)
    other.host.end_turn()
    assert follower.known == [b"signed 1", b"later"]
    with pytest.raises(LocalError, match="does not fit"):
        other.host.swap([*sides.a.host.everything(), encode(Noted(b"damaged"))])
    assert follower.known == [b"signed 1", b"later"]
    assert restart(other).known == [b"signed 1", b"later"]
    other.journal.close()


async def test_a_host_without_a_companion_loses_nothing_of_it(sides: Pair) -> None:  # noqa: F811
    """A wallet that is opened by something older, or by a tool, leaves what it does not read."""
    restart(sides.a)
    sides.a.host.note(b"kept")
    sides.a.host.end_turn()
    sides.a.journal.close()
    sides.a.start()
    sides.a.host.compact()
    assert restart(sides.a).known == [b"kept"]
