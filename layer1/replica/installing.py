"""Puts a snapshot in place of what a replica has: its file becomes the checkpoint, and the database begins above it.

Safety: whatever step a crash cuts off, the next start finds the old state whole, or completes the new one; the journal
stays as it is, and with it every vote.

The order is: the file, verified, gets the name *ready* beside the checkpoint; the database begins at its block; the
file gets the checkpoint's name. A start that finds a ready file does the last two steps again, which does no harm.

Source: docs/design/consensus.md, "Catching up, joining, leaving"; decisions 014 and 026.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from layer1.config import ReplicaConfig, load_machine, read_genesis
from layer1.crypto import Hash
from layer1.errors import LocalError, RemoteError
from layer1.files import sync_directory
from layer1.ledger.agreements import GroupAgreement
from layer1.ledger.state import State
from layer1.replica import checkpoints
from layer1.replica.checkpoints import Head
from layer1.storage.checkpoint import read_checkpoint
from layer1.storage.store import Store


def ready_path(config: ReplicaConfig) -> Path:
    """Where a verified snapshot waits while it is put in place."""
    return config.checkpoint.with_name(config.checkpoint.name + ".ready")


def install(config: ReplicaConfig, store: Store, snapshot: Path) -> Head:
    """Let a replica that does not run go on from a snapshot.

    Args:
        config: Of the replica, whose journal the caller holds.
        store: Its database.
        snapshot: A checkpoint's file on the disk of the checkpoint. It is used up.

    Raises:
        Outage: The database does not answer; the next start completes it.
        LocalError: The file is not what a quorum certified, or not above the newest checkpoint: then nothing was
            changed. Or the disk or the database failed: then the next start completes it.
    """
    head, state = verified(config, snapshot)
    _check_newer(config, head)
    try:
        with snapshot.open("rb") as file:
            os.fsync(file.fileno())
        _rename(snapshot, ready_path(config))
    except OSError as error:
        raise LocalError(f"the snapshot {snapshot} cannot be put in place: {error}; look after the disk") from error
    _complete(config, store, head, state)
    return head


def make_ready(config: ReplicaConfig) -> None:
    """Leave the snapshot that came from peers, durable and checked, to the next start, which completes it.

    Raises:
        LocalError: The disk failed.
    """
    try:
        _rename(config.snapshot, ready_path(config))
    except OSError as error:
        raise LocalError(f"the snapshot {config.snapshot} cannot be made ready: {error}") from error


def finish_install(config: ReplicaConfig, store: Store) -> Head | None:
    """Complete what a crash cut off; None if there is nothing. Before anything else is read of this replica.

    Raises:
        Outage: The database does not answer. Start again.
        LocalError: The file is damaged, or the disk or the database failed.
    """
    ready = ready_path(config)
    if not ready.exists():
        return None
    if _is_over(config, ready):
        ready.unlink()
        return None
    try:
        head, state = verified(config, ready)
    except LocalError as error:
        raise LocalError(
            f"a snapshot was being put in place, and {error}. Delete {ready}, and start again, with --rebuild if that "
            "is asked for: then the replica goes on from what it had, and what is gone comes from its peers"
        ) from error
    _complete(config, store, head, state)
    return head


def verified(config: ReplicaConfig, path: Path) -> tuple[Head, State]:
    """A snapshot's head and its state, put together and compared with what a quorum certified.

    Raises:
        LocalError: It is missing, damaged, of another ledger or version, or not what was certified.
    """
    genesis, machine = read_genesis(config.genesis), load_machine(config.machine)
    head = head_of(path)
    _, floor = checkpoints.load(genesis, pieces_of(path), machine)
    if floor.header != head.header:
        raise LocalError(f"the snapshot {path} was replaced by another one while it was read; try again")
    return head, floor.state


def head_of(path: Path) -> Head:
    """What a snapshot says of itself, not judged.

    Raises:
        LocalError: It is missing, damaged, or no snapshot.
    """
    try:
        return checkpoints.read_head(pieces_of(path))
    except RemoteError as error:
        raise LocalError(f"{path} is no snapshot that this version reads: {error}") from error


def pieces_of(path: Path) -> Iterator[bytes]:
    """What a snapshot holds, not judged.

    Raises:
        LocalError: It is missing or damaged.
    """
    pieces = read_checkpoint(path)
    if pieces is None:
        raise LocalError(f"there is no snapshot {path}")
    return pieces


def _check_newer(config: ReplicaConfig, head: Head) -> None:
    if not config.checkpoint.exists():
        return
    try:
        newest, height = head_of(config.checkpoint).header, head.header.height
    except LocalError:
        return  # a damaged one is none
    if newest.height >= height and newest != head.header:
        raise LocalError(
            f"the snapshot is of block {height}, and the newest checkpoint here of block {newest.height}: there is "
            "nothing to be gained, so nothing was changed"
        )


def _is_over(config: ReplicaConfig, ready: Path) -> bool:
    """Whether the replica has come further by itself: its journal goes on from a later checkpoint then."""
    try:
        return head_of(config.checkpoint).header.height > head_of(ready).header.height
    except LocalError:  # one of them is missing or damaged
        return False


def _complete(config: ReplicaConfig, store: Store, head: Head, state: State) -> None:
    kept = store.certified(head.header.height)
    if kept is None or kept.header.id != head.header.id:  # else the blocks lead up to it, and beyond
        store.begin_at(head.header, _groups(state))
    try:
        _rename(ready_path(config), config.checkpoint)
    except OSError as error:
        raise LocalError(f"the checkpoint {config.checkpoint} cannot be put in place: {error}") from error


def _groups(state: State) -> list[tuple[Hash, GroupAgreement]]:
    """All, in the order in which they were opened."""
    groups = (group for shard in state.image().groups for group in shard.values())
    ordered = sorted(groups, key=lambda group: (group.opened_clock_ms, group.group_id))
    return [(group.group_id, group.agreement) for group in ordered]


def _rename(old: Path, new: Path) -> None:
    old.rename(new)
    sync_directory(new.parent)
