"""Journal, batches, execution and catch-up turned around (docs/design/consensus.md, "Persist before sending" ff.)."""

from __future__ import annotations

import pytest

from layer1.replica import application, core, mempool
from layer1.replica.announcing import Announcements
from layer1.replica.batches import Held
from layer1.replica.catchup import CatchUpState
from layer1.replica.core import ReplicaCore
from tests.simulation.mutants.grounds import FAR_BEHIND, LATE, STEADY, WHOLE, WRONG_ROOTS
from tests.simulation.mutants.registry import mutant


@mutant("rule 3: [L2: otherwise a notarized block can be lost by everyone]", WHOLE, 20)
def votes_before_batches_are_durable(patch: pytest.MonkeyPatch) -> None:
    """Batches are never written down; a restart has the header alone."""

    def _make_durable(self: ReplicaCore, held: Held, *, lazy: bool) -> None:
        held.durable = True

    patch.setattr(ReplicaCore, "_make_durable", _make_durable)


@mutant("Persist before sending: one fdatasync before any message of that turn leaves", WHOLE, 10)
def syncs_later(patch: pytest.MonkeyPatch) -> None:
    """Votes are written with the next sync, whenever that is."""
    patch.setattr(core, "_can_be_had_again", lambda record: True)


@mutant("Execution and state: executing it gives the header's roots", WRONG_ROOTS, 30)
def compares_no_state_root(patch: pytest.MonkeyPatch) -> None:
    """A voter takes the leader's word for the state root."""
    same = application._same

    def _same(what: str, claimed: object, found: object) -> None:
        if what != "state root":
            same(what, claimed, found)

    patch.setattr(application, "_same", _same)


@mutant("Mempool and batches: verifies signatures one by one", WHOLE, 10)
def verifies_no_transactions(patch: pytest.MonkeyPatch) -> None:
    """A payment counts whoever signed it."""
    patch.setattr(mempool, "verify_transaction", lambda transaction, chain_id: None)


@mutant("Mempool and batches: [otherwise one that its packer lost in a crash ... stood still]", STEADY, 60)
def announces_no_batches(patch: pytest.MonkeyPatch) -> None:
    """A batch that was lost on its way to the leader is never spoken of again."""
    patch.setattr(Announcements, "at_ms", lambda self, oldest_ms: None)


@mutant("Catching up: fetches finalized blocks with certificates, checks, executes", LATE, 20)
def catches_up_without_certificates(patch: pytest.MonkeyPatch) -> None:
    """Fetched blocks are executed under any finalization."""
    patch.setattr(CatchUpState, "_check", lambda self, segment, floor: None)


@mutant("Catching up: fetches finalized blocks, however far behind", FAR_BEHIND, 10)
def serves_only_what_it_remembers(patch: pytest.MonkeyPatch) -> None:
    """What was loaded from storage for a late replica is not sent to it."""
    patch.setattr(ReplicaCore, "_on_loaded", lambda self, event, now: self._loads.loaded(event.peer, event.first))
