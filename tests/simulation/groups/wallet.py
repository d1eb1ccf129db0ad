"""One wallet over all its lives: a process that is put together as `wallet.assembly` and `wallet.wallet` do.

`Network` sees it as a node. It pauses, is killed between any two effects, and comes back from what its home holds.

Source: wallet/assembly.py, wallet/wallet.py, layer2/driver.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

from layer1.block import CommittedBlock
from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.errors import LocalError, RemoteError
from layer1.ledger.agreements import GroupAgreement
from layer1.ledger.genesis import Genesis
from layer2.driver import GroupHost
from layer2.events import Committed, Payload, Rejected
from layer2.messages import decode_message
from layer2.opening import OpeningPolicy
from layer2.payments import Payments
from layer2.value import Group
from tests.layer1.ledger.world import key
from tests.simulation import replica as simulated
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.clocks import Clock
from tests.simulation.groups import describe
from tests.simulation.groups.api import Api
from tests.simulation.groups.client import Cut, SimulatedClient
from tests.simulation.groups.home import HomeBook, HomeHistory, HomeJournal, HomeTowers, read
from tests.simulation.groups.links import SimulatedLink, SimulatedPeers
from tests.simulation.groups.loop import ProcessLoop
from tests.simulation.groups.process import Process
from tests.simulation.groups.roles.role import Role
from tests.simulation.kernel import MS, World
from tests.simulation.network import Network
from wallet.changes import Changes
from wallet.channel import Channel
from wallet.entrusting import Entruster
from wallet.follower import Follower
from wallet.forwarding.companion import Passages
from wallet.keystore import HotKeys
from wallet.observer import WalletObserver
from wallet.openings import Openings
from wallet.parts import Parts
from wallet.signals import Signals
from wallet.submitter import Submitter

POLICY = OpeningPolicy(
    accept_deposit_up_to_units=5_000,
    accept_bond_up_to_units=1_000,
    min_challenge_ms=1_000,
)
"""What every wallet joins unasked."""
CLOCKS = 100
"""Clocks of wallets are numbered from here on; those of replicas from 0."""


@cache
def wallet_keys(index: int) -> HotKeys:
    """The keys of a wallet: its spending account, and the root of its group keys."""
    return HotKeys(key(f"wallet {index}"), key(f"groups of {index}").seed())


def savings(index: int) -> PublicKey:
    """Where its channels pay."""
    return key(f"savings {index}").public


class _Observer(WalletObserver):
    """The product's observer, overheard."""

    def __init__(self, process: WalletProcess, book: HomeBook, history: HomeHistory, signals: Signals) -> None:
        super().__init__(book, history, signals)
        self._process = process

    def committed(self, group_id: Hash, event: Committed) -> None:
        self._process.tell(lambda checkers: checkers.committed(self._process.index, group_id, event))
        super().committed(group_id, event)

    def rejected(self, group_id: Hash, event: Rejected) -> None:
        self._process.tell(lambda checkers: checkers.rejected(self._process.index, group_id, event))
        super().rejected(group_id, event)

    def misbehaved(self, group_id: Hash | None, peer: PublicKey, error: RemoteError) -> None:
        self._process.accuse(group_id, peer, error)
        super().misbehaved(group_id, peer, error)


@dataclass
class Life:
    """What a kill takes away."""

    loop: ProcessLoop
    journal: HomeJournal
    parts: Parts
    client: SimulatedClient
    peers: SimulatedPeers
    follower: Follower
    openings: Openings
    links: dict[int, SimulatedLink] = field(default_factory=dict)
    connections: dict[int, int] = field(default_factory=dict)
    """By peer, the network's number for the link."""
    mail: deque[Callable[[], None]] = field(default_factory=deque)
    """What the network brought, in its order, to a process that may be busy."""

    def channels(self) -> list[Channel]:
        """Handles of all channels in the book."""
        return [Channel(self.parts, self.peers, self.follower, record.group_id) for record in self.parts.book]


