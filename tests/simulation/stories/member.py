"""A member of a story's groups: the driver, the watcher, the entruster and the head of a chain, as a wallet has them.

A standby is another process with another home and the same keys: which of the two it is, its home says.

Source: wallet/assembly.py, wallet/standby.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.errors import LocalError, Refused, RemoteError, WedgeError
from layer1.ledger.agreements import GroupAgreement
from layer1.ledger.transactions import Output, Transaction
from layer2.chain import Following
from layer2.chain import Role as ChainRole
from layer2.chain_driver import GREETING, StandbyDriver
from layer2.driver import Contact, GroupHost
from layer2.events import Committed, Payload, Rejected
from layer2.messages import decode_message
from layer2.payments import MACHINE, Payments
from layer2.value import Group
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.groups.home import HomeBook, HomeHistory, read_all
from tests.simulation.groups.roles.role import Role
from tests.simulation.groups.wallet import savings, wallet_keys
from tests.simulation.kernel import World
from tests.simulation.stories.homes import HomeTowers, MemberHome, NoInvoices
from tests.simulation.stories.ledger import Ledger
from tests.simulation.stories.links import End, Exchange, StoryLoop
from tests.simulation.stories.process import StoryProcess
from wallet.changes import Changes
from wallet.entrusting import Entruster
from wallet.follower import Follower
from wallet.forwarding.companion import Passages
from wallet.headship import Headship, HomeStore, Standing, appoint, take_office
from wallet.observer import WalletObserver
from wallet.parts import Parts
from wallet.signals import Signals
from wallet.submitter import Submitter
from wallet.towers import KnownTower

STANDBY_LOOK_S = 5.0
"""Between a standby's looks at layer 1."""


class _Observer(WalletObserver):
    """The product's observer, overheard."""

    def __init__(self, process: MemberProcess, book: HomeBook, history: HomeHistory, signals: Signals) -> None:
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


class _Submitter(Submitter):
    """The product's submitter, overheard; what a role does not bring stays here, whoever wants it brought."""

    def __init__(self, process: MemberProcess, settled: Callable[[], Awaitable[None]] | None) -> None:
        super().__init__(process.view, settled, payer=process.keys.spending)
        self._process = process

    def bring(self, payload: Payload) -> asyncio.Task[Output]:
        process = self._process
        process.boundary()
        if process.role is None or process.role.brings(payload):
            return super().bring(payload)
        return asyncio.create_task(_kept())

    def _wrap(self, payload: Payload, until_ms: int) -> Transaction:
        """It leaves now: a standby has what it follows from."""
        self._process.tell(lambda checkers: checkers.brought(self._process.index, payload))
        return super()._wrap(payload, until_ms)


async def _kept() -> Output:
    return Output(b"", "kept", "it is not brought")


@dataclass
class Life:
    """What a kill takes away from who leads."""

    loop: StoryLoop
    parts: Parts
    follower: Follower


