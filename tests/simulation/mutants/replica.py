"""Journal, batches, execution and catch-up turned around (docs/design/consensus.md, "Persist before sending" ff.)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from layer1.consensus.events import Now
from layer1.errors import check
from layer1.replica import application, core, events, mempool
from layer1.replica.announcing import Announcements
from layer1.replica.answering import Answering
from layer1.replica.batches import BatchStore, Held
from layer1.replica.catchup import CatchUpState
from layer1.replica.core import ReplicaCore
from layer1.replica.lanes import Lane
from layer1.replica.shares import Shares, Taken
from layer1.replica.work import WorkWatch
from tests.simulation.mutants.grounds import CENSOR, FAR_BEHIND, FLOODER, FULL, LATE, STEADY, WHOLE, WRONG_ROOTS
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


@mutant("Mempool and batches: room of their own in every pool", FULL, 3)
def keeps_no_room_for_disputes(patch: pytest.MonkeyPatch) -> None:
    """Disputes and transfers have one room together, and whoever comes first takes it."""

    def _check_room(self: Shares, entries: Sequence[Taken], lane: bool) -> None:
        count, most = self._count.total() + len(entries), self._limits.transactions
        check(count <= most, "pool_full", f"{count} would wait here, at most {most} may")

    patch.setattr(Shares, "_check_room", _check_room)


@mutant("Mempool and batches: the first claim on every block", FULL, 3)
def orders_disputes_like_transfers(patch: pytest.MonkeyPatch) -> None:
    """A leader takes up what came first."""
    patch.setattr(BatchStore, "shared_out", lambda self: iter(sorted(self.pending(), key=lambda held: held.arrived_ms)))


@mutant("Mempool and batches: in every block the replicas have their turns by weight", FLOODER, 3)
def serves_who_came_first(patch: pytest.MonkeyPatch) -> None:
    """Among disputes, a leader takes up what came first, whoever it is from."""
    patch.setattr(Lane, "shared_out", lambda self, turn: iter(self))


@mutant("rule 6: every block has room for a dispute, however full it is", CENSOR, 3)
def excuses_full_blocks(patch: pytest.MonkeyPatch) -> None:
    """A leader that fills its blocks may leave out a dispute, as it may leave out a transfer."""

    def _passed_over_ms(self: WorkWatch) -> int | None:
        waiting = [held for held in (self._dispute, self._ordinary) if held is not None]
        return min((max(held.arrived_ms, self._no_room_ms) for held in waiting), default=None)

    patch.setattr(WorkWatch, "_passed_over_ms", _passed_over_ms)


@mutant("Catching up: fetches finalized blocks with certificates, checks, executes", LATE, 20)
def catches_up_without_certificates(patch: pytest.MonkeyPatch) -> None:
    """Fetched blocks are executed under any finalization."""
    patch.setattr(CatchUpState, "_check", lambda self, segment, floor: None)


@mutant("Catching up: fetches finalized blocks, however far behind", FAR_BEHIND, 10)
def serves_only_what_it_remembers(patch: pytest.MonkeyPatch) -> None:
    """What was loaded from storage for a late replica is not sent to it."""

    def silent(self: Answering, event: events.Loaded, _now: Now) -> tuple[()]:
        self.loads.loaded(event.peer, event.first)
        return ()

    patch.setattr(Answering, "on_loaded", silent)
