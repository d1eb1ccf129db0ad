"""Journal records of the core: what it must remember to never contradict itself.

Safety: a restored core stands at or past every view it voted in, and knows every vote that it cast above its floor.

A record is one message of ours: own votes (a proposal of ours holds one), proposals that were validated, certificates
that were accepted. Order is the order of casting, and a vote's record is durable before the vote leaves, so what the
records lack nobody has seen.

Source: docs/design/consensus.md, "Persist before sending".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from layer1.codec import Struct, decode, encode
from layer1.consensus.certificates import Vote
from layer1.consensus.messages import (
    Certificate,
    Finalization,
    Finalize,
    Notarization,
    Notarize,
    Nullification,
    Nullify,
    Proposal,
    View,
)
from layer1.errors import LocalError, RemoteError


class VoteFrom(Struct, tag=32):
    """This replica votes in no view below this one: it does not remember what it said there.

    It lost its journal, or shortened it ("Persist before sending").
    """

    view: View


Record = Notarize | Finalize | Nullify | Notarization | Finalization | Nullification | Proposal | VoteFrom


def encode_record(record: Record) -> bytes:
    """The bytes to journal."""
    return encode(record)


def decode_record(data: bytes) -> Record:
    """Read one record.

    Raises:
        LocalError: The journal holds something else; it is damaged, or a newer version wrote it.
    """
    try:
        record: Record = decode(data, Record)  # type: ignore[arg-type]  # a union is not a type
    except RemoteError as error:
        raise LocalError(f"consensus record of {len(data)} bytes: {error}; restore the journal") from error
    return record


def of_later_epochs(records: Iterable[bytes], epoch: int) -> list[bytes]:
    """What of these records binds their replica after this epoch: views go on, so the highest `VoteFrom` does, too.

    Raises:
        LocalError: A record is damaged.
    """
    later, vote_from = [], 0
    for data in records:
        match record := decode_record(data):
            case VoteFrom():
                vote_from = max(vote_from, record.view)
            case Proposal():
                later += [data] if record.vote.epoch > epoch else []
            case _:
                later += [data] if record.epoch > epoch else []
    return [encode_record(VoteFrom(vote_from)), *later] if vote_from else later


@dataclass(slots=True)
class Restored:
    """What a journal says, in order."""

    votes: list[Vote] = field(default_factory=list)
    proposals: list[Proposal] = field(default_factory=list)
    certificates: list[Certificate] = field(default_factory=list)
    vote_from: View = 0


def replay(records: Iterable[bytes], index: int, epoch: int) -> Restored:
    """Read all records of replica ``index`` in ``epoch``; what is below the floor may be among them.

    A replica has other places in the sets of other epochs, and what it voted there binds it there alone.

    Raises:
        LocalError: A record is damaged, or a vote is another replica's.
    """
    restored = Restored()
    for data in records:
        record = decode_record(data)
        match record:
            case Notarize() | Finalize() | Nullify() if record.epoch != epoch:
                pass
            case Notarize() | Finalize() | Nullify():
                if record.replica != index:
                    raise LocalError(f"the journal holds a vote of replica {record.replica}, this is {index}")
                restored.votes.append(record)
            case Notarization() | Finalization() | Nullification():
                restored.certificates.append(record)
            case Proposal():
                restored.proposals.append(record)
                if record.vote.replica == index and record.vote.epoch == epoch:
                    restored.votes.append(record.vote)
            case VoteFrom():
                restored.vote_from = max(restored.vote_from, record.view)
    return restored
