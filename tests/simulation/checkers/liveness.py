"""Liveness: once the network has healed, whatever is brought to an honest replica ends within a stated bound.

A transaction has ended when every honest replica either calls it final, or calls a block final whose clock is past its
`valid_until`: then it is dead. If a quorum's clocks were far ahead while a block was made, nothing can follow it until
time has caught up ("Time"): so long the bound is put off.

Source: docs/design/consensus.md, "Model" (partial synchrony), "Time", rules 6, 8 and 10.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from layer1.block import CommittedBlock
from layer1.consensus.config import Config
from layer1.crypto import Hash
from layer1.ledger.genesis import Genesis
from layer1.ledger.transactions import Transaction
from layer1.replica.catchup import RETRY_MS
from layer1.replica.core import consensus_config
from tests.simulation.checkers.base import Checker
from tests.simulation.checkers.reference import Reference

MS = 1_000


RECONNECT_MS = 4_000
"""Two attempts to connect, both at their longest pause: after that all honest replicas hear each other."""


def bound_ms(config: Config, timeout_ms: int, faulty: int) -> int:
    """Within which time, after the network healed, everything that is brought to an honest replica has ended.

    The term in which it heals, one more in which views drifted apart, and those of the faulty leaders that follow
    may be lost, each after a timeout twice that of the one before. A Byzantine leader that proposes in time, but not
    what clients wait for, lasts until the inclusion timeout. Then an honest leader follows whom all honest replicas
    hear. Who is behind asks each peer for blocks, twice around at worst.

    Args:
        config: Of the epoch.
        timeout_ms: The longest timeout of a view at any honest replica when the network heals: it doubled before.
        faulty: How many replicas really are.
    """
    lost_views = sum(min(timeout_ms << i, config.max_view_timeout_ms) for i in range(faulty + 2))
    catching_up = 2 * len(config.replicas) * RETRY_MS
    return RECONNECT_MS + lost_views + faulty * config.inclusion_timeout_ms + catching_up


def worst_bound_ms(config: Config) -> int:
    """The same, whatever was before, with as many traitors as may be."""
    return bound_ms(config, config.max_view_timeout_ms, config.faulty)


class Liveness(Checker):
    """What was promised, and what has become of it at each honest replica."""

    def __init__(self, genesis: Genesis, honest: Iterable[int], reference: Reference | None = None) -> None:
        super().__init__(genesis, honest, reference)
        self.gone: frozenset[int] = frozenset()
        """Replicas that crashed for good: of them nothing is asked any more."""
        self.bound_us = 0
        """Of the liveness phase, from the moment in which the network healed."""
        self.away: set[int] = set()
        """Replicas that nobody expects to hear of anything: not started yet, or not needed any more."""
        self.is_changing = False
        """Whether one more epoch may begin."""
        self._promised: dict[Hash, Transaction] = {}
        self._final: dict[int, set[Hash]] = {index: set() for index in self.honest}
        self._clock: dict[int, int] = dict.fromkeys(self.honest, 0)
        self._blocks: dict[int, CommittedBlock] = {}
        """By height, as somebody delivered them."""
        self._heights: dict[int, int] = dict.fromkeys(self.honest, 0)
        self._healed_us: int | None = None

    def healed(self, now_us: int, timeout_ms: int, faulty: int, ahead_ms: int = 0) -> None:
        self._healed_us = now_us
        configs = [consensus_config(self.genesis, replica_set) for replica_set in self.reference.sets]
        if ahead_ms:  # a quorum's clocks were wrong, so nothing follows until time has caught up, and views grow longer
            timeout_ms = max(config.max_view_timeout_ms for config in configs)
        most_ms = ahead_ms + max(bound_ms(config, timeout_ms, faulty) for config in configs)
        self.bound_us = MS * most_ms * (2 if self.is_changing else 1)

    def promised(self, transaction: Transaction) -> None:
        self._promised[transaction.id] = transaction

    def excused(self, transaction_id: Hash) -> None:
        self._promised.pop(transaction_id, None)

    def restored(self, process: str, replica: int, blocks: Sequence[CommittedBlock], height: int) -> None:
        for below in range(self._heights[replica] + 1, height - len(blocks) + 1):
            if below not in self._blocks:
                self.fail(f"replica {replica} comes back at height {height}, and nobody has delivered block {below}")
            self._take(replica, self._blocks[below])  # it starts from a snapshot, which has what these did
        for block in blocks:
            self.delivered(process, replica, block)

    def delivered(self, process: str, replica: int, block: CommittedBlock) -> None:
        self._blocks.setdefault(block.header.height, block)
        self._take(replica, block)

    def _take(self, replica: int, block: CommittedBlock) -> None:
        self._heights[replica] = max(self._heights[replica], block.header.height)
        self._clock[replica] = max(self._clock[replica], block.header.clock)
        self._final[replica].update(output.transaction_id for output in block.outputs)

    def unsettled(self) -> Iterable[str]:
        """What has not ended yet."""
        for name, transaction in self._promised.items():
            for replica in sorted(self.honest - self.gone - self.away):
                dead = transaction.valid_until_ms < self._clock[replica]
                if not dead and name not in self._final[replica]:
                    yield f"{name.hex()[:6]} is not final at replica {replica}"

    def finish(self, now_us: int) -> None:
        if self._healed_us is None:
            self.fail("the network never healed")
            return
        left = list(self.unsettled())
        if left:
            waited = (now_us - self._healed_us) // MS
            self.fail(f"{waited} ms after the network healed {len(left)} have not ended: {left[:5]}")
