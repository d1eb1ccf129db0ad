"""Executing a block: due settlements first, then its transactions in order, giving a view, outputs and roots.

Safety: replicas that execute the same transactions above the same state, with the same wall time, get the same roots.

Nothing enters but the arguments: no local clock, no randomness, no order of a hash table. A transaction id gets at
most one output, ever: ids are remembered while their life span lasts, whether the answer was ``ok`` or a refusal, and
outside their life span they are passed over without an answer. A refusal changes nothing else.

Account signatures are not checked here: a batch is executed after :func:`layer1.ledger.admission.verify_transaction`
passed all of it. What the members of a group or a replica signed is checked here, for it depends on the state.

Source: docs/design/consensus.md, "Time", "Mempool and batches", "Execution and state"; architecture.md, "Time".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from layer1 import merkle
from layer1.crypto import Hash
from layer1.errors import Refused, RemoteError
from layer1.ledger.draft import Draft
from layer1.ledger.events import Event
from layer1.ledger.replicas import ChangeReplicas
from layer1.ledger.state import Changes, State
from layer1.ledger.transactions import (
    Accusation,
    Appoint,
    ChangeGroup,
    CloseGroup,
    Command,
    OpenGroup,
    Output,
    Plea,
    RegisterPreimages,
    Report,
    Reveal,
    Transaction,
    Transfer,
    Wedge,
)

OK = "ok"
"""The code of an output whose transaction did what it asked."""


@dataclass(frozen=True, slots=True)
class Execution:
    """What executing a block gives; the roots and the clock must be its header's."""

    state: State
    """The view after the block; commit it when the block is final."""
    clock: int
    """Ledger clock of the block, ms."""
    transactions: tuple[Transaction, ...]
    """Those that executed or were refused, in order; what was passed over is left out."""
    transaction_ids: tuple[Hash, ...]
    """Theirs."""
    outputs: tuple[Output, ...]
    """One for each of them."""
    transactions_root: Hash
    outputs_root: Hash
    events: tuple[Event, ...]


def ledger_clock(parent_clock: int, parent_wall: int, wall: int, max_step: int) -> int:
    """The block's ledger clock, ms: the parent's plus what the wall clock moved, from 0 to `max_step`."""
    return parent_clock + min(max(wall - parent_wall, 0), max_step)


def execute(parent: State, wall_time: int, transactions: Sequence[Transaction]) -> Execution:
    """Execute one block above `parent`, which stays as it is.

    Args:
        parent: The view of the parent block.
        wall_time: Of the block's header, ms since 1970.
        transactions: All batches of the block, in order, their account signatures verified.

    Raises:
        RemoteError: The wall time lies before the parent's: the block is invalid.
        LocalError: Money appeared or vanished, or `parent` does not descend from the committed head.
    """
    _check_wall_time(parent, wall_time)
    clock = ledger_clock(parent.clock, parent.wall_time, wall_time, parent.parameters.max_step_ms)
    draft = Draft(parent, clock)
    draft.settle_due()
    executed, outputs = _run(draft, transactions)
    names = tuple(output.transaction_id for output in outputs)
    return Execution(
        state=draft.finish(wall_time),
        clock=clock,
        transactions=tuple(executed),
        transaction_ids=names,
        outputs=tuple(outputs),
        transactions_root=merkle.list_root(names),
        outputs_root=merkle.list_root([output.hash for output in outputs]),
        events=tuple(draft.events),
    )


def execute_filler(parent: State, wall_time: int) -> Execution:
    """An empty block that changes nothing: what an epoch builds on its last block, to make it final.

    It is no part of the ledger, so nothing may come of it, not even at a deadline; and its clock stands still. The next
    epoch begins on the boundary, at a clock that filler could have been past: who believed that one would call dead
    what the next block takes.

    Raises:
        RemoteError: The wall time lies before the parent's: the block is invalid.
    """
    _check_wall_time(parent, wall_time)
    clock = parent.clock
    nothing = merkle.list_root([])
    return Execution(parent.child(Changes(), clock, wall_time, forgets=False), clock, (), (), (), nothing, nothing, ())


def rehearse(state: State, transaction: Transaction) -> None:
    """See whether `state` would refuse the transaction, by executing it alone on a draft that is thrown away.

    Raises:
        Refused: As its output would say.
    """
    _apply(Draft(state, state.clock), transaction, transaction.id)


def _check_wall_time(parent: State, wall_time: int) -> None:
    if wall_time < parent.wall_time:
        raise RemoteError(f"wall time {wall_time} is before the parent's {parent.wall_time}; it never goes back")


def _run(draft: Draft, transactions: Sequence[Transaction]) -> tuple[list[Transaction], list[Output]]:
    executed, outputs = [], []
    parent, seen, clock = draft.parent, draft.changes.ids, draft.clock_ms
    latest = clock + parent.parameters.max_valid_ms
    for transaction in transactions:
        until = transaction.valid_until_ms
        if not clock <= until <= latest:
            continue  # outside its life span: an answer now could contradict another one
        name = transaction.id
        if name in seen or parent.remembered(name):
            continue
        seen[name] = until
        executed.append(transaction)
        outputs.append(_answer(draft, transaction, name))
    return executed, outputs


def _answer(draft: Draft, transaction: Transaction, name: Hash) -> Output:
    try:
        return Output(name, OK, *_apply(draft, transaction, name))
    except Refused as refusal:
        return Output(name, refusal.code, refusal.message)


_DONE = ("", None)
"""Nothing more to say."""


def _apply(draft: Draft, transaction: Transaction, name: Hash) -> tuple[str, Hash | None]:
    """What the output says beside ``ok``: message and group."""
    match transaction.payload:
        case Transfer() as payload:
            draft.transfer(payload)
            return _DONE
        case OpenGroup() | CloseGroup() | Wedge() | Report() | Plea() | Reveal() | ChangeGroup() as payload:
            return "", _apply_to_group(draft, payload, name)
        case Appoint() as payload:
            draft.appoint(payload)
            return _DONE
        case Accusation() as payload:
            draft.mark(payload, name)
            return _DONE
        case ChangeReplicas() as payload:
            draft.change_replicas(payload, name)
            return _DONE
        case Command() as payload:
            return draft.command(payload), None
        case RegisterPreimages() as payload:
            draft.register(payload, name)
            return _DONE
        case _ as never:
            assert_never(never)


def _apply_to_group(
    draft: Draft,
    payload: OpenGroup | CloseGroup | Wedge | Report | Plea | Reveal | ChangeGroup,
    name: Hash,
) -> Hash:
    match payload:
        case OpenGroup():
            return draft.open_group(payload, name)
        case CloseGroup():
            return draft.close_group(payload, name)
        case Wedge():
            return draft.wedge(payload, name)
        case Report():
            return draft.report(payload, name)
        case Plea():
            return draft.plead(payload, name)
        case Reveal():
            return draft.reveal(payload, name)
        case ChangeGroup():
            return draft.change_group(payload, name)
