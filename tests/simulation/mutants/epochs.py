"""The change of the replica set turned around (docs/design/consensus.md, "Catching up, joining, leaving")."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from layer1.block import CommittedBlock
from layer1.consensus import core as consensus_core
from layer1.consensus import records
from layer1.consensus.config import Config
from layer1.consensus.core import Consensus
from layer1.consensus.events import Now
from layer1.consensus.messages import Finalization
from layer1.consensus.quorum import quorum
from layer1.consensus.records import Restored
from layer1.header import Header
from layer1.ledger import replicas
from layer1.ledger.execute import Execution, execute
from layer1.ledger.genesis import Genesis
from layer1.ledger.replicas import ReplicaSet
from layer1.ledger.state import State
from layer1.replica import application, core
from layer1.replica.application import Application
from layer1.replica.core import ReplicaCore
from layer1.replica.messages import ConsensusMessage
from tests.simulation.mutants.grounds import CHANGES, FILLER
from tests.simulation.mutants.registry import mutant


@mutant("Joining, leaving: filler executes nothing, not even what falls due", FILLER, 60)
def settles_on_filler(patch: pytest.MonkeyPatch) -> None:
    """Filler is a block like any other, only without transactions."""

    def execute_filler(parent: State, wall_time: int) -> Execution:
        return execute(parent, wall_time, ())

    patch.setattr(application, "execute_filler", execute_filler)


@mutant("Joining, leaving: the new epoch's first parent is exactly the boundary block", FILLER, 20)
def begins_on_filler(patch: pytest.MonkeyPatch) -> None:
    """Filler becomes part of the ledger, and the next epoch stands on it."""

    def commit(self: Application, headers: Sequence[Header], finalization: Finalization) -> list[CommittedBlock]:
        fresh = [header for header in headers if header.height > self.floor.header.height]
        committed = [
            self._commit(header, finalization, tuple(fresh[place + 1 :])) for place, header in enumerate(fresh)
        ]
        self._forget_siblings()
        return committed

    patch.setattr(Application, "commit", commit)


@mutant("Persist before sending: own votes, of every epoch", CHANGES, 40)
def forgets_votes_of_later_epochs(patch: pytest.MonkeyPatch) -> None:
    """A restart takes up what was voted in the first epoch, and nothing else."""
    replay = records.replay

    def of_the_first(found: Iterable[bytes], index: int, epoch: int) -> Restored:
        return replay(found, index, epoch) if epoch == 0 else Restored()

    patch.setattr(consensus_core, "replay", of_the_first)


@mutant("Model: f is the largest that fits and q = n - f, of the current epoch's replica set", CHANGES, 20)
def keeps_the_first_quorum(patch: pytest.MonkeyPatch) -> None:
    """The keys of an epoch are its own, the number of votes in a certificate is that of genesis."""

    class Stale(Config):
        """With the quorum of another set."""

        quorum = property(lambda self: quorum(4, "byzantine"))

    def consensus_config(genesis: Genesis, replica_set: ReplicaSet) -> Config:
        right = real(genesis, replica_set)
        return Stale(**{name: getattr(right, name) for name in Config.__slots__})

    real = core.consensus_config
    patch.setattr(core, "consensus_config", consensus_config)


@mutant("Joining, leaving: who is in no set listens, casts no vote", CHANGES, 10)
def listeners_vote(patch: pytest.MonkeyPatch) -> None:
    """Whoever is not in the set takes part all the same."""
    init = Consensus.__init__

    def __init__(self: Consensus, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        self._vote_from = 0 if not self.is_member else self._vote_from

    patch.setattr(Consensus, "__init__", __init__)


@mutant("Joining, leaving: a message of an earlier epoch is answered with the finalization that ended it", CHANGES, 60)
def serves_no_end(patch: pytest.MonkeyPatch) -> None:
    """What peers in an earlier epoch say is passed over."""
    hear = ReplicaCore._on_consensus_message

    def _on_consensus_message(self: ReplicaCore, peer: int, message: ConsensusMessage, now: Now) -> None:
        if message.epoch >= self.config.epoch:
            hear(self, peer, message, now)

    patch.setattr(ReplicaCore, "_on_consensus_message", _on_consensus_message)


@mutant("Joining, leaving: signed by a quorum of the set", CHANGES, 10)
def checks_no_approvals(patch: pytest.MonkeyPatch) -> None:
    """Whoever brings a change of the set gets it."""
    patch.setattr(replicas, "_check_signatures", lambda current, request, chain_id: None)
