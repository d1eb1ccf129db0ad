"""What checkers hear, and how they say that something is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from layer1.block import CommittedBlock
from layer1.crypto import Hash, PublicKey
from layer1.errors import Refused, WedgeError
from layer1.header import Header
from layer1.ledger.genesis import Genesis
from layer1.ledger.replicas import ReplicaSet
from layer1.ledger.transactions import Transaction
from tests.simulation.checkers.reference import Reference


class Violation(AssertionError):
    """A property does not hold."""

    def __init__(self, checker: Checker, message: str) -> None:
        super().__init__(f"{checker.name}: {message}")


@dataclass(frozen=True, slots=True)
class Read:
    """A client read an account, and the answer proved itself."""

    client: str
    address: PublicKey
    invoked_us: int
    answered_us: int
    balance: int
    header: Header
    """The final header that the proof leads to."""


@dataclass(frozen=True, slots=True)
class Write:
    """A client heard, with a proof, what became of its transaction."""

    client: str
    transaction_id: Hash
    invoked_us: int
    answered_us: int
    code: str
    header: Header


class Checker:
    """One property; overrides what it wants to hear of. Replicas are given by index, processes by name."""

    def __init__(self, genesis: Genesis, honest: Iterable[int], reference: Reference | None = None) -> None:
        self.genesis = genesis
        self.honest = frozenset(honest)
        self.reference = reference or Reference(genesis)

    @property
    def name(self) -> str:
        """For reports."""
        return type(self).__name__

    def fail(self, message: str) -> None:
        """The property is broken."""
        raise Violation(self, message)

    def submitted(self, transaction: Transaction) -> None:
        """A client, or a Byzantine replica with a client's key, signed this and brought it to somebody."""

    def synced(self, process: str, replica: int, records: Sequence[bytes]) -> None:
        """These journal records of an honest replica are durable."""

    def sent(self, process: str, replica: int, data: bytes) -> None:
        """An honest replica sent this to one or all of its peers."""

    def restored(self, process: str, replica: int, blocks: Sequence[CommittedBlock], height: int) -> None:
        """An honest replica came back at this height; these are the last final blocks, as far as it replayed them.

        They count as delivered: it may have been killed before anybody delivered them.
        """
        for block in blocks:
            self.delivered(process, replica, block)

    def entered(self, process: str, replica: int, sets: Sequence[ReplicaSet]) -> None:
        """An honest replica knows these sets, by epoch; the last is in office for it."""

    def delivered(self, process: str, replica: int, block: CommittedBlock) -> None:
        """An honest replica calls this block final."""

    def rejected(self, replica: int, ids: Sequence[Hash], refusal: Refused) -> None:
        """An honest replica says that these will never be final by its doing."""

    def misbehaved(self, replica: int, accused: int, reason: str) -> None:
        """An honest replica says that another one broke the protocol."""

    def failed(self, replica: int, error: WedgeError) -> None:
        """An honest replica stopped."""

    def answered(self, operation: Read | Write) -> None:
        """A client has an answer."""

    def healed(self, now_us: int, timeout_ms: int, faulty: int, ahead_ms: int = 0) -> None:
        """From now on the network is good, and all replicas but so many do what they should.

        Args:
            now_us: When.
            timeout_ms: No view of an honest replica lasts longer now.
            faulty: Replicas that are Byzantine, are gone, or may not vote yet since they lost their disk.
            ahead_ms: How far a certified block is ahead of all clocks that are right, beyond the drift bound.
        """

    def promised(self, transaction: Transaction) -> None:
        """An honest replica took this in, after the network healed."""

    def excused(self, transaction_id: Hash) -> None:
        """It did not take it in after all, and said so."""

    def finish(self, now_us: int) -> None:
        """The run is over."""


class Checkers(Checker):
    """All checkers of a run."""

    def __init__(self, checkers: Sequence[Checker]) -> None:
        first = checkers[0]
        super().__init__(first.genesis, first.honest, first.reference)
        self.all = tuple(checkers)
        for hook in _HOOKS:
            setattr(self, hook, _fan_out([getattr(one, hook) for one in checkers if _hears(one, hook)]))


_HOOKS = (
    "submitted",
    "synced",
    "sent",
    "restored",
    "entered",
    "delivered",
    "rejected",
    "misbehaved",
    "failed",
    "answered",
    "healed",
    "promised",
    "excused",
    "finish",
)


def _hears(checker: Checker, hook: str) -> bool:
    hooks = (hook, "delivered") if hook == "restored" else (hook,)
    return any(getattr(type(checker), name) is not getattr(Checker, name) for name in hooks)


def _fan_out(listeners: Sequence[object]) -> object:
    def tell(*arguments: object) -> None:
        for listener in listeners:
            listener(*arguments)  # type: ignore[operator]

    return tell
