"""What the HTTP API needs of a replica. The replica implements it; tests of the API use a small stand-in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from layer1.block import CommittedBlock
from layer1.consensus.evidence import Evidence
from layer1.consensus.messages import Finalization
from layer1.crypto import Hash
from layer1.header import Header
from layer1.ledger.genesis import Genesis
from layer1.ledger.state import State
from layer1.ledger.transactions import Output, Transaction
from layer1.proof import Handover
from layer1.storage.store import Store

NO_DATABASE = "the database of this replica does not answer just now; try again soon, or ask another replica"


@dataclass(frozen=True, slots=True)
class Head:
    """The last final block of this replica, and the state after it."""

    header: Header
    finalization: Finalization | None
    """None at genesis, which needs no certificate."""
    path: tuple[Header, ...]
    """As in `CommittedBlock.path`; empty unless the finalization names a descendant."""
    state: State


@dataclass(frozen=True, slots=True)
class Located:
    """Where a final transaction stands."""

    height: int
    index: int
    output: Output


@dataclass(frozen=True, slots=True)
class Series:
    """One metric with labels, for ``GET /metrics``."""

    name: str
    """Without ``ledger_``; of a counter, without ``_total``."""
    help: str
    labels: tuple[str, ...]
    values: Mapping[tuple[str, ...], float]
    """By the values of the labels."""
    counts: bool = True
    """Whether it only rises."""


class Backend(Protocol):
    """A running replica, seen from its API."""

    genesis: Genesis
    store: Store

    @property
    def index(self) -> int | None:
        """Which replica this is; None while it is in no replica set."""
        ...

    def head(self) -> Head:
        """The last final block."""
        ...

    def status(self) -> Mapping[str, int | str | bool | None]:
        """Numbers for ``GET /status`` and the metrics: view, leader, mempool size, peers connected, catching up..."""
        ...

    def series(self) -> Sequence[Series]:
        """For ``GET /metrics``: what has labels, such as how each peer is doing."""
        ...

    def endpoints(self) -> Sequence[Mapping[str, str | int | bool | None]]:
        """For ``GET /replicas``: index, key, api url if known, link address, connected; those in the set come first."""
        ...

    def evidence(self) -> Sequence[Evidence]:
        """For ``GET /evidence``: contradicting votes that this replica caught, one pair per replica and kind."""
        ...

    def handovers(self) -> Sequence[Handover]:
        """For ``GET /handovers``: how each replica set gave over to the next, from the genesis on."""
        ...

    def submit(self, transactions: Sequence[Transaction], source: str = "") -> list[Hash]:
        """Check cheaply and take into the mempool; signatures are verified soon after. Returns the ids.

        Args:
            transactions: All are taken, or none.
            source: Network address of whoever brings them, for its share of the pool; empty if unknown.

        Raises:
            Refused: ``pool_full`` (503), ``share_full`` (429), ``too_large``, ``expired``, ``not_yet_valid``,
                ``insufficient_balance``...
                None of the list was taken then.
        """
        ...

    async def wait_final(self, ids: Sequence[Hash], timeout_ms: int) -> dict[Hash, Located]:
        """Wait until all are final, or refused for a bad signature, or the time is over; what is final by then."""
        ...

    def subscribe(self) -> Subscription:
        """Follow final blocks from now on."""
        ...


class Subscription(Protocol):
    """A bounded queue of final blocks; a reader that is too slow is dropped."""

    async def get(self) -> CommittedBlock | None:
        """The next block; None when this reader was dropped or the replica stops."""
        ...

    def close(self) -> None:
        """Stop following."""
        ...
