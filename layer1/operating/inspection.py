"""Looks at a replica's home without changing or judging it; also while the replica runs.

What is read is told as it stands there. Whether it is sound, :mod:`layer1.operating.verification` says.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from layer1.config import ReplicaConfig, read_genesis, read_key
from layer1.dataformat import read_format
from layer1.errors import LocalError, RemoteError
from layer1.journal import examine, generation_of
from layer1.release import DATA_FORMAT, RELEASE
from layer1.replica.checkpoints import read_head
from layer1.replica.installing import ready_path
from layer1.replica.records import CheckpointRecord, decode_record
from layer1.storage.checkpoint import read_checkpoint
from layer1.storage.database import describe, file_of
from layer1.storage.store import Store

Facts = dict[str, Any]


def inspect_home(config: ReplicaConfig) -> Facts:
    """All that can be said of a home, by part; a part that cannot be read says why under ``error``."""
    return {
        "home": str(config.home.resolve()),
        "link": str(config.link),
        "api": str(config.api),
        "peers": len(config.peers),
        "format": _told(lambda: {"data": read_format(config.data), "read_here": DATA_FORMAT, "release": RELEASE}),
        "ledger": _told(lambda: _ledger(config)),
        "key": _told(lambda: _key(config)),
        "journal": _told(lambda: _journal(config.journal)),
        "checkpoint": _told(lambda: _checkpoint(config)),
        "database": _told(lambda: _database(config)),
        "disk": _told(lambda: _disk(config.data)),
    }


def _told(look: Callable[[], Facts]) -> Facts:
    try:
        return look()
    except (LocalError, RemoteError, OSError) as error:
        return {"error": str(error)}


def _ledger(config: ReplicaConfig) -> Facts:
    genesis = read_genesis(config.genesis)
    return {
        "name": genesis.name,
        "chain_id": genesis.chain_id.hex(),
        "replicas": len(genesis.replicas),
        "faults": genesis.replica_set.faults,
        "fault_model": genesis.fault_model,
    }


def _key(config: ReplicaConfig) -> Facts:
    """The public half alone."""
    public = read_key(config.key).public
    return {"public": public.hex(), "in_genesis": public in read_genesis(config.genesis).replicas}


def _journal(directory: Path) -> Facts:
    if not directory.is_dir():
        raise LocalError(f"{directory} is missing")
    segments = sorted(directory.glob("segment-*"))
    facts: Facts = {
        "path": str(directory),
        "generation": generation_of(directory),
        "segments": len(segments),
        "bytes_on_disk": sum(path.stat().st_size for path in segments),
        "set_aside": [path.name for path in sorted(directory.parent.glob(f"{directory.name}.lost-*"))],
    }
    try:
        with examine(directory) as found:
            records = [decode_record(data) for data in found.records()]
        begins = [record.height for record in records if isinstance(record, CheckpointRecord)]
        facts["begins_after_block"] = begins[0] if begins else 0
        facts |= {"bytes": found.size_bytes, "records": len(records), "torn_bytes": found.torn_bytes}
    except LocalError as error:
        facts["not_read"] = str(error)
    return facts


def _checkpoint(config: ReplicaConfig) -> Facts:
    path, ready = config.checkpoint, ready_path(config).exists()
    pieces = read_checkpoint(path)
    if pieces is None:
        return {"path": str(path), "height": None, "being_put_in_place": ready}
    header = read_head(pieces).header
    return {
        "path": str(path),
        "height": header.height,
        "clock": header.clock,
        "block": header.id.hex(),
        "bytes": path.stat().st_size,
        "being_put_in_place": ready,
    }


def _database(config: ReplicaConfig) -> Facts:
    facts: Facts = {"place": describe(config.database_url)}
    store = Store.open(config.database_url, create=False)
    try:
        facts |= {"height": store.height, "oldest_block": store.oldest()}
    finally:
        store.close()
    if (path := file_of(config.database_url)) is not None:
        files = [path.with_name(path.name + end) for end in ("", "-wal")]
        facts["bytes"] = sum(file.stat().st_size for file in files if file.exists())
    return facts


def _disk(path: Path) -> Facts:
    usage = shutil.disk_usage(path if path.exists() else path.parent)
    return {"free_bytes": usage.free, "total_bytes": usage.total}
