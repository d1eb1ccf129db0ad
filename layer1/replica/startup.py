"""How a replica process comes back from its disk: checkpoint, journal, and the database behind them.

Safety: what is missing or damaged stops the process with the file, the reason and the remedy; nothing is guessed.

Source: docs/design/consensus.md, "Persist before sending"; decisions 014 and 015.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from layer1.block import CommittedBlock
from layer1.errors import LocalError
from layer1.journal import Damaged, Journal, has_segments
from layer1.replica.core import ReplicaCore
from layer1.storage.checkpoint import read_checkpoint
from layer1.storage.store import Store

REPLAY_BULK = 200
"""Blocks between two writes to the database while the journal is replayed, or in one read of it."""

_log = logging.getLogger(__name__)


def check_journal(directory: Path) -> Journal:
    """Open a replica's journal.

    Raises:
        LocalError: It is missing, damaged, or held by another process.
    """
    if not has_segments(directory):  # an empty directory would pass for the journal of a replica that never voted
        raise LocalError(
            f"the journal {directory} is missing. A replica that starts without it might vote against its own votes. "
            "Put it back; if it is lost for good, start with --rejoin: then the replica asks its peers, and votes "
            "again where it cannot have voted before"
        )
    try:
        journal = Journal.open(directory)
    except Damaged as error:
        raise LocalError(
            f"{error}. Put the very journal back, or start with --rejoin: then the replica sets it aside, asks its "
            "peers, and votes again where it cannot have voted before"
        ) from error
    if journal.dropped_bytes:
        _log.warning("dropped %d bytes that a crash tore, and nobody relied on", journal.dropped_bytes)
    return journal


async def come_back(
    core: ReplicaCore, journal: Journal, store: Store, checkpoint: Path | None, *, may_lag: bool = False
) -> None:
    """Restore a core, and bring the database up to it.

    Args:
        core: A new one.
        journal: Just opened.
        store: The database.
        checkpoint: Where the last one is, if there is one; None to execute all blocks anew.
        may_lag: Whether the journal may go on from a later block than the checkpoint's, which is a snapshot: it was
            needed since what the journal goes on from was lost. The peers have what is between.

    Raises:
        LocalError: What is there does not fit together.
    """
    started = time.monotonic()
    if checkpoint is None and store.oldest() > 1:
        _check_peers(core, store)
    pieces = None if checkpoint is None else read_checkpoint(checkpoint)
    stored = _stored(store) if checkpoint is None else () if may_lag else None
    gc.disable()  # nothing of what comes now is garbage, and the collector would look at all of it again and again
    try:
        blocks: list[CommittedBlock] = []
        for block in core.restore(journal.replay(), pieces, stored):
            blocks.append(block)
            if len(blocks) >= REPLAY_BULK:
                await _append(core, store, blocks)
                blocks = []
        await _append(core, store, blocks)
    finally:
        gc.enable()
    height, took_ms = core.application.floor.header.height, (time.monotonic() - started) * 1000
    _log.info("back at height %d after %.0f ms", height, took_ms)


async def _append(core: ReplicaCore, store: Store, blocks: Sequence[CommittedBlock]) -> None:
    height = core.checkpoint_height
    if store.height < height:
        raise LocalError(
            f"the database ends at block {store.height}, and the journal goes on from the checkpoint of block "
            f"{height}: put the database back, or start with --rebuild, which fetches what is missing from peers"
        )
    await asyncio.to_thread(store.append, blocks)


def _check_peers(core: ReplicaCore, store: Store) -> None:
    """Where the first blocks are gone, the others must have what a state is made from.

    Raises:
        LocalError: There are no others.
    """
    if len(core.genesis.replicas) == 1:
        raise LocalError(
            f"the database begins with block {store.oldest()}: what is before it cannot be executed anew, and no other "
            "replica has it. Put the checkpoint back, or give this replica a snapshot with `layer1 snapshot load`"
        )
    _log.warning(
        "the database begins with block %d, so no block of it can be executed anew: the state comes from the peers",
        store.oldest(),
    )


def _stored(store: Store) -> Iterator[CommittedBlock]:
    """All blocks in storage, from the first on; none where the first are gone."""
    first = store.oldest()
    if first > 1:
        return
    while blocks := store.blocks(first, REPLAY_BULK):
        yield from blocks
        first += len(blocks)
