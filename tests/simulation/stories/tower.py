"""A watchtower of a story: `wallet.watchtower` on a disk in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable

from layer1.crypto import Hash, PublicKey
from layer1.errors import LocalError, Refused
from layer1.ledger.records import Group
from layer2.promises import TowerReceipt, check_broken
from layer2.tower import Entrust, FromTower, Guarded, Load, Policy, decode_from_tower, decode_to_tower
from tests.layer1.ledger.world import key
from tests.simulation.groups.loop import Killed
from tests.simulation.kernel import World
from tests.simulation.stories.ledger import Ledger
from tests.simulation.stories.links import End, Exchange, StoryLoop
from tests.simulation.stories.process import StoryProcess
from wallet.watchtower.desk import Desk
from wallet.watchtower.ledger import TowerLedger
from wallet.watchtower.lookout import Lookout
from wallet.watchtower.store import Name, period_class

BOUNTY = 7
"""What each customer promises, units."""


class MemoryStore:
    """What `wallet.watchtower.store.TowerStore` promises, in memory: durable on return, all of it or nothing."""

    def __init__(self, rows: dict[Name, Guarded], boundary: Callable[[], None], is_dead: Callable[[], bool]) -> None:
        self._rows, self._boundary, self._is_dead = rows, boundary, is_dead
        self.height: int | None = None

    @property
    def groups(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    @property
    def classes(self) -> dict[int, int]:
        """By class of challenge periods."""
        return dict(Counter(period_class(each.period_ms) for each in self._rows.values()))

    def get(self, group_id: Hash, customer: PublicKey) -> Guarded | None:
        """What this customer entrusted."""
        return self._rows.get((group_id, customer))

    def of_group(self, group_id: Hash) -> list[Guarded]:
        """For whomever."""
        return [each for name, each in sorted(self._rows.items()) if name[0] == group_id]

    def holds(self, group_id: Hash) -> bool:
        """Whether anything is held of a group."""
        return any(name[0] == group_id for name in self._rows)

    def load(self, customer: PublicKey) -> Load:
        """How much is held."""
        return Load(len(self._rows), sum(name[1] == customer for name in self._rows))

    def page(self, class_: int, after: Hash, limit: int) -> list[Hash]:
        """Groups of a class, in order."""
        found = {name[0] for name, each in self._rows.items() if period_class(each.period_ms) == class_}
        return sorted(group for group in found if group > after)[:limit]

    def write(self, keep: Collection[Guarded] = (), drop: Iterable[Name] = (), height: int | None = None) -> None:
        """Replace, take in, and forget. A kill strikes before it, or behind it."""
        self._boundary()
        if self._is_dead():
            raise Killed
        for name in drop:
            self._rows.pop(name, None)
        self._rows.update({(each.group_id, each.customer): each for each in keep})
        self.height = self.height if height is None else height
        self._boundary()


class TowerProcess(StoryProcess):
    """One watchtower. A plot may replace what it does by a lie."""

    desk: Desk | None = None

    def __init__(self, world: World, name: str, ledger: Ledger, exchange: Exchange) -> None:
        super().__init__(world, name, key(name), ledger, exchange)
        self.rows: dict[Name, Guarded] = {}
        """Its disk."""
        self.receipts: list[TowerReceipt] = []
        """All that left it."""
        self.archive: dict[tuple[Hash, int], Entrust] = {}
        """What customers brought, by group and version: whoever lies has it."""
        self.watches = True
        """Whether it looks at layer 1."""
        self.policy = Policy(
            payout=key(f"payout of {name}").public,
            least_bounty=BOUNTY,
            keep_ms=10_000_000,
            least_period_ms=1_000,
            max_groups=10,
        )

    def begin(self, loop: StoryLoop) -> None:
        """As `wallet.watchtower.serving.tower`."""
        store = MemoryStore(self.rows, self.boundary, lambda: loop.dead)
        ledger = TowerLedger(self.view)
        desk = self.desk = Desk(store, self.key, self.view.genesis.chain_id, self.policy, ledger)  # type: ignore[arg-type]
        desk.on_failure = self._failed
        if self.watches:
            lookout = Lookout(store, ledger, self.view.genesis.parameters.max_valid_ms)  # type: ignore[arg-type]
            desk.on_kept = lookout.kept
            loop.spawn(lookout.run(), f"{self.name}: the lookout")

    def _failed(self, error: LocalError) -> None:
        raise AssertionError(f"{self.name}: its disk does not fail: {error}")

    def end_life(self) -> None:
        self.desk = None

    def admits(self, peer: PublicKey, greeting: bytes) -> bool:
        assert self.loop is not None and self.desk is not None, "asked while it runs"
        with self.loop.running():
            return self.desk.admits(peer)

    def attach(self, end: End) -> None:
        assert self.loop is not None and self.desk is not None, "a link is of a life"
        self.loop.spawn(self.desk.attach(end), f"{self.name}: serving a customer")

    def leaving(self, end: End, data: bytes) -> Iterable[bytes]:
        self.boundary()
        said: FromTower = decode_from_tower(data)
        self.world.note(self.name, f"to {end.other.node.name}: {type(said).__name__}", data)
        if isinstance(said, TowerReceipt):
            self.receipts.append(said)
            self.world.stats["receipts"] += 1
        return (data,)

    def arriving(self, end: End, data: bytes) -> Iterable[bytes]:
        asked = decode_to_tower(data)
        if isinstance(asked, Entrust):
            self.archive[asked.header.group_id, asked.header.version] = asked
        return (data,)

    def receipted(self, group_id: Hash, epoch: int) -> int:
        """The highest version of an epoch that it promised to report."""
        found = (each.version for each in self.receipts if (each.group_id, each.epoch) == (group_id, epoch))
        return max(found, default=0)

    def broken(self, group: Group) -> list[TowerReceipt]:
        """Receipts of which anybody could show that it broke them."""
        found = []
        for receipt in self.receipts:
            try:
                check_broken(self.ledger.genesis.chain_id, receipt, group)
            except Refused:
                continue
            found.append(receipt)
        return found
