"""A live replica core under rounds of hostile messages: it goes on, and holds no more after many than after a few."""

from __future__ import annotations

import gc
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from layer1.codec import encode
from layer1.consensus.certificates import Signer
from layer1.replica import batches, events
from layer1.replica.messages import BatchAnnounce, BatchData, BlocksRequest, ConsensusMessage, FetchBatch, LinkMessage
from tests.fuzz import generate
from tests.fuzz.mutate import mutated
from tests.layer1.replica.network import KEYS, Network, transfer

pytestmark = pytest.mark.slow

LIAR, VICTIM = 3, 0
PER_ROUND = 60
SPARE = 20
"""Items more or less that a core holds at one moment or another."""


class Siege:
    """A network in which one replica has recorded all traffic, and now says what it likes to another."""

    def __init__(self) -> None:
        self.network = Network()
        self.network.liars = True
        self.traffic: list[bytes] = []
        self.network.lost = self.listen
        for amount in range(1, 4):
            self.network.submit(1, [transfer()])
            self.network.run_until(self.network.everybody_has(amount))
        self.network.lost = lambda *_: False
        self.paid = 3
        self.faults = 0
        self.rng = random.Random(7)
        self.signer = Signer(self.network.nodes[LIAR].core.config, KEYS[LIAR], LIAR)

    def listen(self, _sender: int, _receiver: int, data: bytes) -> bool:
        self.traffic.append(data)
        return False

    @property
    def victim(self) -> Any:
        return self.network.nodes[VICTIM].core

    def round(self) -> None:
        """Everything that a replica with a key can say, and much that it cannot."""
        for data in (*self.votes(), *self.spoiled(), *self.questions()):
            self.network.step(VICTIM, events.FromPeer(LIAR, data))
        self.network.run_for(20)
        assert self.network.nodes[VICTIM].failed is None, self.network.nodes[VICTIM].failed
        self.faults += len(self.network.nodes[VICTIM].misbehaved)
        for node in self.network.nodes:
            node.misbehaved.clear()

    def votes(self) -> Iterator[bytes]:
        """Signed ones, for two blocks, in every view from long ago to far ahead."""
        for view in range(1, self.victim.consensus.view + 140):
            for block in (bytes(32), self.rng.randbytes(32)):
                votes = (
                    self.signer.notarize(view, block),
                    self.signer.finalize(view, block),
                    self.signer.nullify(view),
                )
                yield from (encode(ConsensusMessage(0, vote)) for vote in votes)

    def spoiled(self) -> Iterator[bytes]:
        for _ in range(PER_ROUND):
            yield mutated(self.rng.choice(self.traffic), self.traffic, self.rng)
            yield generate.encoded(LinkMessage, self.rng)
            yield self.rng.choice(self.traffic)

    def questions(self) -> Iterator[bytes]:
        for _ in range(PER_ROUND):
            yield encode(FetchBatch(self.rng.randbytes(32)))
            yield encode(BatchData(self.rng.randbytes(50)))
            yield encode(BatchAnnounce((self.rng.randbytes(32),)))
            yield encode(BlocksRequest(self.rng.choice(generate.INTEGERS)))

    def pay(self) -> None:
        """The ledger goes on, the liar included or not."""
        self.paid += 1
        self.network.submit(1, [transfer()])
        self.network.run_until(self.network.everybody_has(self.paid))


@dataclass(frozen=True)
class Held:
    """What a core holds."""

    items: int
    """In all its containers."""
    size_bytes: int
    """Of all byte strings and texts in them."""
    objects: int
    """Containers of the whole process, wherever they are."""


def held(root: object) -> Held:
    """Walk through everything of layer 1 that is reachable from here."""
    seen: set[int] = set()
    waiting, items, size_bytes = [root], 0, 0
    while waiting:
        found = waiting.pop()
        if id(found) in seen or isinstance(found, type | int):
            continue
        seen.add(id(found))
        if isinstance(found, bytes | bytearray | str):
            size_bytes += len(found)
        elif isinstance(found, dict | list | set | frozenset | deque | tuple):
            items += len(found)
            waiting += [*found.values(), *found] if isinstance(found, dict) else [*found]
        elif type(found).__module__.startswith("layer1"):
            names = [name for kind in type(found).__mro__ for name in getattr(kind, "__slots__", ())]
            waiting += [vars(found)] if hasattr(found, "__dict__") else []
            waiting += [getattr(found, name) for name in names if hasattr(found, name)]
    return Held(items, size_bytes, _objects())


def _objects() -> int:
    gc.collect()
    return len(gc.get_objects())


@pytest.fixture
def few_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory of bad batches is full after one round, or it would be the only thing that grows."""
    monkeypatch.setattr(batches, "KEPT_BAD", 10)


@pytest.mark.usefixtures("few_remembered")
def test_hostile_messages_leave_nothing_behind() -> None:
    siege = Siege()
    for _ in range(2):
        siege.round()
    before = held(siege.victim)
    for _ in range(10):
        siege.round()
    after = held(siege.victim)
    assert after.items <= before.items + SPARE
    assert after.size_bytes <= before.size_bytes + SPARE * 100
    assert after.objects <= before.objects + 10 * SPARE
    siege.pay()
    siege.network.check()


@pytest.mark.usefixtures("few_remembered")
def test_a_leak_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that keeps what it refuses, as a core did once with digests of bad batches."""
    monkeypatch.setattr(batches, "KEPT_BAD", 10**6)
    siege = Siege()
    siege.round()
    before = held(siege.victim)
    siege.round()
    assert held(siege.victim).items > before.items + SPARE


@pytest.mark.usefixtures("few_remembered")
def test_the_ledger_goes_on_between_the_rounds() -> None:
    siege = Siege()
    for _ in range(3):
        siege.round()
        siege.pay()
    siege.network.check()
    assert siege.faults > 100
