"""Honest votes: over all its lives a replica never contradicts itself, and no vote leaves before it is durable.

Source: docs/design/consensus.md, rules 3 and 5, "Persist before sending".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from layer1.codec import decode
from layer1.consensus.certificates import Vote
from layer1.consensus.messages import Finalize, Message, Notarize, Nullify, Proposal
from layer1.consensus.records import decode_record
from layer1.crypto import Signature
from layer1.header import BlockId
from layer1.ledger.genesis import Genesis
from layer1.replica.core import consensus_config
from layer1.replica.messages import ConsensusMessage, LinkMessage
from layer1.replica.records import ConsensusRecord, Record
from tests.simulation.checkers.base import Checker
from tests.simulation.checkers.reference import Reference


class HonestVotes(Checker):
    """All votes that honest replicas sent, and all that reached their disks."""

    def __init__(self, genesis: Genesis, honest: Iterable[int], reference: Reference | None = None) -> None:
        super().__init__(genesis, honest, reference)
        self._config = consensus_config(genesis, genesis.replica_set)
        self._durable: set[Signature] = set()
        self._seen: set[Signature] = set()
        self._notarized: dict[tuple[int, int, int], BlockId] = {}
        """By replica, epoch and view."""
        self._finalized: dict[tuple[int, int, int], BlockId] = {}
        self._nullified: dict[tuple[int, int, int], int] = {}
        """By replica, epoch and term, from which view on."""

    def synced(self, process: str, replica: int, records: Sequence[bytes]) -> None:
        for data in records:
            record: Record = decode(data, Record)  # type: ignore[arg-type]  # a union is not a type
            if isinstance(record, ConsensusRecord):
                vote = decode_record(record.record)
                if isinstance(vote, Proposal):
                    self._durable.add(vote.vote.signature)
                elif isinstance(vote, Notarize | Finalize | Nullify):
                    self._durable.add(vote.signature)

    def sent(self, process: str, replica: int, data: bytes) -> None:
        message: LinkMessage = decode(data, LinkMessage)  # type: ignore[arg-type]  # a union is not a type
        if isinstance(message, ConsensusMessage):
            self.said(process, replica, message.message)

    def said(self, process: str, replica: int, message: Message) -> None:
        """An honest replica sent this message of consensus, its own or another's."""
        vote = message.vote if isinstance(message, Proposal) else message
        if not isinstance(vote, Notarize | Finalize | Nullify) or vote.epoch >= len(self.reference.sets):
            return
        members = self.reference.sets[vote.epoch]
        if vote.replica >= len(members.seats):
            self.fail(f"{process} sent a vote of nobody in epoch {vote.epoch}: {vote}")
        if vote.replica != members.position_of(replica) or vote.signature in self._seen:
            return
        self._seen.add(vote.signature)
        if vote.signature not in self._durable:
            self.fail(f"{process} sent a vote that is not durable: {vote}")
        self._check(replica, vote)

    def _check(self, replica: int, vote: Vote) -> None:
        config, epoch = self._config, vote.epoch
        match vote:
            case Notarize():
                if self._notarized.setdefault((replica, epoch, vote.view), vote.block) != vote.block:
                    self.fail(f"replica {replica} notarized two blocks in view {vote.view}")
            case Finalize():
                if self._finalized.setdefault((replica, epoch, vote.view), vote.block) != vote.block:
                    self.fail(f"replica {replica} finalized two blocks in view {vote.view}")
                start = self._nullified.get((replica, epoch, config.term(vote.view)))
                if start is not None and start <= vote.view:
                    self.fail(f"replica {replica} finalized view {vote.view} after nullifying from {start} on")
            case Nullify():
                self._check_nullify(replica, vote)

    def _check_nullify(self, replica: int, vote: Nullify) -> None:
        term, epoch = self._config.term(vote.start), vote.epoch
        if self._nullified.setdefault((replica, epoch, term), vote.start) != vote.start:
            self.fail(f"replica {replica} nullified twice in term {term}")
        for view in range(vote.start, self._config.last_view(vote.start) + 1):
            if (replica, epoch, view) in self._finalized:
                self.fail(f"replica {replica} nullified from {vote.start} on after finalizing view {view}")
