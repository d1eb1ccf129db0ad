"""Snapshots as files: served while a newer one takes their place, and theirs made ready only when it is the ledger."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from layer1.codec import decode, encode
from layer1.errors import LocalError
from layer1.ledger.image import Balances
from layer1.replica.checkpoints import Head
from layer1.replica.events import ChunkLoaded, LoadChunk, SaveSnapshot
from layer1.replica.snapshots import CHUNK_BYTES
from layer1.replica.snapshotting import IN_USE_S, KEPT, MOST_KEPT, SnapshotFiles
from layer1.storage.checkpoint import CheckpointFile, CheckpointReader, read_checkpoint
from tests.layer1.replica.network import GENESIS, Network
from tests.layer1.replica.test_checkpoints import ran


@pytest.fixture(scope="module")
def network() -> Network:
    return ran()


@pytest.fixture
def pieces(network: Network) -> list[bytes]:
    found = network.nodes[0].checkpoint
    assert found is not None
    return found


def height_of(pieces: list[bytes]) -> int:
    return decode(pieces[0], Head).header.height


def left_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


def write(path: Path, pieces: list[bytes]) -> None:
    file = CheckpointFile(path)
    for piece in pieces:
        file.add(piece)
    file.publish()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[SnapshotFiles]:
    found = SnapshotFiles(tmp_path / "checkpoint", tmp_path / "snapshot", GENESIS, None)
    yield found
    found.close()


def at_height(pieces: list[bytes], height: int) -> list[bytes]:
    """With another head; nothing judges it when it is served."""
    head = decode(pieces[0], Head)
    return [encode(replace(head, header=replace(head.header, height=height))), *pieces[1:]]


def test_a_peer_goes_on_with_a_snapshot_whose_name_a_newer_one_has(
    tmp_path: Path, files: SnapshotFiles, pieces: list[bytes]
) -> None:
    for height in range(1, KEPT + 2):
        write(tmp_path / "checkpoint", at_height(pieces, height))
        files.publish()
    found = [files.load(LoadChunk(3, height, 0)).pieces for height in range(1, KEPT + 2)]
    assert found == [[], *[pieces[1:]] * KEPT]
    assert files.load(LoadChunk(3, KEPT, 1)) == ChunkLoaded(3, KEPT, 1, pieces[2:])


def test_what_is_being_fetched_stays_but_not_for_ever_and_not_without_bound(
    tmp_path: Path, files: SnapshotFiles, pieces: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under load there is a checkpoint a minute, and a large state takes longer than two."""
    now_s = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])

    def publish(height: int) -> None:
        write(tmp_path / "checkpoint", at_height(pieces, height))
        files.publish()

    for height in range(1, 6):
        publish(height)
        kept = range(max(1, height - MOST_KEPT + 1), height + 1)
        assert all(files.load(LoadChunk(3, older, 0)).pieces for older in kept)
        assert files.oldest() == kept[0]
        now_s[0] += IN_USE_S / 2
    assert files.load(LoadChunk(3, 1, 0)).pieces == []
    now_s[0] += IN_USE_S / 2
    assert files.load(LoadChunk(3, 3, 0)).pieces
    publish(6)
    assert files.oldest() == 3
    now_s[0] += IN_USE_S
    publish(7)
    assert files.oldest() == 6


@pytest.mark.parametrize("first", [1_000, 2**62, -1, -(2**62)])
def test_absurd_numbers_read_nothing_that_is_not_there(
    tmp_path: Path, files: SnapshotFiles, pieces: list[bytes], first: int
) -> None:
    write(tmp_path / "checkpoint", pieces)
    files.publish()
    found = files.load(LoadChunk(3, height_of(pieces), first)).pieces
    assert list(found) == (pieces[1:] if first < 0 else [])
    assert files.load(LoadChunk(3, first, 0)).pieces == []


def test_nothing_to_serve_before_the_first_checkpoint(files: SnapshotFiles) -> None:
    files.publish()
    assert files.load(LoadChunk(3, 0, 0)).pieces == []


def test_what_is_served_at_a_time_is_bounded(tmp_path: Path, files: SnapshotFiles, pieces: list[bytes]) -> None:
    large = [pieces[0], *[bytes(CHUNK_BYTES // 2 + 1)] * 5]
    write(tmp_path / "checkpoint", large)
    files.publish()
    assert len(files.load(LoadChunk(3, height_of(pieces), 0)).pieces) == 2


def test_a_file_that_is_no_checkpoint_is_not_served(tmp_path: Path, pieces: list[bytes]) -> None:
    path = tmp_path / "checkpoint"
    for damage in (b"", b"WEDGEC1\n", b"WEDGEC1\n" + b"\xff\xff\xff\x7fabc", b"something else that is long enough"):
        path.write_bytes(damage)
        with pytest.raises(LocalError, match="is no checkpoint that this version reads"):
            CheckpointReader(path)
    with pytest.raises(LocalError, match="cannot be read"):
        CheckpointReader(tmp_path / "none")
    write(path, pieces)
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size - 40)
    with pytest.raises(LocalError, match="is no checkpoint"):
        CheckpointReader(path)


async def test_a_true_snapshot_passes_and_is_durable(tmp_path: Path, files: SnapshotFiles, pieces: list[bytes]) -> None:
    files.save(SaveSnapshot([b"of another", b"download"], begins=True))
    files.save(SaveSnapshot(pieces[:2], begins=True))
    files.save(SaveSnapshot(pieces[2:], begins=False))
    assert (await files.check(7)).fault is None
    found = read_checkpoint(tmp_path / "snapshot")
    assert list(found or ()) == pieces


async def test_a_false_one_leaves_nothing(tmp_path: Path, files: SnapshotFiles, pieces: list[bytes]) -> None:
    place = next(number for number, piece in enumerate(pieces) if piece[1] == Balances.__struct_config__.tag)
    false = [*pieces[:place], encode(Balances({bytes(32): 5})), *pieces[place + 1 :]]
    files.save(SaveSnapshot(false, begins=True))
    checked = await files.check(7)
    assert "is certified" in str(checked.fault)
    assert left_in(tmp_path) == []


def test_half_a_download_leaves_nothing(tmp_path: Path, files: SnapshotFiles, pieces: list[bytes]) -> None:
    files.save(SaveSnapshot(pieces[:1], begins=True))
    files.close()
    assert left_in(tmp_path) == []
