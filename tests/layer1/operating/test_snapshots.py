"""`layer1 snapshot show`, `save` and `load`: what is certified goes from home to home, and nothing else does."""

from __future__ import annotations

import json
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from layer1.codec import decode, encode
from layer1.config import ReplicaConfig, load_config, read_genesis, write_key
from layer1.crypto import SigningKey
from layer1.errors import LocalError, Refused
from layer1.journal import Journal
from layer1.operating.snapshots import load_snapshot, save_snapshot, show_snapshot
from layer1.operating.verification import verify_home
from layer1.replica.checkpoints import Head
from layer1.replica.installing import head_of, ready_path
from layer1.storage.checkpoint import CheckpointFile, read_checkpoint
from layer1.storage.store import Store
from tests.layer1.operating.test_verification import fingerprint, flip, forget_ids
from tests.layer1.replica.network import BOB
from tests.layer1.replica.test_checkpointing import BLOCKS, new_home, started
from tests.layer1.test_cli import invoke

pytestmark = pytest.mark.slow

HEIGHT = 2 * BLOCKS
"""Of the checkpoint in the home."""


@pytest.fixture
def new(home: ReplicaConfig, tmp_path: Path) -> ReplicaConfig:
    """The home of a replica of this ledger that never ran, with a key of its own."""
    directory = tmp_path / "new"
    directory.mkdir()
    for name in ("replica.toml", "genesis.json"):
        shutil.copy(home.home / name, directory)
    write_key(directory / "key", SigningKey(b"n" * 32))
    config = load_config(directory)
    Journal.open(config.journal).close()
    return config


@pytest.fixture
def saved(home: ReplicaConfig, tmp_path: Path) -> Path:
    save_snapshot(home, tmp_path / "ledger.snapshot")
    return tmp_path / "ledger.snapshot"


def executed(home: ReplicaConfig) -> int:
    """Transactions up to the checkpoint; there may be a block without any when the machine is slow."""
    store = Store.open(home.database_url)
    count = sum(len(block.transactions) for block in store.blocks(1, HEIGHT))
    store.close()
    return count


def test_a_snapshot_says_what_it_is_and_who_signed_it(home: ReplicaConfig) -> None:
    before = fingerprint(home.home)
    facts, header = show_snapshot(home), head_of(home.checkpoint).header
    assert (facts["height"], facts["block"], facts["state_root"]) == (
        HEIGHT, header.id.hex(), header.state_root.hex()
    )  # fmt: skip
    assert (facts["epoch"], facts["next_epoch"], facts["certified_by"], facts["replica_set"]) == (0, 0, [0], [0])
    assert (facts["accounts"], facts["groups"], facts["marks"]) == (2, 0, 0)
    assert facts["remembered_transactions"] == executed(home)
    assert facts["chain_id"] == read_genesis(home.genesis).chain_id.hex()
    assert facts["bytes"] == home.checkpoint.stat().st_size
    assert fingerprint(home.home) == before


def test_a_saved_snapshot_is_a_private_copy_and_no_file_is_overwritten(home: ReplicaConfig, saved: Path) -> None:
    assert saved.read_bytes() == home.checkpoint.read_bytes()
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert show_snapshot(home, saved)["path"] == str(saved)
    before = saved.read_bytes()
    with pytest.raises(Refused, match="nothing is overwritten"):
        save_snapshot(home, saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.glob("*.part*")] == []