class MemberProcess(StoryProcess):
    """One home of one member."""

    home: MemberHome
    first_phase_ms = 10_000
    margin_ms: int | None = None
    """M of rule 22; None for the host's own."""

    def __init__(
        self, world: World, name: str, index: int, ledger: Ledger, exchange: Exchange, checkers: GroupChecker
    ) -> None:
        super().__init__(world, name, wallet_keys(index).spending, ledger, exchange)
        self.index, self.checkers = index, checkers
        self.home = MemberHome()
        self.keys = wallet_keys(index)
        self.role: Role | None = None
        self.is_bereft = False
        """It lost data: what it signed nobody can hold against what it signs."""
        self.towers: list[KnownTower] = []
        self.contacts: dict[Hash, Mapping[int, Contact]] = {}
        self.life: Life | None = None
        self.standby: StandbyDriver | None = None
        """While it follows."""
        self.on_start: list[Callable[[MemberProcess, Life], None]] = []
        self.other: MemberProcess | None = None
        """The other home of this member."""
        self.step = 0
        """Which version, message or moment a role is about."""

    @property
    def part(self) -> float:
        """How much of the first phase is over."""
        return self.world.now_ms / self.first_phase_ms

    def corrupt(self, role: type[Role]) -> None:
        """It is dishonest from now on."""
        self.is_honest = False
        self.role = role(self, self.world.random(f"role {self.name}"))

    def groups(self) -> dict[Hash, Group]:
        """What it hosts; empty while it does not lead."""
        return {} if self.life is None else dict(self.life.parts.host.groups)

    def wallet_of(self, funding: PublicKey) -> int | None:
        """Whose account this is."""
        return next((i for i in range(16) if wallet_keys(i).spending.public == funding), None)

    def bring(self, payload: Payload) -> None:
        """Bring to layer 1, for a role."""
        if self.life is not None:
            with self.life.loop.running():
                Submitter.bring(self.life.parts.submitter, payload)

    def tell(self, what: Callable[[GroupChecker], None]) -> None:
        """What an honest member does is judged; what checkers find ends the run, whoever tries to catch it."""
        if not self.is_honest or self.is_bereft or self.loop is None:
            return
        try:
            what(self.checkers)
        except AssertionError as violation:
            self.loop.fail(violation)
            raise

    def accuse(self, group_id: Hash | None, peer: PublicKey, error: RemoteError) -> None:
        """It says that somebody broke the protocol."""
        self.world.stats["accusations"] += 1
        self.world.note(self.name, f"accuses: {error}")
        self.tell(lambda checkers: checkers.misbehaved(self.index, group_id, peer, error))

    # ----------------------------------------------------------------------------------------------------------- lives

    def begin(self, loop: StoryLoop) -> None:
        standing = self.home.standing
        if standing is None:
            self._lead(loop, None)
        elif isinstance(standing.role, Following):
            self._follow(loop, standing.role)
        else:
            loop.spawn(self._take_office(loop, standing), f"{self.name}: taking office")

    def end_life(self) -> None:
        self.life = self.standby = None

    async def _take_office(self, loop: StoryLoop, standing: Standing) -> None:
        while True:
            try:
                taken = await take_office(self.home, standing, self.view, self.keys.spending)  # type: ignore[arg-type]
            except Refused as refusal:
                self._note(f"does not lead: {refusal}")
                self.world.stats[f"heads {refusal.code}"] += 1
                if refusal.code == "fenced":
                    return  # `wallet channel` ends here, and says so
            except WedgeError as error:
                self._note(f"cannot see who leads: {error}")
            else:
                self._open(loop, taken)
                return
            await asyncio.sleep(1.0)

    def _open(self, loop: StoryLoop, standing: Standing) -> None:
        try:
            self._lead(loop, standing)
        except LocalError:
            if self.journal is None or not self.journal.failed:
                raise
            self.world.after(0, self.kill)

    def _lead(self, loop: StoryLoop, standing: Standing | None) -> None:
        """As `wallet.assembly.assemble` and `Wallet.__aenter__`."""
        genesis, signals, boundary = self.ledger.genesis, Signals(), self.boundary
        book, history = HomeBook(self.home, loop, boundary), HomeHistory(self.home, loop)
        observer = _Observer(self, book, history, signals)
        towers = HomeTowers(self.towers, self.home.receipts, boundary)
        observer.is_receipted = towers.is_receipted
        headship = None
        if standing is not None:
            headship = Headship(self.home, standing, self.view, self.keys.spending, signals)  # type: ignore[arg-type]
        settled = headship.driver.settled if headship is not None else None
        submitter = _Submitter(self, settled)
        observer.on_submission = submitter.bring_ours
        successor = headship.driver if headship is not None else None
        passages = Passages(genesis)
        host = self._host(loop, book, observer, successor, passages)
        if headship is not None:
            headship.begin(host, book, history, towers, NoInvoices())
        entruster = Entruster(self.keys.spending, host, towers, signals, observer.advise)
        entruster.on_receipt = observer.receipted
        if settled is not None:
            entruster.settled = settled
        observer.on_committed = entruster.committed
        parts = Parts(
            genesis, self.keys, savings(self.index), self.view, host, book, history, observer, submitter, signals,
            towers, entruster, headship, passages=passages,
        )  # fmt: skip
        follower = Follower(parts)
        entruster.clock_ms = lambda: follower.clock_ms
        Changes(parts, follower)
        self.life = Life(loop, parts, follower)
        self.equip(self.life)
        self._adopt(parts)
        self._doubt_a_copy(host)
        self.tell(lambda checkers: checkers.restored(self.index, self.groups()))
        entruster.start(afresh=True)
        loop.spawn(follower.run(), f"{self.name}: the watcher")
        loop.spawn(host.run(), f"{self.name}: dialing")
        loop.spawn(self._guard(signals), f"{self.name}: the guard")
        if headship is not None:
            loop.spawn(headship.run(), f"{self.name}: headship")
        for listener in self.on_start:
            listener(self, self.life)

    def equip(self, life: Life) -> None:
        """What else this kind of wallet has; before the first look at layer 1."""

    def _host(
        self, loop: StoryLoop, book: HomeBook, observer: WalletObserver, successor: Any, passages: Passages
    ) -> GroupHost:
        def group_key(agreement: GroupAgreement, seat: int) -> SigningKey:
            return book.key_of(self.keys, agreement, seat)

        host = GroupHost(
            self.open_journal(loop),  # type: ignore[arg-type]  # all that a host uses of a journal
            self.keys.spending,
            self.ledger.genesis.chain_id,
            machines={MACHINE: Payments()},
            observer=observer,
            group_key=group_key,
            successor=successor,
            margin_ms=self.margin_ms,
            companion=passages,
        )
        host._random = loop.random
        return host

    def _adopt(self, parts: Parts) -> None:
        """As the watcher does for a channel, with the contacts of a group of any size."""
        for record in parts.book.live():
            if record.group_id not in parts.host.groups:
                key = self.keys.group_key(record.key_index)
                contacts = self.contacts[record.group_id]
                parts.host.add(record.agreement, record.group_id, record.index, key, contacts, lost=self.home.lost)

    def _doubt_a_copy(self, host: GroupHost) -> None:
        """As `wallet.assembly` does when the mark of a home does not fit (decision 040)."""
        if self.home.copied:
            for group_id in list(host.groups):
                host.doubt(group_id)
            host.end_turn()
            self.home.copied = False

    async def _guard(self, signals: Signals) -> None:
        """When the disk fails, or another home leads, somebody looks after it and starts the wallet again."""
        failure = await signals.until(lambda: signals.failure)
        self._note(f"cannot guard its groups: {failure}")
        self.world.after(0, self.kill)

    # -------------------------------------------------------------------------------------------------------- standby

    def _follow(self, loop: StoryLoop, role: Following) -> None:
        """As `wallet.standby.StandbyHome`."""
        book, history, signals = HomeBook(self.home, loop, self.boundary), HomeHistory(self.home, loop), Signals()
        host = self._host(loop, book, WalletObserver(book, history, signals), None, Passages(self.ledger.genesis))
        towers = HomeTowers(self.towers, self.home.receipts, self.boundary)
        store = HomeStore(host, book, history, towers, NoInvoices())
        self.standby = StandbyDriver(role, store, self._write_role, self._led)
        self.standby.failure.add_done_callback(self._standby_failed)
        loop.spawn(self._look_who_leads(self.standby), f"{self.name}: looking who leads")

    def _standby_failed(self, failed: asyncio.Future[None]) -> None:
        if not failed.cancelled() and failed.exception() is not None:
            self._note(f"cannot follow: {failed.exception()}")
            self.world.after(0, self.kill)

    def _write_role(self, role: ChainRole) -> None:
        self.boundary()
        self.home.standing = Standing(role)
        self.boundary()

    def _led(self, term: int) -> None:
        """It leads: what it kept is opened for signing by an ordinary start."""
        self.world.stats["promotions"] += 1
        self._note(f"leads, in term {term}")
        self.world.after(0, self.kill)

    async def _look_who_leads(self, driver: StandbyDriver) -> None:
        while self.standby is driver and isinstance(self._role(), Following):
            with contextlib.suppress(WedgeError):
                shown = (await self.view.appointment(self.keys.spending.public)).value
                if shown is not None and isinstance(self._role(), Following):
                    driver.shown(shown.term, shown.head)
            await asyncio.sleep(STANDBY_LOOK_S)

    def _role(self) -> ChainRole | None:
        return None if self.home.standing is None else self.home.standing.role

    async def promote(self) -> None:
        """Its user asks for it; as `StandbyHome.promote`."""
        driver = self.standby
        if driver is None:
            return
        try:
            shown = await appoint(self.view, self.keys.spending, driver.ask(), driver.core.role.name)
        except WedgeError as error:
            self._note(f"is not promoted: {error}")
            return
        if isinstance(self._role(), Following):
            driver.shown(shown.term, shown.head)

    # ----------------------------------------------------------------------------------------------------------- links

    def admits(self, peer: PublicKey, greeting: bytes) -> bool:
        if self.standby is not None:
            return peer == self.key.public and greeting == GREETING
        if self.life is None or self.loop is None or peer == self.key.public:
            return False
        headship = self.life.parts.headship
        if headship is not None and not headship.driver.in_force:
            return False
        with self.loop.running():
            return not self.life.parts.host.shuts_out(peer)

    def attach(self, end: End) -> None:
        assert self.loop is not None, "a link is of a life"
        if self.standby is not None:
            self.loop.spawn(self.standby.attach(end), f"{self.name}: serving the head")  # type: ignore[arg-type]
        elif self.life is not None:
            self.loop.spawn(self._serve(self.life, end), f"{self.name}: serving a link")

    @staticmethod
    async def _serve(life: Life, end: End) -> None:
        with contextlib.suppress(LocalError):  # only the disk may end it: the guard sees to that
            await life.parts.host.attach(end)

    def synced(self, records: Sequence[bytes]) -> None:
        if self.standby is not None:
            return  # what it only keeps it has not said
        found = list(read_all(records))
        if self.role is not None:
            self.role.synced(found)
        if self.is_honest and not self.is_bereft:
            try:
                self.checkers.synced(self.index, found)
            except AssertionError as violation:
                if self.loop is None:
                    raise
                self.loop.fail(violation)
                raise

    def leaving(self, end: End, data: bytes) -> Iterable[bytes]:
        super().leaving(end, data)
        peer = end.other.node
        if not isinstance(peer, MemberProcess) or peer.index == self.index:
            return (data,)
        if self.role is not None:
            return self.role.outgoing(peer.index, data)
        message = decode_message(data)
        self.tell(lambda checkers: checkers.sent(self.index, peer.index, message))
        return (data,)

    def arriving(self, end: End, data: bytes) -> Iterable[bytes]:
        peer = end.other.node
        if self.role is None or not isinstance(peer, MemberProcess):
            return (data,)
        self.role.remember()
        return self.role.incoming(peer.index, data)

    def say(self, peer: int, data: bytes) -> None:
        """What a role says on its own."""
        end = self.end_to(f"member{peer}")
        if end is not None and not end.is_over:
            end.say(data)

    def _note(self, what: str) -> None:
        self.world.note(self.name, what)
