"""Snapshots turned around (docs/design/consensus.md, "Catching up, joining, leaving"; decision on snapshots)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from msgspec import structs

from layer1.errors import LocalError, RemoteError
from layer1.ledger.genesis import Genesis
from layer1.ledger.image import collect
from layer1.ledger.state import State
from layer1.proof import HeadProof, Trust
from layer1.replica import checkpoints
from layer1.replica.application import Floor
from layer1.statemachine import StateMachine
from tests.simulation.mutants.grounds import POISONED, PROMISED
from tests.simulation.mutants.registry import mutant


@mutant("Catching up: a snapshot that hashes to a finalized `state_root`", POISONED, 20)
def compares_no_root_of_a_snapshot(patch: pytest.MonkeyPatch) -> None:
    """What decodes as a state is gone on from."""

    def load(genesis: Genesis, found: Iterator[bytes], machine: StateMachine | None = None) -> tuple[Trust, Floor]:
        try:
            head = checkpoints.read_head(found)
            trust, records, header = checkpoints.check_head(head, genesis), collect(found), head.header
        except RemoteError as error:
            raise LocalError(str(error)) from error
        state = State.assemble(genesis, records, (header.height, header.clock, header.wall_time), machine)
        return trust, Floor(header.id, header, head.finalization, state, head.path)

    patch.setattr(checkpoints, "load", load)


@mutant("Mempool and batches: one leaf of the tree holds a hash over all lots", POISONED, 20)
def leaves_ids_out_of_a_checkpoint(patch: pytest.MonkeyPatch) -> None:
    """Remembered transactions are not among the pieces: who starts from them would execute some again."""
    image = State.image
    patch.setattr(State, "image", lambda self: replace(image(self), lots=()))


@mutant("Catching up: hashes to a *finalized* `state_root`", PROMISED, 20)
def believes_any_head(patch: pytest.MonkeyPatch) -> None:
    """The header of a snapshot is taken as it comes."""

    def verify_head(trust: Trust, head: HeadProof) -> None:
        trust.set_of(head.header.epoch)

    patch.setattr(checkpoints, "verify_head", verify_head)


@mutant(
    "Catching up: a light client follows boundaries from genesis, and so does who starts from a snapshot", POISONED, 20
)
def forgets_the_first_handover(patch: pytest.MonkeyPatch) -> None:
    """A checkpoint names how the last epoch ended, and not those before."""
    head_of = checkpoints.head_of

    def of_the_last(trust: Trust, floor: Floor) -> checkpoints.Head:
        head = head_of(trust, floor)
        return structs.replace(head, handovers=head.handovers[-1:])

    patch.setattr(checkpoints, "head_of", of_the_last)
