"""The wallet as a library.

    async with Wallet.load(home, passphrase="...") as alice:
        channel = await alice.open_channel(contact, deposit=10_000, peer_deposit=5_000, bond=1_000)
        await channel.pay(250)

Amounts are integers, in minor units; times are milliseconds of the ledger clock.

*Safety:* one process per home (`wallet.home`); while a wallet is open its watcher follows layer 1 for it
(`wallet.follower`).

Source: docs/design/architecture.md, "Packages and the direction of imports".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

from layer1.client import LedgerUnreachable
from layer1.crypto import Hash, PublicKey, format_address
from layer1.errors import LocalError, Refused, WedgeError, check
from layer1.ledger.agreements import Witness
from layer1.ledger.genesis import Currency, Genesis
from layer1.ledger.records import Group as LedgerGroup
from layer1.ledger.transactions import Transaction, Transfer
from layer1.proof import Verified
from layer1.reader import GROUPS_AT_ONCE
from layer2.opening import OpeningPolicy
from wallet.amounts import format_amount, format_money
from wallet.assembly import assemble
from wallet.book import ChannelRecord, Stage
from wallet.bookkeeping import Sources, books_of, ordinal_of
from wallet.changes import Changes
from wallet.channel import Channel
from wallet.contacts import Contact, format_endpoint, parse_contact, parse_endpoint
from wallet.follower import Follower
from wallet.forwarding.driver import ForwardDriver
from wallet.headship import check_nobody_leads, single
from wallet.history import Place, Sums
from wallet.home import Config, Home
from wallet.invoices.book import InvoiceBook
from wallet.invoices.desk import InvoiceDesk
from wallet.keystore import HotKeys, Keystore, check_passphrase, check_phrase, new_phrase
from wallet.locking import Locking
from wallet.openings import Openings
from wallet.paying.desk import PaymentDesk
from wallet.peers import Peers
from wallet.period import default_period_ms, format_duration
from wallet.requests import (
    BooksView,
    ChannelView,
    EntryView,
    History,
    Progress,
    Report,
    StandbyView,
    WatchtowerView,
    no_report,
)
from wallet.restoring import find_channels
from wallet.routes import Routes
from wallet.routing.desk import RouteDesk
from wallet.service import first_cause
from wallet.switchboard import Switchboard
from wallet.tolls import Tolls
from wallet.towers import KnownTower
from wallet.views import currency_view

ASK_S = 10.0
"""How long `Wallet.restore` waits for peers to show what they hold."""
_log = logging.getLogger(__name__)
ACKS_S = 2.0
"""How long a wallet that is not served waits for ACKs, before it calls payments of before its start pending."""
LAST_WORDS_S = 3.0
"""How long a wallet that is closed waits for its watchtowers to have the newest versions."""


@dataclass(frozen=True, slots=True)
class Created:
    """A new wallet. Show the phrase once, keep it nowhere."""

    home: Path
    spending: PublicKey
    savings: PublicKey
    phrase: str = field(repr=False)


class Wallet:
    """An open wallet; made by :meth:`load`, used as ``async with``.

    Attributes:
        invoices: Makes and pays invoices, while the wallet is open.
        payments: Pays over any route without one, and has all payments that went by locks.
        routes: Finds routes for payments, while the wallet is open.
        tolls: Fees and limits of our channels, likewise.
    """

    invoices: InvoiceDesk
    payments: PaymentDesk
    routes: RouteDesk
    tolls: Tolls

    def __init__(self, home: Home, keys: HotKeys, keystore: Keystore) -> None:
        self._home = home
        self._keys = keys
        self._keystore = keystore
        self._stack = contextlib.AsyncExitStack()
        self._contact: str | None = None

    @staticmethod
    def create(
        home: Path,
        genesis: Genesis | None,
        ledger_urls: Sequence[str],
        passphrase: str,
        phrase: str | None = None,
        *,
        ca: Path | None = None,
    ) -> Created:
        """Make a home with fresh keys, or with those of `phrase`.

        Args:
            home: A directory that is no wallet yet.
            genesis: Of the ledger that it is for; None to say so later, by `Home.connect`.
            ledger_urls: Of replicas.
            passphrase: Seals the keys.
            phrase: Twelve words.
            ca: For https: PEM file of the authorities to trust, instead of this system's.

        Raises:
            Refused: ``home_exists``, ``bad_config``, ``bad_phrase`` or ``weak_passphrase``.
        """
        words = new_phrase() if phrase is None else check_phrase(phrase)
        check_passphrase(passphrase)
        config = Config(tuple(ledger_urls), ca=ca) if genesis is not None else None
        made = Home.create(home)
        if genesis is not None and config is not None:
            made.connect(genesis, config)
        keystore = Keystore.create(made.keystore_path, words, passphrase)
        return Created(made.path, keystore.spending_address, keystore.savings_address, words)

    @classmethod
    def load(cls, home: Path | str, passphrase: str) -> Self:
        """Unlock the hot keys of a home; nothing else happens before ``async with``.

        Raises:
            Refused: ``no_wallet``, ``wrong_passphrase`` or ``bad_keystore``.
        """
        found = Home.find(Path(home))
        keystore = found.keystore()
        return cls(found, keystore.unlock(passphrase), keystore)

    async def __aenter__(self) -> Self:
        """Lock the home, restore its channels, begin to follow the ledger.

        Raises:
            Refused: ``home_busy`` or ``bad_config``.
            LocalError: The journal or the book is damaged.
        """
        async with contextlib.AsyncExitStack() as stack:
            lock = self._home.lock()
            stack.callback(lock.release)
            invoices = InvoiceBook(self._home.invoices_path)
            stack.callback(invoices.close)
            self._parts = await assemble(self._home, self._keys, self._keystore, stack, invoices)
            self._peers = Peers(self._keys.spending, self._parts.genesis.chain_id, self._parts.host)
            self._follower = Follower(self._parts)
            self.locking = self._follower.locking = Locking(self._parts, self._home.locks_path)
            shared = self._follower, self.locking, invoices
            self.payments = PaymentDesk(self._parts, self._peers, *shared)
            self.payments.start()
            stack.push_async_callback(self.payments.close)
            self.invoices = InvoiceDesk(self._parts, *shared, self.payments)
            self.invoices.start()
            stack.push_async_callback(self.invoices.close)
            self._routes = Routes(self._parts, self._peers, self._follower)
            self.routes, self.tolls = self._routes.desk, self._routes.tolls
            self._parts.passages.terms_of = self.tolls.terms_of
            self.invoices.payee.hints = self.routes.hints
            self.payments.routes = self.routes
            forwarder = ForwardDriver(self._parts, self.locking, self._clock_ms)
            stack.push_async_callback(forwarder.close)
            forwarder.start()
            self.switchboard = Switchboard(self._parts, self.locking, self._clock_ms, self.invoices, forwarder)
            stack.push_async_callback(self.switchboard.close)
            self.switchboard.start()
            self._parts.entruster.clock_ms = lambda: self._follower.clock_ms
            self._parts.towers.prune({record.group_id for record in self._parts.book.live()})
            self._parts.entruster.start()
            stack.push_async_callback(self._parts.entruster.catch_up, LAST_WORDS_S)
            self._routes.start()
            stack.push_async_callback(self._routes.close)
            self._openings = Openings(self._parts, self._peers, self._follower)
            self._openings.endpoint = self._home.endpoint() or ""
            self._changes = Changes(self._parts, self._follower)
            self._changes.witnesses = lambda: self._openings.witnesses
            stack.push_async_callback(self._changes.close)
            stack.push_async_callback(self._peers.close)
            stack.push_async_callback(self._openings.close)
            if self._parts.headship is not None:
                leading = asyncio.create_task(self._parts.headship.run())
                leading.add_done_callback(self._note_end)
                stack.push_async_callback(_cancel, leading)
            follow = asyncio.create_task(self._follower.run())
            follow.add_done_callback(self._note_end)
            stack.push_async_callback(_cancel, follow)
            self._stack = stack.pop_all()
        return self

    def _clock_ms(self) -> int | None:
        return self._follower.clock_ms

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _note_end(self, watcher: asyncio.Task[None]) -> None:
        if not watcher.cancelled() and (error := watcher.exception()) is not None:
            _log.error("what guards the channels ended", exc_info=error)
            self._parts.signals.fail(
                LocalError(f"what guards the channels ended, for a fault of the wallet: {first_cause(error)!r}")
            )

    async def failed(self) -> WedgeError:
        """Wait until this wallet can no longer guard its channels: close it, look after the cause, start again."""
        failure = await self._parts.signals.until(lambda: self._parts.signals.failure)
        assert failure is not None, "it waits for ever"
        return failure

    @property
    def address(self) -> PublicKey:
        """Our spending account, and our name in contacts."""
        return self._keys.spending.public

    @property
    def savings_address(self) -> PublicKey:
        """Where closed channels pay."""
        return self._keystore.savings_address

    @property
    def contact(self) -> str | None:
        """What to give to others; None unless this wallet is served."""
        return self._contact

    @property
    def genesis(self) -> Genesis:
        """Of the ledger that this wallet is for."""
        return self._parts.genesis

    async def balance(self, account: PublicKey | None = None) -> Verified[int]:
        """What an account has (by default the spending account), and the header that proves it.

        Raises:
            LedgerUnreachable: Nothing could be proven.
        """
        answer = await self._parts.ledger.account(account or self.address)
        return Verified(answer.value.balance, answer.header)

    async def send(self, recipient: PublicKey, amount: int) -> Transaction:
        """Transfer from the spending account on layer 1; final on return.

        Raises:
            Refused: As the ledger says, such as ``insufficient_balance``; or ``pending``, when what became of it is not
                known.
            LedgerUnreachable: Before anything was signed.
        """
        if amount < 1:
            raise Refused("bad_amount", f"a transfer of {amount} units; the least is 1")
        transaction = await self._parts.ledger.new_transfer(self._keys.spending, recipient, amount)
        await self.send_signed(transaction)
        return transaction

    async def send_signed(self, transaction: Transaction) -> None:
        """Bring a signed transfer to layer 1, and enter it in the history.

        Raises:
            Refused: As the ledger says, or ``pending``: what became of it is not known.
        """
        transfer = transaction.payload
        if not isinstance(transfer, Transfer):
            raise Refused("bad_usage", "only transfers are sent")
        try:
            output = await self._parts.ledger.submit(transaction)
        except LedgerUnreachable as error:
            raise Refused(
                "pending",
                f"the ledger did not answer ({error}). The transfer of {transfer.amount} units may still be executed, "
                f"{self._while(transaction.valid_until_ms)}: do not repeat it before that. What became of it, "
                f"GET /transactions/{transaction.id.hex()} tells",
            ) from error
        except Refused as error:
            if error.code != "insufficient_balance":
                raise
            currency = self._parts.genesis.currency
            balance = await self.balance(transfer.sender)
            raise Refused(
                error.code,
                f"{format_address(transfer.sender)} has {format_money(balance.value, currency)}, "
                f"{format_money(transfer.amount, currency)} are needed",
            ) from None
        if output.code != "ok":
            raise Refused(output.code, f"the ledger refused: {output.message}")
        reference = transaction.id.hex()
        self._parts.history.add(reference, "sent", -transfer.amount, peer=format_address(transfer.recipient))
        self._parts.signals.notify()

    def _while(self, until_ms: int) -> str:
        left_ms = self._follower.left_ms(until_ms)
        return "for a while" if left_ms is None else f"for {format_duration(left_ms)} of the ledger's clock"

    async def open_channel(
        self,
        contact: Contact | str,
        *,
        deposit: int,
        peer_deposit: int = 0,
        bond: int = 0,
        peer_bond: int | None = None,
        challenge_period_ms: int | None = None,
        witness: Contact | str | None = None,
        witness_timeout_ms: int = 0,
        report: Report = no_report,
    ) -> Channel:
        """Agree on a channel with a peer and open it on layer 1; open on return.

        Args:
            contact: The peer; it must be served, and accept what is asked of it.
            deposit: What we can pay at first.
            peer_deposit: What the peer is asked to put in, and can pay us at first.
            bond: What we forfeit for a provable lie.
            peer_bond: The same of the peer; by default as much as ours.
            challenge_period_ms: By default `wallet.period.default_period_ms`.
            witness: Who ACKs every state and claims in a dispute, which then needs no time; it must be served. Any two
                of the three, if both are dishonest, can take what the third has.
            witness_timeout_ms: With a witness: after so long a dispute ends without the second claim, on the newest
                state that was reported; 0 for never. At least the challenge period.
            report: Told what is being waited for.

        Raises:
            Refused: ``peer_unreachable``, ``declined``, ``witness_unreachable``, ``witness_silent``,
                ``witness_declined``, or as the ledger says.
            LedgerUnreachable: Before anything was signed.
        """
        third = parse_contact(witness) if isinstance(witness, str) else witness
        peer = parse_contact(contact) if isinstance(contact, str) else contact
        period_ms = challenge_period_ms or default_period_ms(self._parts.genesis)
        bonds = (bond, bond if peer_bond is None else peer_bond)
        sides = (deposit, peer_deposit)
        waits = witness_timeout_ms == 0 or (third is not None and witness_timeout_ms >= period_ms)
        check(waits, "bad_usage", "a witness's timeout needs a witness, and is no shorter than the challenge period")
        record = await self._openings.propose(
            peer, sides, bonds, period_ms, report, witness=third, witness_timeout_ms=witness_timeout_ms
        )
        return Channel(self._parts, self._peers, self._follower, record.group_id)

    async def reopen_channel(self, name: str, report: Report = no_report) -> Channel:
        """Open a channel anew that the ledger has settled, with what both got of it; open on return.

        One transaction locks what each was paid out as its deposit and bond. The settlement paid our savings, which a
        running wallet cannot spend: what the spending account lacks has to be moved there first.

        Raises:
            Refused: ``channel_not_closed``; ``savings_needed``, with the sum; or as :meth:`open_channel`.
        """
        record = self.channel(name).record
        deposits, bonds = settled_terms(record, self._parts.genesis.currency)
        await self._check_moved(deposits[0] + bonds[0])
        endpoint = self._parts.history.endpoint_of(record.peer)
        host, port = parse_endpoint(endpoint) if endpoint else (record.host, record.port)
        check(bool(host), "peer_unreachable", "the peer has no known address: let it reopen the channel from its side")
        return await self.open_channel(
            Contact(record.peer, host, port),
            deposit=deposits[0],
            peer_deposit=deposits[1],
            bond=bonds[0],
            peer_bond=bonds[1],
            challenge_period_ms=record.agreement.challenge_period_ms,
            report=report,
        )

    async def _check_moved(self, needed: int) -> None:
        """Whether what the settlement paid to savings is where channels are funded from."""
        currency, lacking = self._parts.genesis.currency, needed - (await self.balance()).value
        if lacking > 0:
            move = f"wallet send {format_address(self.address)} {format_amount(lacking, currency)} --from savings"
            raise Refused(
                "savings_needed",
                f"the settlement paid the savings account, and the spending account lacks "
                f"{format_money(lacking, currency)}: `{move}`, then this again",
            )

    async def restore(self, report: Report = no_report) -> list[ChannelView]:
        """Find channels of these keys that this home does not know, and ask their peers what became of them.

        Returns:
            Those that were found. Of each that is open, `recovered` tells whether the peer has shown the newest state.

        Raises:
            LedgerUnreachable: Not all could be looked at; repeat it.
        """
        report(Progress("asking the ledger for channels"))
        found = await find_channels(self._parts)
        for record in found:
            await self._follower.look(record)
        report(Progress("asking the peers"))
        self._peers.keep()
        live = [record.group_id for record in found if record.live]
        await self._parts.signals.until(lambda: True if all(map(self._is_informed, live)) else None, ASK_S)
        return [self.channel(record.group_id.hex()).view() for record in found]

    def _is_informed(self, group_id: Hash) -> bool:
        group = self._parts.host.groups.get(group_id)
        return group is None or group.informed

    async def replace_witness(self, name: str, witness: Contact | str, report: Report = no_report) -> ChannelView:
        """Give an open channel another witness, together with the peer, who must accept it beforehand.

        Raises:
            Refused: ``no_witness``, ``bad_contact``, ``witness_unreachable``, ``witness_silent``,
                ``witness_declined``, ``policy``: the peer does not accept it; or as `Channel.top_up`.
        """
        channel, found = self.channel(name), parse_contact(witness) if isinstance(witness, str) else witness
        await self._openings.reach_witness(found, channel.record.peer)
        seat = Witness(found.address, format_endpoint(found.host, found.port))
        engage = partial(self._openings.engage, found)
        return await channel.replace_witness(seat, engage, report)

    def channel(self, name: str) -> Channel:
        """A channel by its id, or the start of it.

        Raises:
            Refused: ``unknown_channel`` or ``ambiguous_channel``.
        """
        record = self._parts.book.find(name)
        return Channel(self._parts, self._peers, self._follower, record.group_id)

    def channel_with(self, peer: PublicKey) -> Channel:
        """The one channel that is open with a peer.

        Raises:
            Refused: ``unknown_channel`` or ``ambiguous_channel``.
        """
        found = [handle for handle in self._handles() if handle.record.peer == peer and handle.view().state == "open"]
        if not found:
            raise Refused("unknown_channel", f"no channel is open with {format_address(peer)}: `wallet channel open`")
        if len(found) > 1:
            names = ", ".join(handle.id.hex()[:12] for handle in found)
            raise Refused("ambiguous_channel", f"several channels are open with this peer, {names}: name one of them")
        return found[0]

    async def channels(self) -> list[ChannelView]:
        """All channels, after a look at layer 1, if it can be reached."""
        await self._follower.look_at_all()
        if self._contact is None and any(map(self._waits_for_acks, self._parts.host.groups)):
            self._peers.keep()  # after a start the witness has to say again what it holds
            waits = lambda: None if any(map(self._waits_for_acks, self._parts.host.groups)) else True  # noqa: E731
            await self._parts.signals.until(waits, ACKS_S)
        return [handle.view() for handle in self._handles()]

    def _waits_for_acks(self, group_id: Hash) -> bool:
        return bool(self._parts.host.groups[group_id].tail)

    @property
    def clock_ms(self) -> int | None:
        """Newest ledger clock that a look has proven."""
        return self._follower.clock_ms

    async def ledger_clock(self) -> int:
        """The ledger clock as of now, proven.

        Raises:
            LedgerUnreachable: Nothing could be proven.
        """
        return max(await self._parts.ledger.clock(), self.clock_ms or 0)

    def history(self, limit: int = 50, channel: str | None = None) -> tuple[EntryView, ...]:
        """The newest entries first; of one channel, if its id or the start of it is given.

        Raises:
            Refused: ``unknown_channel``.
        """
        return tuple(entry for _, entry in self.history_page(History(limit=limit, channel=channel)))

    def history_page(self, request: History) -> list[tuple[Place, EntryView]]:
        """A page of :meth:`history`, with the place of each entry.

        Raises:
            Refused: ``unknown_channel``, ``bad_parameter``.
        """
        return self._parts.history.page(request)

    async def books(self) -> BooksView:
        """What this wallet has and where, counted by state, ledger and history.

        Raises:
            LedgerUnreachable: Nothing could be proven.
            Refused: ``history_unavailable``.
        """
        await self._follower.look_at_all()
        accounts = [await self._parts.ledger.account(each) for each in (self.address, self.savings_address)]
        records = [record for record in self._parts.book if record.stage is not Stage.FAILED]
        shown: list[LedgerGroup | None] = []
        for start in range(0, len(records), GROUPS_AT_ONCE):
            asked = [record.group_id for record in records[start : start + GROUPS_AT_ONCE]]
            shown += (await self._parts.ledger.groups(asked)).value
        self._parts.host.end_turn()  # so that the history is told of all that the states have
        groups, holds_back = dict(self._parts.host.groups), self._parts.observer.holds_back
        until = {name.hex(): ordinal_of(group) for name, group in groups.items()}
        sums = await asyncio.to_thread(self._parts.history.sums, until)
        sources = [
            Sources(record, groups.get(record.group_id), group, sums.get(record.group_id.hex(), Sums()), holds_back)
            for record, group in zip(records, shown, strict=True)
        ]
        header = accounts[-1].header
        balances = [answer.value.balance for answer in accounts]
        return books_of(balances, sources, header, currency_view(self._parts.genesis.currency))

    def last_place(self) -> Place:
        """Behind everything in the history. May take long. Raises as :meth:`entries_after`."""
        return self._parts.history.last()

    def entries_after(self, place: Place, limit: int) -> list[tuple[Place, EntryView]]:
        """The entries of the history that follow one, oldest first. May take long.

        Raises:
            Refused: ``history_unavailable``.
        """
        return self._parts.history.after(place, limit)

    @property
    def news(self) -> int:
        """How often something has happened, for :meth:`changed`."""
        return self._parts.signals.count

    async def changed(self, news: int, timeout_s: float) -> None:
        """Wait until something has happened since `news` was so much, at most so long."""
        await self._parts.signals.until(lambda: True if self.news != news else None, timeout_s)

    @property
    def watchtowers(self) -> tuple[WatchtowerView, ...]:
        """Whom this wallet entrusts its versions to."""
        return tuple(self._tower_view(tower) for tower in self._parts.towers)

    async def add_watchtower(self, contact: Contact | str, *, bounty: int = 0, rely: bool = False) -> WatchtowerView:
        """Entrust each version of each channel to a watchtower from now on; or change how.

        Args:
            contact: The tower, as `wallet watchtower serve` prints it.
            bounty: Minor units of our part of a liar's bond for the tower, if it reports in time.
            rely: Call committed only what it has receipted [F6].

        Raises:
            Refused: ``bad_contact``, ``bad_amount``, or ``too_many``.
        """
        tower = parse_contact(contact) if isinstance(contact, str) else contact
        check(bounty >= 0, "bad_amount", f"a bounty of {bounty} units; the least is 0")
        check(tower.address != self.address, "bad_contact", "that is this wallet: a watchtower has a home of its own")
        known = KnownTower(tower, bounty, rely)
        self._parts.towers.add(known)
        self._enter_receipted()
        self._parts.entruster.start()
        await self._parts.entruster.catch_up(LAST_WORDS_S)
        await self.settled()
        return self._tower_view(known)

    async def settled(self) -> None:
        """Wait until the standby, if there is one, has all that was done until now."""
        await self._parts.settled()

    def remove_watchtower(self, name: str) -> WatchtowerView:
        """Entrust nothing more to a watchtower; it goes on guarding what it has until its receipts end.

        Raises:
            Refused: ``unknown_watchtower``.
        """
        tower = self._parts.towers.find(name)
        view = self._tower_view(tower)
        self._parts.towers.remove(tower.address)
        self._parts.entruster.start()
        self._enter_receipted()
        return view

    def _enter_receipted(self) -> None:
        """Whom we rely on has changed: more may be committed now."""
        for record in self._parts.book:
            self._parts.observer.receipted(record.group_id)

    def _tower_view(self, tower: KnownTower) -> WatchtowerView:
        found = [self._parts.towers.receipt(tower.address, record.group_id) for record in self._parts.book.live()]
        receipts = [receipt for receipt in found if receipt is not None]
        until_ms = min((receipt.until_ms for receipt in receipts), default=None)
        return WatchtowerView(
            contact=str(tower.contact),
            bounty=tower.bounty,
            rely=tower.rely,
            channels=len(receipts),
            behind=self._parts.entruster.is_behind(tower),
            until_ms=until_ms,
            trouble=self._parts.entruster.trouble(tower),
            remaining_ms=self._follower.left_ms(until_ms),
        )

    def prune(self, before_ms: int) -> int:
        """Delete payments from the history that are older, for good; how many versions. No money depends on them.

        Raises:
            Refused: ``history_unavailable``.
        """
        return self._parts.history.prune(before_ms, in_use=True)

    async def serve(self, listen: str | None, policy: OpeningPolicy | None) -> str:
        """Take links from peers until the wallet is closed; the contact to give to them.

        Args:
            listen: ``host:port``; None for where it listened last, else any port of 127.0.0.1.
            policy: Which openings may be joined unasked; None for none.

        Raises:
            Refused: ``cannot_listen`` or ``bad_contact``.
        """
        if self._parts.headship is None:
            await check_nobody_leads(self._parts.ledger, self._keys.spending)
        wanted = listen or self._home.config().listen or self._home.endpoint() or "127.0.0.1:0"
        host, port = parse_endpoint(wanted)
        self._openings.accept(policy)
        self._peers.keep()
        self._parts.entruster.start(afresh=True)
        bound = await self._peers.listen(host, port, self._openings.admits, self._openings.knows)
        self._home.remember_endpoint(format_endpoint(host, bound))
        self._contact = str(Contact(self.address, host, bound))
        self._openings.endpoint = format_endpoint(host, bound)
        self._routes.serve()
        return self._contact

    def standby(self) -> StandbyView:
        """How this wallet and its standby stand."""
        if self._parts.headship is not None:
            return self._parts.headship.view()
        return single()

    async def go_alone(self) -> StandbyView:
        """Go on without the standby, in a higher term.

        Raises:
            Refused: ``no_standby``, ``alone``; ``fenced``: it was promoted before.
            LedgerUnreachable: Whether the ledger took it is not known; look again.
        """
        if self._parts.headship is None:
            raise Refused("no_standby", "this wallet has no standby")
        return await self._parts.headship.go_alone()

    def _handles(self) -> list[Channel]:
        return [Channel(self._parts, self._peers, self._follower, record.group_id) for record in self._parts.book]


def settled_terms(record: ChannelRecord, currency: Currency) -> tuple[tuple[int, int], tuple[int, int]]:
    """Deposits and bonds, ours first, that lock what both were paid out of a closed channel.

    Raises:
        Refused: ``channel_not_closed``, ``not_supported``, or ``insufficient_balance``.
    """
    name = record.group_id.hex()[:12]
    closed = record.stage is Stage.CLOSED and bool(record.payouts)
    check(closed, "channel_not_closed", f"channel {name} is {record.stage.value}: only what was paid out is put in")
    check(not record.agreement.witnesses, "not_supported", "it had a witness: `wallet channel open --witness`")
    ours, theirs = record.index, 1 - record.index
    bonds = (record.me.bond, record.other.bond)
    deposits = (record.payouts[ours] - bonds[0], record.payouts[theirs] - bonds[1])
    text = f"who was paid {format_money(min(record.payouts), currency)} cannot post its bond again: open a channel"
    check(min(deposits) >= 0, "insufficient_balance", f"{text} with terms of its own")
    return deposits, bonds


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
