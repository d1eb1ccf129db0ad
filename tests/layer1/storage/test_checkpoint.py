"""The checkpoint's file: all of it or nothing, and never a damaged one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layer1.errors import LocalError
from layer1.storage import checkpoint
from layer1.storage.checkpoint import CheckpointFile, read_checkpoint

PIECES = [b"head", b"", b"x" * 70_000, b"end"]


def write(path: Path, pieces: list[bytes]) -> None:
    file = CheckpointFile(path)
    for piece in pieces:
        file.add(piece)
    assert file.publish() == path.stat().st_size


def test_one_that_is_replaced_while_it_is_read_is_not_mixed_with_the_new_one(tmp_path: Path) -> None:
    """An export beside a running replica: what was checked is not what has the name now."""
    path = tmp_path / "checkpoint"
    write(path, [b"old"] * 5)
    found = read_checkpoint(path)
    write(path, [b"a newer one"])
    assert found is not None
    with pytest.raises(LocalError, match=r"was replaced .* try again"):
        next(found)
    again = read_checkpoint(path)
    assert again is not None and list(again) == [b"a newer one"]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    assert read_checkpoint(path) is None
    write(path, PIECES)
    assert list(read_checkpoint(path) or ()) == PIECES
    write(path, PIECES[:1])
    assert list(read_checkpoint(path) or ()) == PIECES[:1]
    assert sorted(os.listdir(tmp_path)) == ["checkpoint"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_one_before_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    write(path, PIECES)
    file = CheckpointFile(path)
    file.add(b"given up")
    assert list(read_checkpoint(path) or ()) == PIECES
    file.discard()
    assert list(read_checkpoint(path) or ()) == PIECES
    assert os.listdir(tmp_path) == ["checkpoint"]


def test_it_has_its_name_only_when_it_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write, sync, rename, sync the directory."""
    done: list[str] = []
    rename = os.rename

    def watched(before: Path, after: Path) -> None:
        done.append("rename")
        rename(before, after)

    monkeypatch.setattr(os, "fsync", lambda _: done.append("sync"))
    monkeypatch.setattr(os, "rename", watched)
    monkeypatch.setattr(checkpoint, "sync_directory", lambda _: done.append("sync directory"))
    write(tmp_path / "checkpoint", PIECES)
    assert done == ["sync", "rename", "sync directory"]


def test_any_flipped_byte_and_any_cut_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    write(path, [b"head", b"middle"])
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(LocalError, match=f"{path} is damaged.*--rebuild"):
            read_checkpoint(path)
        path.write_bytes(data[:place])
        with pytest.raises(LocalError, match="damaged"):
            read_checkpoint(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(LocalError, match="damaged"):
        read_checkpoint(path)


def test_a_disk_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="cannot be written"):
        CheckpointFile(tmp_path / "missing" / "checkpoint")
    with pytest.raises(LocalError, match="cannot be read"):
        read_checkpoint(tmp_path)
