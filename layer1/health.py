"""How a ledger is doing, in words for somebody who is tired: well or not, who is missing, whether to act.

What each replica says of itself goes in as plain rows; nothing of it is proven, so a lying replica can look well. What
it cannot do is to make the others look worse than they say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

MANY_BLOCKS = 50
"""Behind the others: more than what is on its way."""
MANY_WAITING = 1_000
"""Blocks and transactions that the database lacks: more than it takes in a moment."""

FORKED = (
    "a replica contradicted itself, where none may lie: this ledger may have forked. Stop paying on it, keep all homes "
    "as they are, and compare the ids of their blocks (`layer1 export`)."
)
"""Of a ledger for omission faults."""

Row = Mapping[str, Any]


class State(StrEnum):
    """In one word."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """It goes on; somebody should look."""
    STOPPED = "stopped"
    """Nothing becomes final."""
    UNKNOWN = "unknown"
    """Nobody answers."""


ACT = {
    State.HEALTHY: "Nothing to do.",
    State.DEGRADED: "The ledger goes on. Look into it today.",
    State.STOPPED: "Act now.",
    State.UNKNOWN: "Start a replica, or say where one is with --api URL.",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What genesis and replica set say about how many must answer, and how often blocks come."""

    replicas: int
    quorum: int
    heartbeat_ms: int
    view_timeout_ms: int
    faults: int = 0
    """So many may fail."""
    fault_model: str = "byzantine"
    members: tuple[int, ...] = ()
    """Numbers of those in the set, as far as anybody says."""

    @property
    def patience_ms(self) -> int:
        """For so long there may be no block: two heartbeats, and some leaders in between that are skipped."""
        return 2 * self.heartbeat_ms + 10 * self.view_timeout_ms


@dataclass(frozen=True, slots=True)
class Health:
    """The answer."""

    state: State
    summary: str
    findings: tuple[str, ...]
    """Each a sentence with its remedy, the worst first."""
    notes: tuple[str, ...] = ()
    """What is no fault, and yet worth knowing."""

    @property
    def act(self) -> str:
        """What to do, in a sentence."""
        return ACT[self.state]


def assess(rows: Sequence[Row], bounds: Bounds | None) -> Health:
    """Judge what replicas say.

    Args:
        rows: One for each, as `layer1.cli_status` makes them.
        bounds: None if nobody told the genesis.
    """
    members = [row for row in rows if row["member"]]
    listeners = [row for row in rows if not row["member"] and row["error"] is None]  # others were stopped, as is right
    notes = [*_gone(rows), *(_of_listener(row, members, bounds) for row in listeners)]
    return replace(_assess(members, bounds), notes=tuple(notes))


def _assess(rows: Sequence[Row], bounds: Bounds | None) -> Health:
    """What those in the replica set say; others are not needed."""
    answering = [row for row in rows if row["error"] is None]
    if not answering or bounds is None:
        return Health(State.UNKNOWN, "no replica answers.", tuple(f"{row['api']}: {row['error']}" for row in rows))
    findings = [*_missing(rows), *(said for row in answering for said in _of_one(row)), *_links(answering)]
    findings += [*_releases(answering), *_unknown(rows, bounds)]
    if bounds.fault_model == "omission" and any(row["marked"] for row in answering):
        findings.insert(0, FORKED)
    voting = [row for row in answering if not _is_out(row)]
    unseen = sum(row["untrusted"] for row in rows)
    count = f"{len(voting)} of {bounds.replicas} replicas take part"
    if len(voting) + unseen < bounds.quorum:
        why = f"{count}, {bounds.quorum} are needed: nothing becomes final until more are back."
        return Health(State.STOPPED, why, tuple(findings))
    age_ms = min((row["head_age_ms"] for row in answering if row["head_age_ms"] is not None), default=0)
    if age_ms > bounds.patience_ms:
        why = f"no block for {age_ms // 1000} s, though {count}: look at their logs, clocks and links."
        return Health(State.STOPPED, why, tuple(findings))
    height = max(row["height"] or 0 for row in answering)
    spare = len(voting) - bounds.quorum
    more = f"{spare} more may fail" if spare > 0 else "none may fail besides"
    if unseen:
        more = f"{unseen} cannot be asked from here"
    if findings:
        return Health(State.DEGRADED, f"{count}; {more}. Block {height} is {_ago(age_ms)}.", tuple(findings))
    return Health(State.HEALTHY, f"all {bounds.replicas} replicas take part. Block {height} is {_ago(age_ms)}.", ())


def _of_listener(row: Row, members: Sequence[Row], bounds: Bounds | None) -> str:
    """Who is not in the set: one that is to come, or one that left and must not stop too early.

    What ended its epochs may be on its disk and few others. Once q of the new set have come so far, whatever f of them
    do, the rest serves it (docs/design/consensus.md, "Catching up, joining, leaving").
    """
    if row["index"] is None:
        return f"{_name(row)} listens: not in the replica set. Once it has caught up: `layer1 replica add` its key."
    said = f"{_name(row)} at {row['api']} listens: not in the replica set."
    newest = max((each["epoch"] or 0 for each in (row, *members)), default=0)
    there = sum(each["error"] is None and (each["epoch"] or 0) >= newest for each in members)
    if bounds is None or there < bounds.quorum:
        needed = "a quorum is" if bounds is None else f"{bounds.quorum} are"
        return f"{said} KEEP IT RUNNING until {needed} in epoch {newest}, now {there}: they may need what it has."
    return f"{said} {there} of the set are in epoch {newest}: its operator may stop it, and then delete its key."


