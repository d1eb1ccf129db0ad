"""The ledger turned around (docs/design/consensus.md, "Time", "Mempool and batches"; groups.md, rules 8 to 11)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from layer1.consensus import chain
from layer1.crypto import Hash
from layer1.ledger import disputes, execute, settlement
from layer1.ledger.agreements import GroupAgreement
from layer1.ledger.draft import Draft
from layer1.ledger.state import State
from layer1.ledger.transactions import Transfer
from tests.simulation.mutants.grounds import DISPUTES, LONG_NIGHT, WHOLE
from tests.simulation.mutants.registry import mutant

SECOND_MS = 1_000


@mutant("Mempool and batches: a transaction appearing twice executes once", WHOLE, 10)
def executes_twice(patch: pytest.MonkeyPatch) -> None:
    """Ids are not remembered."""
    patch.setattr(State, "remembered", lambda self, transaction_id: False)


@mutant("Mempool and batches: remembers ids until they expire", WHOLE, 60)
def forgets_ids_early(patch: pytest.MonkeyPatch) -> None:
    """An id is forgotten two seconds before its life span ends."""

    def remembered(self: State, transaction_id: Hash) -> bool:
        for view in self._path():
            found = view._changes.ids.get(transaction_id)
            if found is not None:
                return found >= self.clock + 2 * SECOND_MS
        kept = [ids for lot, ids in self._store.lots.items() if lot * SECOND_MS >= self.clock + 2 * SECOND_MS]
        return any(transaction_id in ids for ids in kept)

    patch.setattr(State, "remembered", remembered)


@mutant("Execution and state: conservation, checked by the ledger itself", WHOLE, 5)
def debits_nobody(patch: pytest.MonkeyPatch) -> None:
    """A transfer pays the recipient and leaves the sender what it had."""
    transfer = Draft.transfer

    def generous(self: Draft, request: Transfer) -> None:
        before = self.balance(request.sender)
        transfer(self, request)
        self._accounts[request.sender] = before

    patch.setattr(Draft, "transfer", generous)


@mutant("Execution and state: conservation, with the ledger's own audit blind", WHOLE, 5)
def debits_nobody_unaudited(patch: pytest.MonkeyPatch) -> None:
    """The same, and nobody adds up."""
    debits_nobody(patch)
    patch.setattr(Draft, "_audit", lambda self: None)


@mutant("groups.md, rule 11: settle on the balances of the highest state", WHOLE, 20)
def settlement_loses_a_unit(patch: pytest.MonkeyPatch) -> None:
    """The first member of a group is paid a unit less, and nobody adds up."""
    entitlements = settlement.entitlements

    def poorer(agreement: GroupAgreement, balances: Sequence[int], *rest: Any) -> tuple[int, ...]:
        first, *others = entitlements(agreement, balances, *rest)
        return max(0, first - 1), *others

    patch.setattr(settlement, "entitlements", poorer)
    patch.setattr(Draft, "_audit", lambda self: None)


@mutant("groups.md, rule 9: reports count before the deadline only", WHOLE, 40)
def grants_a_second_of_grace(patch: pytest.MonkeyPatch) -> None:
    """Reports count, and settlement waits, until a second after the deadline."""
    live, due = settlement.check_live, State.due
    patch.setattr(disputes, "check_live", lambda group, clock_ms: live(group, clock_ms - SECOND_MS))
    patch.setattr(State, "due", lambda self, clock_ms: due(self, clock_ms - SECOND_MS))


@mutant("groups.md, rule 14: a higher version replaces", DISPUTES, 20)
def calls_the_newest_report_stale(patch: pytest.MonkeyPatch) -> None:
    """The first certificate that comes is the last."""
    patch.setattr(disputes, "with_certificate", lambda group, certificate, body: group)


@mutant("Time: clock = parent.clock + clamp(wall_time - parent.wall_time, 0, max_step)", LONG_NIGHT, 5)
def clock_without_clamp(patch: pytest.MonkeyPatch) -> None:
    """The ledger clock makes up for any pause at once."""
    patch.setattr(execute, "ledger_clock", lambda clock, parent_wall, wall, max_step: clock + wall - parent_wall)
    patch.setattr(chain, "clock_after", lambda parent, wall_time, max_step: parent.clock + wall_time - parent.wall_time)