def test_a_file_that_appears_meanwhile_is_not_overwritten_either(
    home: ReplicaConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, real = tmp_path / "a.snapshot", os.link

    def late(old: Path, new: Path) -> None:
        new.write_text("mine")
        real(old, new)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(Refused, match="nothing is overwritten"):
        save_snapshot(home, file)
    assert file.read_text() == "mine"


async def test_it_is_saved_while_the_replica_runs_and_not_loaded(home: ReplicaConfig, tmp_path: Path) -> None:
    file = tmp_path / "a.snapshot"
    async with started(home.home):
        assert save_snapshot(home, file)["height"] >= HEIGHT
        with pytest.raises(LocalError, match="stop the replica first"):
            load_snapshot(home, file)


async def test_a_new_replica_starts_from_a_file(home: ReplicaConfig, saved: Path, new: ReplicaConfig) -> None:
    """ "A new or far-behind replica starts from one"."""
    facts = load_snapshot(new, saved)
    assert facts["height"] == HEIGHT
    assert sorted(path.name for path in new.data.iterdir() if "sqlite" not in path.name) == [
        "checkpoint", "format", "journal"
    ]  # fmt: skip
    verdict = verify_home(new)
    assert (verdict.findings, verdict.height, verdict.first_block) == ([], HEIGHT, HEIGHT + 1)
    async with started(new.home) as replica:
        assert replica.head().header == head_of(saved).header
        assert replica.head().state.balance(BOB.public) == executed(home)
        assert (replica.status()["oldest_block"], replica.is_member) == (HEIGHT + 1, False)
    with pytest.raises(Refused, match=f"of block {HEIGHT}, and this replica is at block {HEIGHT}: start it"):
        load_snapshot(new, saved)


def test_who_is_there_already_stays_there(home: ReplicaConfig, saved: Path) -> None:
    before = fingerprint(home.home)
    with pytest.raises(Refused, match=rf"of block {HEIGHT}, and this replica is at block 1[2-9]: start it"):
        load_snapshot(home, saved)
    assert fingerprint(home.home) == before


def test_a_lost_state_comes_back_and_the_journal_stays(home: ReplicaConfig, saved: Path) -> None:
    """Database and checkpoint are gone: the snapshot of the same block is what the journal goes on from."""
    shutil.move(home.checkpoint, saved.with_name("gone"))
    (home.data / "ledger.sqlite").unlink()
    journal = fingerprint(home.journal)
    load_snapshot(home, saved)
    assert fingerprint(home.journal) == journal
    verdict = verify_home(home)
    assert (verdict.findings, verdict.height > HEIGHT) == ([], True)


def older(file: Path, height: int) -> None:
    """As if it were of this height; its certificate does not cover that."""
    found = read_checkpoint(file)
    assert found is not None
    head, *rest = found
    decoded = decode(head, Head)
    changed = CheckpointFile(file)
    for piece in (encode(structs.replace(decoded, header=structs.replace(decoded.header, height=height))), *rest):
        changed.add(piece)
    changed.publish()


@pytest.mark.parametrize("verb", ["load", "show"])
@pytest.mark.parametrize("damage", ["a bit", "an id", "the head", "cut short", "nothing there", "another ledger"])
def test_what_is_not_certified_goes_nowhere(
    home: ReplicaConfig, saved: Path, new: ReplicaConfig, tmp_path: Path, damage: str, verb: str
) -> None:
    match damage:
        case "a bit":
            flip(lambda _: saved, 0.5)(home)
        case "an id":
            forget_ids(replace(home, data=_as_checkpoint(saved)))
            saved = saved.parent / "as" / "checkpoint"
        case "the head":
            older(saved, 99)
        case "cut short":
            saved.write_bytes(saved.read_bytes()[:-40])
        case "nothing there":
            saved.unlink()
        case _:
            other = new_home(tmp_path / "other")
            shutil.copy(other / "genesis.json", new.genesis)
    before = fingerprint(new.home)
    with pytest.raises(LocalError, match=r"damaged|cannot be used|is certified|there is no snapshot"):
        load_snapshot(new, saved) if verb == "load" else show_snapshot(new, saved)
    assert fingerprint(new.home) == before
    assert not ready_path(new).exists()


def _as_checkpoint(saved: Path) -> Path:
    directory = saved.parent / "as"
    directory.mkdir()
    shutil.copy(saved, directory / "checkpoint")
    return directory


def test_without_a_journal_nothing_is_loaded(saved: Path, new: ReplicaConfig) -> None:
    shutil.rmtree(new.journal)
    with pytest.raises(LocalError, match="does not know what it signed"):
        load_snapshot(new, saved)
    assert not new.journal.exists()


def test_a_journal_that_goes_on_from_a_later_block_is_not_cut_off(home: ReplicaConfig, saved: Path) -> None:
    """Its state is lost, and the snapshot older than what its journal begins with."""
    home.checkpoint.unlink()
    (home.data / "ledger.sqlite").unlink()
    with Journal.open(home.journal) as journal:
        records = list(journal.replay())
        journal.compact([record.replace(bytes([HEIGHT]), bytes([HEIGHT + 1]), 1) for record in records[:1]])
    with pytest.raises(Refused, match=f"the journal goes on from block {HEIGHT + 1}: take a later snapshot"):
        load_snapshot(home, saved)


def test_a_replica_that_never_took_one_says_so(new: ReplicaConfig, tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=rf"no checkpoint in .* takes one after {BLOCKS} blocks"):
        save_snapshot(new, tmp_path / "a")
    with pytest.raises(LocalError, match="no checkpoint in"):
        show_snapshot(new)


def test_words_for_people_and_programs(
    home: ReplicaConfig, new: ReplicaConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.snapshot"
    code, out, _ = invoke(capfd, "snapshot", "show", home.home)
    assert (code, f"height: {HEIGHT}" in out, "Verified: signed by a quorum" in out) == (0, True, True)
    code, out, _ = invoke(capfd, "snapshot", "save", home.home, file, "--json")
    assert (code, json.loads(out)["height"]) == (0, HEIGHT)
    code, _, err = invoke(capfd, "snapshot", "save", home.home, file)
    assert (code, "nothing is overwritten" in err) == (1, True)
    code, out, _ = invoke(capfd, "snapshot", "load", file, new.home)
    assert (code, f"Start it with: layer1 start --home {new.home}" in out) == (0, True)
    code, out, _ = invoke(capfd, "snapshot", "load", file, new.home, "--json")
    assert (code, json.loads(out)["error"]["code"]) == (1, "not_needed")
    assert invoke(capfd, "snapshot", "show", home.home, "--file", file)[0] == 0
