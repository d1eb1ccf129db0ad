"""Ranges: a nullify vote gives up the view that its replica stands in and what follows, nothing before [S1].

Where a replica stands is in its journal, whose order is that of casting: each certificate that it took leads past its
view, or past its term.

Source: docs/design/consensus.md, rules 1 and 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from layer1.codec import decode
from layer1.consensus.config import Config
from layer1.consensus.messages import Finalization, Notarization, Nullification, Nullify, Proposal, View
from layer1.consensus.records import VoteFrom, decode_record
from layer1.ledger.genesis import Genesis
from layer1.replica.core import consensus_config
from layer1.replica.records import ConsensusRecord, Record
from tests.simulation.checkers.base import Checker
from tests.simulation.checkers.reference import Reference


class Standing:
    """One replica's journal of consensus, read as it grows."""

    def __init__(self, config: Config, view: View = 1) -> None:
        self._config = config
        self.epoch = 0
        self.view = view
        """That it stands in at least. An epoch that ended by filler went on beyond the first view of the next one."""

    def read(self, record: bytes) -> str:
        """Take the next record; what is wrong with it, or nothing."""
        found = decode_record(record)
        epoch = self.epoch if isinstance(found, Proposal | VoteFrom) else found.epoch
        if epoch < self.epoch:
            return f"epoch {epoch} is over, and this is journaled: {found}" if isinstance(found, Nullify) else ""
        if epoch > self.epoch:
            self.epoch, self.view = epoch, 1
        match found:
            case Notarization() | Finalization():
                self.view = max(self.view, found.view + 1)
            case Nullification():
                self.view = max(self.view, self._config.last_view(found.view) + 1)
            case Nullify() if found.start < self.view:
                return f"replica {found.replica} stands in view {self.view} and nullifies from {found.start} on"
            case _:
                pass
        return ""


class Ranges(Checker):
    """The nullify votes in all journals."""

    def __init__(self, genesis: Genesis, honest: Iterable[int], reference: Reference | None = None) -> None:
        super().__init__(genesis, honest, reference)
        config = consensus_config(genesis, genesis.replica_set)
        self._standing = {replica: Standing(config) for replica in self.honest}

    def synced(self, process: str, replica: int, records: Sequence[bytes]) -> None:
        for data in records:
            record: Record = decode(data, Record)  # type: ignore[arg-type]  # a union is not a type
            if isinstance(record, ConsensusRecord) and (wrong := self._standing[replica].read(record.record)):
                self.fail(wrong)