def _gone(rows: Sequence[Row]) -> list[str]:
    """What none of those that answer keeps any more."""
    kept = [row["oldest_block"] for row in rows if row["error"] is None]
    if not kept or None in kept or (oldest := min(kept)) <= 1:
        return []
    return [
        f"no replica that answers keeps the blocks before {oldest}: what happened there can no more be looked up. "
        "Where a copy is needed, let one replica keep all (`history.keep_blocks = 0`, `start_from_snapshot = false`)."
    ]


def _unknown(rows: Sequence[Row], bounds: Bounds) -> list[str]:
    """Who is in the set, and nobody says where it can be asked."""
    missing = sorted(set(bounds.members) - {row["index"] for row in rows})
    return [
        f"replica {number} cannot be asked: its API is in nobody's [[peers]]; name it there, then SIGHUP."
        for number in missing
    ]


def _ago(age_ms: int) -> str:
    return f"{max(age_ms, 0) // 1000} s old"


def _name(row: Row) -> str:
    return f"replica {row['index']}" if row["index"] is not None else f"the replica at {row['api']}"


def _is_out(row: Row) -> bool:
    """Whether its votes do not count just now."""
    return bool(row["catching_up"]) or _waits_to_vote(row) or _is_alone(row)


def _is_alone(row: Row) -> bool:
    """Whether it has peers, and a link with none of them."""
    return row["peers_connected"] == 0 and (row["peers"] or 0) > 0


def _waits_to_vote(row: Row) -> bool:
    return (row["view"] or 0) < (row["vote_from"] or 0)


def _missing(rows: Sequence[Row]) -> list[str]:
    """Who does not answer."""
    return [
        f"{_name(row)} cannot be asked at {row['api']}: {row['error']}."
        if row["untrusted"]
        else f"{_name(row)} does not answer at {row['api']} ({row['error']}): start it, or see the end of its log."
        for row in rows
        if row["error"] is not None
    ]


def _of_one(row: Row) -> list[str]:
    """What is wrong with one that answers."""
    name, said = _name(row), []
    lag = row["lag"] or 0
    if row["catching_up"]:
        said.append(f"{name} is {lag} blocks behind and catches up: wait.")
    elif lag > MANY_BLOCKS:
        said.append(f"{name} is {lag} blocks behind and does not catch up: see its log and its links.")
    if _waits_to_vote(row):
        said.append(f"{name} has rejoined, and votes from view {row['vote_from']} on, this is {row['view']}: wait.")
    if row["disk_low"]:
        free = (row["disk_free_bytes"] or 0) // 2**20
        said.append(f"{name} has {free} MiB of disk left and stops when it is full: make room.")
    if (row["waiting_for_database"] or 0) > MANY_WAITING:
        said.append(f"{name} waits for its database with {row['waiting_for_database']} blocks and transactions.")
    if row["marked"]:
        said.append(
            f"{name} was shown to have contradicted itself (`layer1 evidence list`), and counts among those that may "
            f"fail: find out why, and replace its key (`layer1 replica rotate {row['index']} KEY`), or `remove` it."
        )
    return said


def _links(answering: Sequence[Row]) -> list[str]:
    """Pairs that both answer and have no link, and who has none at all; told once."""
    alone = {row["index"]: next(filter(None, row["unlinked"].values()), "") for row in answering if _is_alone(row)}
    here = {row["index"] for row in answering} - alone.keys()
    told: dict[tuple[int, int], str] = {}
    for row in answering:
        for peer, problem in row["unlinked"].items():
            if peer in here and row["index"] in here:
                pair = min(row["index"], peer), max(row["index"], peer)
                told[pair] = told.get(pair) or problem
    apart = [f"replicas {pair[0]} and {pair[1]} have no link{_why(problem)}" for pair, problem in sorted(told.items())]
    return [*(f"replica {index} has no link with any other{_why(problem)}" for index, problem in alone.items()), *apart]


def _why(problem: str) -> str:
    """Why there is no link, and what helps, unless the problem says that itself."""
    helps = "" if "upgrade" in problem else ": see the network between them"
    return (f" ({problem})" if problem else "") + f"{helps}."


def _releases(answering: Sequence[Row]) -> list[str]:
    by_release: dict[str, list[str]] = defaultdict(list)
    for row in answering:
        by_release[str(row["release"])].append(str(row["index"]))
    if len(by_release) < 2:
        return []
    told = "; ".join(f"{release}: {', '.join(indices)}" for release, indices in sorted(by_release.items()))
    return [f"replicas run different releases ({told}): finish the upgrade."]
