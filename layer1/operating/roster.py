"""Who runs a ledger, who did and who is to: one row for each replica, for ``layer1 replica list``.

Sets, epochs and marks are proven from the genesis; where a replica listens and whether it is connected is the word of
whoever was asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from layer1.crypto import PublicKey
from layer1.ledger.records import Mark
from layer1.ledger.replicas import ReplicaSet
from layer1.operating.joining import Known


def roster(known: Iterable[Known], sets: Sequence[ReplicaSet], marks: Mapping[PublicKey, Mark]) -> list[dict[str, Any]]:
    """A row for each replica, as JSON.

    Args:
        known: Of the newest set, and whoever else is known.
        sets: All that there were, by epoch.
        marks: Of members of the newest set that were shown to have contradicted themselves.
    """
    return [_row(one, sets, marks.get(one.key)) for one in known]


def _row(known: Known, sets: Sequence[ReplicaSet], mark: Mark | None) -> dict[str, Any]:
    members, terms = sets[-1], terms_of(known.key, sets)
    member = known.key in members.keys
    return {
        "number": known.number,
        "position": members.keys.index(known.key) if member else None,
        "key": known.key.hex(),
        "member": member,
        "since_epoch": terms[-1][0] if terms else None,
        "until_epoch": terms[-1][1] if terms and not member else None,
        "connected": known.connected,
        "link": known.link,
        "api": known.api,
        "marked": None if mark is None else mark.transaction_id.hex(),
    }


def terms_of(key: PublicKey, sets: Iterable[ReplicaSet]) -> list[tuple[int, int]]:
    """The epochs through which a key was in the set, the first and the last of each stretch; the newest at the end."""
    terms: list[tuple[int, int]] = []
    for epoch in (known.epoch for known in sets if key in known.keys):
        begins = not terms or terms[-1][1] < epoch - 1
        terms = [*terms, (epoch, epoch)] if begins else [*terms[:-1], (terms[-1][0], epoch)]
    return terms


def role(row: Mapping[str, Any]) -> str:
    """What a replica is, and since when, in words."""
    since, until = row["since_epoch"], row["until_epoch"]
    if row["member"]:
        return f"since epoch {since}" + (", marked" if row["marked"] else "")
    if since is None:
        return "not yet: listens"
    return f"left: was in epoch {since}" if since == until else f"left: was in epochs {since} to {until}"


def advice(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What to do about replicas that are marked: a sentence for each."""
    for row in rows:
        if row["marked"]:
            yield (
                f"Replica {row['number']} was shown to have contradicted itself (transaction {row['marked'][:12]}; "
                "`layer1 evidence list` has the proof), and counts among the f that may fail. Nothing removes it by "
                f"itself. Find out why it did; then replace it by a clean home, `layer1 replica rotate {row['number']} "
                f"KEY`, or without one `layer1 replica remove {row['number']}`."
            )
