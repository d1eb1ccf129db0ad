"""Empties a replica's home of what can be had again, and never of its key.

Safety: the key, the genesis and the configuration stay. The journal goes only if that is asked for by name, and only
where the ledger outlasts it; a replica without it does not start unless it is told to rejoin (decision 015), so that
it never votes where it may have voted before.

The directory of the journal gets another name before anything in it is deleted: a crash leaves a whole journal or
none, not half of one.
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from layer1.config import ReplicaConfig, read_genesis
from layer1.dataformat import FORMAT_NAME, check_format
from layer1.errors import LocalError, Refused
from layer1.files import sync_directory
from layer1.journal import held, set_aside
from layer1.replica.installing import ready_path
from layer1.storage.database import describe, file_of


@dataclass(frozen=True, slots=True)
class ResetPlan:
    """What a reset deletes, what it leaves, and how the replica comes back."""

    deleted: tuple[Path, ...]
    kept: tuple[str, ...]
    start: str
    """How to start afterwards."""
    warning: str
    journal: Path | None
    """Deleted, too; None to keep it."""


def plan_reset(config: ReplicaConfig, *, journal: bool) -> ResetPlan:
    """What would be done.

    Args:
        config: Of the replica.
        journal: Whether its journal is to go, too.

    Raises:
        Refused: ``cannot_rejoin``: a replica of this ledger cannot come back without its journal.
        LocalError: There is no genesis, or a newer release wrote the data.
    """
    genesis = read_genesis(config.genesis)
    check_format(config.data)
    if journal and genesis.replica_set.faults < 1:
        raise Refused(
            "cannot_rejoin",
            f"of {len(genesis.replicas)} replicas none may fail, so none can come back without its journal: nobody "
            "could tell what it signed. Reset without --journal, or make a new ledger with `layer1 init`",
        )
    states = (config.checkpoint, _new(config.checkpoint), ready_path(config), config.snapshot, _new(config.snapshot))
    files = [path for path in (*_database_files(config), *states) if path.exists()]
    kept = [f"key {config.key}", f"genesis {config.genesis}", f"configuration in {config.home}"]
    if file_of(config.database_url) is None:
        kept.append(f"database {describe(config.database_url)}: empty it yourself if you mean to")
    if not journal:
        kept.append(f"journal {config.journal}: what keeps this replica from contradicting its votes")
        warning = "All blocks are executed anew at the next start; what the disk does not hold, the peers have."
        return ResetPlan(tuple(files), tuple(kept), f"layer1 start --home {config.home} --rebuild", warning, None)
    warning = (
        f"Without its journal this replica does not know what it signed. It counts as failed until it has rejoined: do "
        f"this to at most {genesis.replica_set.faults} of the {len(genesis.replicas)} replicas at a time, and to no "
        "other before this one votes again."
    )
    start = f"layer1 start --home {config.home} --rejoin"
    files += [path for path in [config.data / FORMAT_NAME] if path.exists()]
    return ResetPlan(tuple(files), tuple(kept), start, warning, config.journal)


def reset_home(config: ReplicaConfig, plan: ResetPlan) -> None:
    """Do it.

    Raises:
        LocalError: The replica runs, or the disk failed.
    """
    try:
        with held(config.journal) if config.journal.is_dir() else nullcontext():
            for path in plan.deleted:
                path.unlink(missing_ok=True)
        if plan.journal is not None and plan.journal.is_dir():
            shutil.rmtree(set_aside(plan.journal))
        if config.data.is_dir():
            sync_directory(config.data)
    except OSError as error:
        raise LocalError(f"cannot delete {error.filename}: {error.strerror}; look after its rights, repeat") from error


def _database_files(config: ReplicaConfig) -> list[Path]:
    """Of an SQLite database inside the data directory; another one is somebody else's."""
    path = file_of(config.database_url)
    if path is None or not path.resolve().is_relative_to(config.data.resolve()):
        return []
    return [path.with_name(path.name + end) for end in ("", "-wal", "-shm", "-journal")]


def _new(path: Path) -> Path:
    return path.with_name(path.name + ".new")
