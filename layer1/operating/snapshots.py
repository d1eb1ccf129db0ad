"""A replica's newest checkpoint as a snapshot: shown, saved as a file, and loaded into the home of another replica.

Safety: nothing is shown, saved or loaded that is not, as a whole, under a state root that a quorum signed, on a chain
of replica sets from the genesis in the home. What the replica signed stays in its journal, whatever is loaded.

Source: docs/design/consensus.md, "Catching up, joining, leaving"; decisions 014 and 026.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from layer1.config import ReplicaConfig, read_genesis, read_key
from layer1.dataformat import check_format, mark_format
from layer1.errors import LocalError, Refused
from layer1.files import sync_directory
from layer1.journal import examine, held
from layer1.ledger.state import State
from layer1.replica.checkpoints import Head
from layer1.replica.installing import head_of, install, pieces_of, verified
from layer1.replica.records import CheckpointRecord, decode_record
from layer1.storage.checkpoint import CheckpointFile
from layer1.storage.store import Store

Facts = dict[str, Any]


def show_snapshot(config: ReplicaConfig, file: Path | None = None) -> Facts:
    """What the newest checkpoint of a home says, or a file; all of it verified from the genesis of the home.

    Raises:
        LocalError: There is none, or it is not what a quorum signed.
    """
    path = file or _checkpoint(config)
    head, state = verified(config, path)
    return {"path": str(path), "bytes": path.stat().st_size, **_facts(config, head, state)}


def save_snapshot(config: ReplicaConfig, file: Path) -> Facts:
    """Copy the newest checkpoint to a new file, and verify the copy; also while the replica runs.

    Raises:
        Refused: ``exists``: there is such a file.
        LocalError: There is no checkpoint, it is not what a quorum signed, or the file cannot be written.
    """
    if file.exists():
        raise Refused("exists", f"{file} is there already, and nothing is overwritten: name another file")
    part = file.with_name(file.name + ".part")
    _copy(_checkpoint(config), part)
    try:
        head, state = verified(config, part)
        _publish(part, file)
    finally:
        part.unlink(missing_ok=True)
    return {"path": str(file), "bytes": file.stat().st_size, **_facts(config, head, state)}


def load_snapshot(config: ReplicaConfig, file: Path) -> Facts:
    """Let a new or stopped replica go on from a snapshot's file.

    Raises:
        Refused: ``not_needed``: the replica has come so far by itself.
        LocalError: It runs, has no journal, or the file is not what a quorum signed; then nothing was changed. Or the
            disk or the database failed; then the next start completes it.
    """
    genesis, key = read_genesis(config.genesis), read_key(config.key)
    check_format(config.data)
    head, state = verified(config, file)
    _check_journal(config, head)
    with held(config.journal):
        mark_format(config.data)
        store = Store.open(config.database_url, genesis.chain_id, key.public)
        try:
            _check_needed(config, store, head)
            with _copied(config, file) as copy:
                install(config, store, copy)
        finally:
            store.close()
    return {"path": str(file), "bytes": file.stat().st_size, **_facts(config, head, state)}


def _checkpoint(config: ReplicaConfig) -> Path:
    if not config.checkpoint.exists():
        raise LocalError(
            f"there is no checkpoint in {config.data} yet: a replica takes one after {config.checkpoints.blocks} "
            f"blocks or {config.checkpoints.journal_bytes} bytes of journal ([checkpoints]); take another replica's"
        )
    return config.checkpoint


def _facts(config: ReplicaConfig, head: Head, state: State) -> Facts:
    header, certifiers = head.header, [position for position, _ in head.finalization.signatures]
    numbers = {handover.replica_set.epoch: handover.replica_set.numbers for handover in head.handovers}
    members = numbers.get(head.finalization.epoch, read_genesis(config.genesis).replica_set.numbers)
    image = state.image()
    return {
        "chain_id": head.chain_id.hex(),
        "height": header.height,
        "block": header.id.hex(),
        "epoch": header.epoch,
        "clock": header.clock,
        "state_root": header.state_root.hex(),
        "certified_by": [members[position] for position in certifiers],
        "next_epoch": state.replica_set.epoch,
        "replica_set": list(state.replica_set.numbers),
        "accounts": sum(map(len, image.accounts)),
        "groups": sum(map(len, image.groups)),
        "remembered_transactions": sum(count for _, _, count in image.lots),
        "marks": len(image.marks),
        "machine_values": sum(map(len, image.values)),
    }


def _copy(found: Path, to: Path) -> None:
    """Durably, with its checksum made anew."""
    pieces = pieces_of(found)
    copy = CheckpointFile(to)
    try:
        for piece in pieces:
            copy.add(piece)
        copy.publish()
    finally:
        copy.discard()


@contextmanager
def _copied(config: ReplicaConfig, file: Path) -> Iterator[Path]:
    """A copy on the disk of the checkpoint; gone afterwards if nobody took it."""
    copy = config.data / "snapshot.loading"
    try:
        _copy(file, copy)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _publish(part: Path, file: Path) -> None:
    """Give it its name, unless another one has it."""
    try:
        os.link(part, file)
    except FileExistsError:
        raise Refused("exists", f"{file} is there already, and nothing is overwritten: name another file") from None
    except OSError as error:  # a file system without links, such as that of a stick
        try:
            part.rename(file)
        except OSError:
            raise LocalError(f"{file} cannot be written: {error}") from error
    sync_directory(file.parent)


def _check_journal(config: ReplicaConfig, head: Head) -> None:
    """What the journal goes on from must not be above the snapshot: nobody would know what became of it."""
    if not config.journal.is_dir():
        raise LocalError(
            f"the journal {config.journal} is missing: without it the replica does not know what it signed. Put it "
            "back, or start with --rejoin; nothing was changed"
        )
    with examine(config.journal) as journal:
        records = map(decode_record, journal.records())
        begins = max((record.height for record in records if isinstance(record, CheckpointRecord)), default=0)
    if begins > head.header.height:
        raise Refused(
            "not_needed",
            f"the snapshot is of block {head.header.height}, and the journal goes on from block {begins}: take a later "
            "snapshot. Nothing was changed",
        )


def _check_needed(config: ReplicaConfig, store: Store, head: Head) -> None:
    """A replica that has a state, or can make one from its blocks, goes forward only."""
    own = 0
    with suppress(LocalError):  # a damaged checkpoint is none
        own = head_of(config.checkpoint).header.height if config.checkpoint.exists() else 0
    has_state = own >= store.base.height
    if has_state and head.header.height <= max(own, store.height):
        raise Refused(
            "not_needed",
            f"the snapshot is of block {head.header.height}, and this replica is at block {max(own, store.height)}: "
            "start it, with --rebuild if its checkpoint is lost. Nothing was changed",
        )