class WalletProcess(Process):
    """One wallet."""

    network: Network
    generation = 1

    def __init__(
        self, world: World, genesis: Genesis, index: int, apis: Sequence[Api], checkers: GroupChecker, names: list[str]
    ) -> None:
        super().__init__(world, f"wallet{index}")
        self.genesis, self.index, self.checkers = genesis, index, checkers
        self.keys = wallet_keys(index)
        self.clock = Clock(world, CLOCKS + index)
        self.cut = Cut()
        self.role: Role | None = None
        self.is_honest = True
        self.life: Life | None = None
        self.on_start: list[Callable[[WalletProcess, Life], None]] = []
        """Hear of each life as it begins, within its process."""
        self._apis = list(apis)
        self._names = names
        for api in apis:
            api.replica.on_final.append(self._heard)

    def corrupt(self, role: type[Role]) -> None:
        """It is dishonest from now on, with this role."""
        self.is_honest = False
        self.role = role(self, self.world.random(f"role {self.name}"))

    def groups(self) -> dict[Hash, Group]:
        """What it hosts; empty while it does not run."""
        return {} if self.life is None else dict(self.life.parts.host.groups)

    def wallet_of(self, funding: PublicKey) -> int | None:
        """Whose account this is."""
        found = (i for i in range(len(self._names)) if wallet_keys(i).spending.public == funding)
        return next(found, None)

    def bring(self, payload: Payload) -> None:
        """Bring to layer 1, for a role."""
        if self.life is not None:
            with self.life.loop.running():
                self.life.parts.submitter.bring(payload)

    def tell(self, what: Callable[[GroupChecker], None]) -> None:
        """What an honest wallet does is judged; what checkers find ends the run, whoever tries to catch it."""
        if not self.is_honest or self.life is None:
            return
        try:
            what(self.checkers)
        except AssertionError as violation:
            self.life.loop.fail(violation)
            raise

    def accuse(self, group_id: Hash | None, peer: PublicKey, error: RemoteError) -> None:
        """It says that somebody broke the protocol."""
        self.world.stats["wallets' accusations"] += 1
        self.world.note(self.name, f"accuses: {error}")
        self.tell(lambda checkers: checkers.misbehaved(self.index, group_id, peer, error))

    # ---------------------------------------------------------------------------------------------------- start, kill

    @property
    def loop(self) -> ProcessLoop | None:
        """Of the present life; None while it is dead."""
        return None if self.life is None else self.life.loop

    def start(self) -> None:
        """Come back from the home."""
        if self.alive or self.gone:
            return
        self.lives += 1
        self.paused, self.fuse, self.at_sync = False, None, None
        loop = ProcessLoop(self.world, self.world.random(f"{self.name} life {self.lives}"))  # type: ignore[abstract]
        self.world.note(self.name, f"starts with {len(self.home.book)} channels")
        with loop.running():
            try:
                life = self._assemble(loop)
            except LocalError as error:
                if self.is_honest:
                    raise AssertionError(f"{self.name} is honest and cannot start: {error}") from error
                loop.dead = self.gone = True
                return
            self.life = life
            self.tell(lambda checkers: checkers.restored(self.index, self.groups()))
            loop.spawn(life.follower.run(), f"{self.name}: the watcher")
            loop.spawn(self._guard(life), f"{self.name}: the guard")
            for listener in self.on_start:
                listener(self, life)
        self.network.joined(self.name)

    def _assemble(self, loop: ProcessLoop) -> Life:
        """As `wallet.assembly.assemble` and `Wallet.__aenter__`."""
        genesis, signals, boundary = self.genesis, Signals(), self.boundary
        book = HomeBook(self.home, loop, boundary)
        history = HomeHistory(self.home, loop)
        observer = _Observer(self, book, history, signals)
        wall_ms = lambda: self.clock.now().wall_ms  # noqa: E731
        client = SimulatedClient(self._apis, genesis, loop, self.cut, wall_ms)
        submitter = Submitter(client, payer=self.keys.spending)
        observer.on_submission = self._guarded(submitter)
        journal = HomeJournal(self.home, loop, boundary, self._strike, self._synced)

        def group_key(agreement: GroupAgreement, seat: int) -> SigningKey:
            return book.key_of(self.keys, agreement, seat)

        host = GroupHost(
            journal,  # type: ignore[arg-type]  # all that a host uses of a journal
            self.keys.spending,
            genesis.chain_id,
            machines={"payments/2": Payments()},
            observer=observer,
            group_key=group_key,
        )
        towers = HomeTowers()
        entruster = Entruster(self.keys.spending, host, towers, signals, observer.advise)
        parts = Parts(
            genesis,
            self.keys,
            savings(self.index),
            client,
            host,
            book,
            history,
            observer,
            submitter,
            signals,
            towers,
            entruster,
            passages=Passages(genesis),
        )
        peers = SimulatedPeers(self.keys.spending, genesis.chain_id, host)
        follower = Follower(parts)
        openings = Openings(parts, peers, follower)
        Changes(parts, follower)
        openings.accept(POLICY)
        return Life(loop, journal, parts, client, peers, follower, openings)

    def _guarded(self, submitter: Submitter) -> Callable[[Payload], object]:
        def bring(payload: Payload) -> None:
            self.boundary()
            if self.role is None or self.role.brings(payload):
                submitter.bring_ours(payload)

        return bring

    async def _guard(self, life: Life) -> None:
        """When the disk fails, somebody looks after it and starts the wallet again."""
        failure = await life.parts.signals.until(lambda: life.parts.signals.failure)
        self.world.note(self.name, f"cannot guard its channels: {failure}")
        self.world.after(self._random.randint(100, 2_000) * MS, partial(self._restart, life))

    def _restart(self, life: Life) -> None:
        if self.life is life:
            self.kill()
            self.start()

    def kill(self) -> None:
        """SIGKILL, or the power goes: what is not durable is gone."""
        life, self.life = self.life, None
        if life is None:
            return
        life.loop.dead = True
        before = len(self.home.disk.records)
        unsynced, syncing = life.journal.unsynced, life.journal.syncing or bool(life.journal.failed)
        kept = life.journal.crash(self._random, while_syncing=syncing)
        self.world.stats["wallets' turns torn"] += 0 < kept < unsynced
        found = [read(data) for data in self.home.disk.records[before:]]
        if self.is_honest and found:
            self.checkers.synced(self.index, found)
        self.world.stats["wallet kills"] += 1
        self.world.note(self.name, "is killed")
        self.network.left(self.name)
        self._unburied.append(life.loop)
        self.world.after(0, self.bury)

    def _synced(self, records: list[bytes]) -> None:
        self._take_time()
        found = [read(data) for data in records]
        if self.role is not None:
            self.role.synced(found)
        self.tell(lambda checkers: checkers.synced(self.index, found))

    # ----------------------------------------------------------------------------------------------------------- links

    def admits(self, peer: int, generation: int) -> bool:
        """Everybody may call but who broke the protocol too often, as `wallet.wallet` has it."""
        life = self.life
        if life is None:
            return False
        with life.loop.running():
            return not life.parts.host.shuts_out(wallet_keys(peer).spending.public)

    def peer_up(self, peer: int, generation: int) -> None:
        """A link is open."""
        connection = self._connection(peer)
        assert connection is not None, "it is open"
        self._bring(partial(self._attach, peer, connection))

    def _connection(self, peer: int) -> int | None:
        return self.network.link(self.name, self._names[peer]).connection_of(self.name)

    def _bring(self, news: Callable[[Life], None]) -> None:
        """The process hears of it when it has time, and of all in order."""
        life = self.life
        if life is not None:
            life.mail.append(partial(news, life))
            life.loop.call_soon(self._open_mail, life)

    @staticmethod
    def _open_mail(life: Life) -> None:
        life.mail.popleft()()

    def _attach(self, peer: int, connection: int, life: Life) -> None:
        leave, hang_up = partial(self._leave, life, peer, connection), partial(self._hang_up, peer, connection)
        link = SimulatedLink(wallet_keys(peer).spending.public, life.loop, leave, hang_up)
        old = life.links.get(peer)
        if old is not None:
            old.end("replaced")
        life.links[peer], life.connections[peer] = link, connection
        life.loop.spawn(self._serve(life, link), f"{self.name}: serving a link")

    def _hang_up(self, peer: int, connection: int) -> None:
        if self._connection(peer) == connection:
            self.network.link(self.name, self._names[peer]).break_off()

    @staticmethod
    async def _serve(life: Life, link: SimulatedLink) -> None:
        try:
            await life.parts.host.attach(link)
        except LocalError:
            assert life.journal.failed, "only the disk may end it"

    def peer_down(self, peer: int) -> None:
        """The link has ended."""
        self._bring(partial(self._detach, peer))

    @staticmethod
    def _detach(peer: int, life: Life) -> None:
        link = life.links.pop(peer, None)
        if link is not None:
            link.end("it broke")

    def receive(self, peer: int, data: bytes) -> None:
        """A message came."""
        if self.life is None:
            return
        if self.role is not None:
            self.role.remember()
        for seen in (data,) if self.role is None else self.role.incoming(peer, data):
            self._bring(partial(self._hear, peer, seen))

    @staticmethod
    def _hear(peer: int, data: bytes, life: Life) -> None:
        link = life.links.get(peer)
        if link is not None:
            link.deliver(data)

    def _leave(self, life: Life, peer: int, connection: int, data: bytes) -> None:
        self.boundary()
        for really in (data,) if self.role is None else self.role.outgoing(peer, data):
            self._say(life, peer, connection, really)

    def say(self, peer: int, data: bytes) -> None:
        """What a role says on its own."""
        if self.life is not None and peer in self.life.links:
            self._say(self.life, peer, self.life.connections[peer], data)

    def _say(self, life: Life, peer: int, connection: int, data: bytes) -> None:
        if self.is_honest:
            message = decode_message(data)
            self.tell(lambda checkers: checkers.sent(self.index, peer, message))
        self.world.note(self.name, f"to {self._names[peer]}:", data, describe.message_of)
        self.world.schedule(life.loop.busy_until_us, partial(self._depart, life, peer, connection, data))

    def _depart(self, life: Life, peer: int, connection: int, data: bytes) -> None:
        """It leaves by the link that it was given to, if that still is."""
        if not life.loop.dead and self._connection(peer) == connection:
            self.network.send(self.name, peer, data)

    def _heard(self, replica: simulated.Replica, block: CommittedBlock) -> None:
        if self.life is not None:
            self.life.client.heard(replica, block)
