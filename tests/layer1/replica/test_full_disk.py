"""A disk that is nearly full is told, one that is full stops the replica, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from layer1 import disk
from layer1.config import load_config
from layer1.disk import MIB, DiskPolicy, look
from layer1.errors import LocalError
from layer1.journal import Journal
from layer1.replica import driver
from tests.layer1.replica.network import BOB
from tests.layer1.replica.paying import transfer
from tests.layer1.replica.test_checkpointing import _undo_what_a_process_of_its_own_would_keep, new_home, pay, started

__all__ = ["_undo_what_a_process_of_its_own_would_keep"]
NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


# ------------------------------------------------------------------------------------------------------------ the watch


@pytest.mark.parametrize(
    ("free_mib", "low", "over"), [(2_000, False, False), (1_023, True, False), (64, True, False), (63, True, True)]
)
def test_what_counts_as_nearly_full_and_as_full(free_mib: int, low: bool, over: bool) -> None:
    room = look([Path("a"), Path("b")], DiskPolicy(), lambda place: free_mib * MIB if place == Path("b") else 2**40)
    assert (room.path, room.is_low, room.is_over) == (Path("b"), low, over)
    assert f"{free_mib} MiB are free" in room.warning() and "disk.stop_mib" in room.reason()


@pytest.mark.parametrize(
    ("numbers", "complaint"), [((-1, 0), "disk.warn_mib is -1"), ((10, -1), "disk.stop_mib is"), ((64, 64), "warned")]
)
def test_a_policy_that_makes_no_sense_is_refused(numbers: tuple[int, int], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        DiskPolicy(*numbers)
    assert not look([Path("/")], DiskPolicy(0, 0), lambda _: 0).is_over


@pytest.mark.slow
async def test_a_warning_before_and_a_clean_stop_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """ "A warning before the disk is full and a clean stop when it is": it is told once, and shows in the status."""
    free = [10_000 * MIB]
    monkeypatch.setattr(disk, "_free", lambda _: free[0])
    monkeypatch.setattr(driver, "DISK_WATCH_S", 0.01)
    home = new_home(tmp_path)
    async with started(home) as replica:
        await pay(replica, 2)
        assert (replica.status()["disk_low"], replica.status()["disk_free_bytes"]) == (False, free[0])
        with caplog.at_level(logging.WARNING, "layer1.replica.driver"):
            free[0] = 1_000 * MIB
            async with asyncio.timeout(5):
                while not replica.status()["disk_low"]:  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0.01)
            await pay(replica, 5)  # it goes on
        assert [record.getMessage() for record in caplog.records] == [
            f"the disk of {home}/data is nearly full: 1000 MiB are free, the replica stops below 64 (disk.stop_mib). "
            "Make room"
        ]
        free[0] = 63 * MIB
        with pytest.raises(LocalError, match=r"is full: 63 MiB .* everything that it acknowledged is on the disk"):
            await asyncio.wait_for(replica.wait(), 5)
    with pytest.raises(LocalError, match="Make room, then start it again"):
        async with started(home):
            pass
    free[0] = 10_000 * MIB
    async with started(home) as replica:
        assert replica.head().state.balance(BOB.public) == 7


@pytest.mark.slow
async def test_a_disk_that_cannot_be_looked_at_ends_neither_the_replica_nor_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free = [disk._free(tmp_path)]

    def look(_: Path) -> int:
        if not free:
            raise OSError(errno.EIO, "Input/output error")
        return free[0]

    monkeypatch.setattr(disk, "_free", look)
    monkeypatch.setattr(driver, "DISK_WATCH_S", 0.01)
    async with started(new_home(tmp_path)) as replica:
        free.clear()
        async with asyncio.timeout(5):
            while "cannot tell how much room" not in caplog.text:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
        await pay(replica, 1)
        free.append(63 * MIB)
        with pytest.raises(LocalError, match="is full"):
            await asyncio.wait_for(replica.wait(), 5)


# ------------------------------------------------------------------------------------------------------------- ENOSPC


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "fdatasync", "fsync"])
@pytest.mark.parametrize("number", range(1, 6))
def test_a_full_disk_at_any_write_of_the_journal_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """Injected, wherever it may come: what a sync confirmed is there again, and the text says what to do."""
    journal = Journal.open(tmp_path / "journal", segment_bytes=8_192)
    real, calls = getattr(os, call), 0

    def full(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls >= number:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, call, full)
    written, confirmed = [bytes([i]) * 1_500 for i in range(60)], list[bytes]()

    def write() -> None:
        for record in written:
            journal.append(record)
            journal.sync()
            confirmed.append(record)

    with pytest.raises(LocalError, match=r"the disk is full .* Nothing that was acknowledged is lost: make room"):
        write()
    with pytest.raises(LocalError, match="the disk is full"):
        journal.append(b"more")
    journal.close()
    monkeypatch.undo()
    with Journal.open(tmp_path / "journal", segment_bytes=8_192) as again:
        replayed = list(again.replay())
    assert replayed[: len(confirmed)] == confirmed
    assert len(replayed) <= len(confirmed) + 1, "at most the turn that failed"


@pytest.mark.slow
async def test_no_space_stops_the_replica_and_a_restart_has_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "ENOSPC in the journal stops the replica with an explanation, nothing acknowledged lost": injected."""
    home = new_home(tmp_path)
    real = os.pwrite
    async with started(home) as replica:
        await pay(replica, 7)

        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        ids = replica.submit([transfer(replica.genesis.chain_id)])
        with pytest.raises(LocalError, match="the disk is full"):
            await asyncio.wait_for(replica.wait(), 5)
        assert await replica.wait_final(ids, 10) == {}, "nobody hears of what is not on the disk"
        monkeypatch.setattr(os, "pwrite", real)
    async with started(home) as replica:
        assert replica.head().state.balance(BOB.public) == 7
        await pay(replica, 1)


def _mounts() -> bool:
    """Whether this user may mount in a namespace of its own."""
    command = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("stop_mib", [0, 4])
def test_a_disk_that_really_fills_up(tmp_path: Path, stop_mib: int) -> None:
    """On a file system of 24 MiB: with the watch off, the system says that it is full; with it, the replica before.

    Where nobody may mount, the tests above inject the same error.
    """
    if not _mounts():
        pytest.skip("no mount namespaces for this user; ENOSPC was injected by the tests above")
    home = new_home(tmp_path, funds=10**6)  # more than the disk has room to pay
    path = home / "replica.toml"
    text = path.read_text().replace("# stop_mib = 64", f"stop_mib = {stop_mib}")
    path.write_text(text.replace("# warn_mib = 1024", "warn_mib = 5"))
    assert load_config(home).disk == DiskPolicy(5, stop_mib)
    command = [*NAMESPACE, sys.executable, "-m", "tests.layer1.replica.full_disk", str(home), "24", "96"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert "full" in told["why"] and "ake room" in told["why"]
    assert ("disk.stop_mib" if stop_mib else "No space left") in told["why"], told
    assert stop_mib == 0 or "disk.stop_mib" in told["refused"], "nor does it start"
    assert told["acknowledged"] >= 600
    assert told["balance"] >= told["acknowledged"]
