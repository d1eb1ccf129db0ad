"""Order proofs and wedged statements: what a wedged chain of 2f+1 goes on from.

Safety: any f+1 valid statements that agree, of members of whom at most f lie, hold all that was ever committed.

What is committed all 2f+1 signed. One of the f+1 is honest, and states all that it signed; a history that does not
contradict it and is longer begins with it.

Source: van Renesse, Ho and Schiper, Byzantine Chain Replication (2012); docs/design/groups.md, "Witnessed groups".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from examples.replication.master import Configuration
from layer1 import crypto
from layer1.codec import encode
from layer1.crypto import ZERO_HASH, Kind, Signature

FAULTS = 1
"""f: the most that may lie, of 2f+1."""

Proof = tuple[tuple[str, Signature], ...]
"""Who signed, from the head on."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An update at one place of the history, and who signed that it stands there."""

    slot: int
    update: str
    proof: Proof = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """A wedged member's last word: its whole history."""

    name: str
    history: tuple[Entry, ...]
    signature: Signature


def words_of(configuration: Configuration, entry: Entry) -> bytes:
    """What a signature of an update covers."""
    return encode((configuration.number, configuration.id, configuration.note, entry.slot, entry.update))


def words_of_all(configuration: Configuration, history: Iterable[Entry]) -> bytes:
    """What the signature of a statement covers."""
    updates = [(entry.slot, entry.update) for entry in history]
    return encode((configuration.number, configuration.id, configuration.note, updates))


@cache
def verify(public: bytes, signature: Signature, kind: Kind, data: bytes) -> bool:
    """With a memo: each replica checks what the one before it checked."""
    return crypto.verify(public, signature, kind, ZERO_HASH, data)


def is_signed(configuration: Configuration, entry: Entry, names: Sequence[str]) -> bool:
    """Whether the entry's proof begins with good signatures of these members."""
    if tuple(name for name, _ in entry.proof[: len(names)]) != tuple(names):
        return False
    data = words_of(configuration, entry)
    keys = [configuration.key(name).public for name in names]
    return all(verify(key, signature, Kind.STATE, data) for key, (_, signature) in zip(keys, entry.proof, strict=False))


def is_valid(configuration: Configuration, statement: Statement) -> bool:
    """Whether this is a member's word, and each update in it was signed by it and all before it."""
    if statement.name not in configuration.members:
        return False
    upto = configuration.members[: configuration.members.index(statement.name) + 1]
    key = configuration.key(statement.name).public
    return verify(key, statement.signature, Kind.CLAIM, words_of_all(configuration, statement.history)) and all(
        entry.slot == slot and is_signed(configuration, entry, upto) for slot, entry in enumerate(statement.history)
    )


def agree(one: Statement, other: Statement) -> bool:
    """Whether one history begins with the other."""
    return all(a.update == b.update for a, b in zip(one.history, other.history, strict=False))


def decide(
    configuration: Configuration, statements: Iterable[Statement], needed: int = FAULTS + 1
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Find f+1 members whose valid statements do not contradict each other: their names, and what to go on from.

    None while there are too few: one waits for more, as f+1 honest members will all speak.
    """
    valid = [statement for statement in statements if is_valid(configuration, statement)]
    for chosen in combinations(valid, needed):
        distinct = len({statement.name for statement in chosen}) == needed
        if distinct and all(agree(one, other) for one, other in combinations(chosen, 2)):
            longest = max((statement.history for statement in chosen), key=len)
            return tuple(statement.name for statement in chosen), tuple(entry.update for entry in longest)
    return None
