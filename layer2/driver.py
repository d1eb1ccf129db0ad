"""Hosts the groups of one wallet: performs their effects over links and one journal.

*Safety:* nothing that follows from a record leaves this process before the record is durable, and confirmed by its
successor, if it has one.

All events of one turn of the loop are stepped first; then one sync makes all their records durable, for all groups
(group commit); then their messages leave, in order, and then the observer is told the rest, in order. If the sync
fails, none of that happens, and every group freezes. With a successor (decision 031), what a turn appended goes there,
and its effects wait until that says so; later turns go on.

Source: docs/design/groups.md, rules 1 to 6; architecture.md, "Choices already made".
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType, UnionType
from typing import assert_never

from layer1.codec import decode, encode
from layer1.conduct import Conduct
from layer1.crypto import Hash, PublicKey, Signature, SigningKey
from layer1.errors import LocalError, Refused, RemoteError, check
from layer1.journal import Journal
from layer1.ledger import records as ledger
from layer1.ledger.agreements import Body, Certificate, GroupAgreement, Member
from layer1.ledger.transactions import CloseGroup, Plea, Report, Wedge
from layer1.link import LinkClosed, LinkLimits, connect
from layer2 import group as core
from layer2 import guarding
from layer2.asides import Asides
from layer2.closing import final_payload
from layer2.contacts import Contacts
from layer2.events import (
    Advice,
    Blamed,
    ChangeAsked,
    ChangeEnded,
    ChangeRefused,
    ChangeWanted,
    ClockSeen,
    CloseRequested,
    Committed,
    ConcurRequested,
    Connected,
    Disconnected,
    DiskFailed,
    Doubts,
    Effect,
    EpochBegan,
    Event,
    Finished,
    Frozen,
    Inquired,
    JoiningSigned,
    LedgerSeen,
    Looked,
    LookNow,
    Payload,
    Persist,
    PleaRequested,
    PreimageSeen,
    Received,
    Rejected,
    Reminded,
    Requested,
    Send,
    Submission,
    WedgeRequested,
)
from layer2.group import Group
from layer2.hosting import Caller, Channel, Companion, Keeper, Observer, Outcome, Pending, Receipt, Successor, Waiter
from layer2.lingering import Outgoing
from layer2.machine import StateMachine
from layer2.messages import (
    MAX_COMMAND_BYTES,
    Aside,
    Doubt,
    Error,
    GroupMessage,
    Inquiry,
    LostData,
    OpeningMessage,
    Resume,
    Standing,
    decode_message,
)
from layer2.records import (
    Contact,
    Doubted,
    EpochBegun,
    Forgotten,
    Hosted,
    JournalRecord,
    Lost,
    Noted,
    Record,
    witness_contacts,
)
from layer2.standing import Waiting, waiting
from layer2.state import SALT_BYTES
from layer2.terms import Terms

__all__ = ["Channel", "Contact", "GroupHost", "Observer", "Outcome", "Pending", "Receipt", "Waiting"]

FIRST_BACKOFF_S = 0.1
"""Before a lost link is tried again; doubles with each failure, and each wait is between half and all of it."""
LAST_BACKOFF_S = 30.0
"""The longest wait between two tries."""
MESSAGES_PER_TURN = 64
"""Of one link, before the others have their turn."""

_Due = tuple[Hash, Effect, Channel | None]
"""Of which group, what, and by which link if it is a message."""
_Change = Blamed | ChangeAsked | ChangeEnded | EpochBegan | LookNow
_News = Persist | Committed | PreimageSeen | Rejected | Submission | Advice | Frozen | Finished | _Change


class GroupHost:
    """All groups of one wallet in one process; make and use it on one event loop."""

    def __init__(
        self,
        journal: Journal,
        key: SigningKey,
        chain_id: Hash,
        *,
        machines: Mapping[str, StateMachine],
        observer: Observer,
        group_key: Callable[[GroupAgreement, int], SigningKey],
        successor: Successor | None = None,
        margin_ms: int | None = None,
        companion: Companion | None = None,
    ) -> None:
        """Restore every group from the journal.

        Args:
            journal: Open and not replayed; of this host alone.
            key: Identity of our links.
            chain_id: The ledger's.
            machines: By name, for the agreements that may be hosted.
            observer: See there; it is called from here on.
            group_key: Our secret for an agreement and our index in it; secrets are never journaled.
            successor: Who must have each record before anything of its turn leaves; None for nobody.
            margin_ms: M of rule 22, between a claim of our locks and their expiry; None for a minute.
            companion: Whose records stand between those of the groups; None to keep what is there.

        Raises:
            LocalError: The journal contradicts itself, a machine is missing, or a key is wrong.
        """
        self._journal = journal
        self._key = key
        self._chain_id = chain_id
        self._machines = machines
        self._observer = observer
        self._conduct: Conduct[PublicKey] = Conduct()
        self._group_key = group_key
        self._successor = successor
        self._margin_ms = margin_ms
        self._companion: Companion = Keeper() if companion is None else companion
        self._clock: tuple[int, float] | None = None
        """Newest proven ledger clock, and when it was noted, by the loop's time."""
        self.proven_ms = 0
        """The newest proven ledger clock; 0 before the first."""
        self._records: list[bytes] = []
        """Appended in this turn, for the successor."""
        self._groups: dict[Hash, Group] = {}
        self._contacts = Contacts()
        self._links: dict[PublicKey, Channel] = {}
        self._bounced: set[tuple[Hash, int]] = set()
        """Members that did not know the group when our Resume came: say it again when they do."""
        self._requests: dict[Hash, list[tuple[tuple[bytes, ...], Caller]]] = {}
        self._waiting: dict[Hash, dict[int, Caller]] = {}
        self._closing: dict[Hash, list[asyncio.Future[CloseGroup]]] = {}
        self._inquiries: dict[Hash, list[asyncio.Future[None]]] = {}
        self._changes: dict[Hash, list[asyncio.Future[None]]] = {}
        self._effects: list[_Due] = []
        """Of this turn: behind the barrier."""
        self._outgoing = Outgoing()
        self._asides = Asides(self._links.get)
        self._untold: deque[tuple[Hash, _News]] = deque()
        """What is durable, and the observer has not heard yet."""
        self._telling: asyncio.Handle | None = None
        self._is_telling = False
        self._failure = ""
        self._turn: asyncio.Handle | None = None
        self._changed = asyncio.Event()
        self._random = random.Random()  # noqa: S311 - spreads reconnections, guards nothing
        self._restore()

    # ------------------------------------------------------------------------------------------------ the wallet

    @property
    def groups(self) -> Mapping[Hash, Group]:
        """Each group as of now: `version`, `state.body.balances`, `in_step`, `pending`, `final`, `claim`, `stopped`."""
        return MappingProxyType(self._groups)

    @property
    def chain_id(self) -> Hash:
        """The ledger's."""
        return self._chain_id

    def is_linked(self, peer: PublicKey) -> bool:
        """Whether there is a link to this wallet."""
        return peer in self._links

    def groups_with(self, peer: PublicKey) -> list[Hash]:
        """The groups of which this wallet is a member, as its identity on links tells; not those that it witnesses."""
        found = self._contacts.groups_of(peer).items()
        return [group_id for group_id, place in found if place < self._groups[group_id].place.size]

    def add(
        self,
        agreement: GroupAgreement,
        group_id: Hash,
        index: int,
        key: SigningKey,
        contacts: Mapping[int, Contact],
        *,
        lost: bool = False,
        doubted: bool = False,
    ) -> None:
        """Host a group that layer 1 has opened; durable on return. Again, to replace the contacts.

        Args:
            agreement: As layer 1 holds it.
            group_id: Layer 1's name for it.
            index: Ours in the agreement.
            key: Our group key; kept in memory only.
            contacts: Those whom we speak with, by index: at the primary all others, else the primary. Others' are kept.
            lost: We may have signed states of it that we do not know of: begin by asking, and sign none [F5].
            doubted: The same is possible, no more: begin by asking, and sign none before all have answered.

        Raises:
            LocalError: The key or the machine does not fit, or the disk failed.
        """
        known = tuple(contacts.get(i) for i in range(len(agreement.members)))
        record = Hosted(group_id, agreement, index, known)
        if group_id not in self._groups:
            group = core.create(
                agreement,
                group_id,
                index,
                key,
                self._machine(agreement),
                keys=self._group_key,
                margin_ms=self._margin_ms,
            )
            self._append(encode(record))
            if lost or doubted:
                loss = Lost(group_id) if lost else Doubted(group_id)
                self._append(encode(loss))
                group, _ = core.replay(group, loss)
            self._groups[group_id] = group
        else:
            self._append(encode(record))
        everybody = known + witness_contacts(agreement)
        self._contacts.put(group_id, everybody, self._groups[group_id].place.peers)
        self._end_turn_surely()
        for member, contact in enumerate(everybody):
            if contact is not None and contact.key in self._links and self._member(group_id, contact.key) == member:
                self._step(group_id, Connected(member))
        self._changed.set()

    def forget(self, group_id: Hash) -> None:
        """Drop a group that layer 1 closed; durable on return.

        Raises:
            Refused: ``unknown_group``, or ``group_open``: its signatures must not be forgotten before the end.
        """
        group = self._group(group_id)
        check(group.closed, "group_open", "layer 1 has not closed the group: what it signed must be remembered")
        self._append(encode(Forgotten(group_id)))
        self._end_turn_surely()
        del self._groups[group_id]
        self._contacts.drop(group_id)
        self._changed.set()

    async def submit(self, group_id: Hash, command: bytes) -> Receipt:
        """Issue a command and wait until its fate is known.

        Raises:
            Refused: It was not applied and never will be: ``insufficient_balance`` and whatever the machine says,
                ``not_connected``, ``group_closing``, ``group_wedged``, ``group_closed``, ``frozen``, ``lost_data``,
                ``too_large``, ``too_many`` or ``unknown_group``.
            Pending: The link broke, or the group was wedged, before the fate was known: the observer is told it later.
                A caller that is cancelled knows as little.
        """
        outcome = await self.submit_many(group_id, (command,))
        if outcome.last is not None:
            return outcome.last
        raise (*outcome.refused, *outcome.pending)[0]

    async def submit_many(self, group_id: Hash, commands: Sequence[bytes]) -> Outcome:
        """Issue commands together, and wait until the fate of each is known. They share versions, as many as fit.

        Raises:
            Refused: None was issued: ``too_large`` or ``unknown_group``.
        """
        self._group(group_id)
        size = max(map(len, commands), default=0)
        check(size <= MAX_COMMAND_BYTES, "too_large", f"a command of {size} bytes; at most {MAX_COMMAND_BYTES}")
        if not commands:
            return Outcome(0, None)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.issue(group_id, commands, future)
        return await future

    def issue(self, group_id: Hash, commands: Sequence[bytes], waiter: Waiter) -> None:
        """The first half of :meth:`submit_many`, without waiting: at least one command, of at most so many bytes.

        They are issued when the turn ends: behind everything that was noted before.
        """
        self._requests.setdefault(group_id, []).append((tuple(commands), Caller(len(commands), waiter)))
        self._schedule()

    def note(self, record: bytes, *, soon: bool = True) -> None:
        """Append a record of the companion; what is issued afterwards leaves after both are durable.

        Args:
            record: Encoded.
            soon: Whether this turn is to be synced for it; else it goes with whatever is synced next.

        Raises:
            LocalError: The disk failed.
        """
        self._append(encode(Noted(record)))
        if soon:
            self._schedule()

    def waiting(self, group_id: Hash) -> Waiting | None:
        """Whom the group waits for, as far as this member knows; None if for nobody.

        For the time of a round trip that is normal. A member that is not the primary knows what the primary has shown;
        see :meth:`inquire`.

        Raises:
            Refused: ``unknown_group``.
        """
        return waiting(self._group(group_id))

    async def inquire(self, group_id: Hash) -> Waiting | None:
        """As :meth:`waiting`, after the primary has shown what it has, if it may have more. Cancel it to stop waiting.

        Raises:
            Refused: ``unknown_group``.
        """
        self._group(group_id)
        asked = (effect.message for effect in self._step(group_id, Inquired()) if isinstance(effect, Send))
        if any(isinstance(message, Inquiry) for message in asked):
            answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._inquiries.setdefault(group_id, []).append(answered)
            await answered
        return self.waiting(group_id)

    async def close_cooperatively(self, group_id: Hash) -> CloseGroup:
        """Finish what is in flight and agree on a FINAL (rule 7). Cancel it to stop waiting, and wedge if need be.

        Raises:
            Refused: ``not_connected``, ``group_closed``, ``frozen``, ``lost_data`` or ``unknown_group``.
        """
        done = final_payload(self._group(group_id))
        if done is not None:
            return done
        self._step(group_id, CloseRequested())
        future: asyncio.Future[CloseGroup] = asyncio.get_running_loop().create_future()
        self._closing.setdefault(group_id, []).append(future)
        return await future

    def wedge(self, group_id: Hash) -> Wedge | Plea:
        """Stop the group for good and give what to bring to layer 1; the same again when repeated.

        A member that lost data pleads (rule 13), others bring their newest certificate and a claim (rule 8).

        Raises:
            Refused: ``frozen``, ``group_closed`` or ``unknown_group``.
        """
        self._group(group_id)
        payload = self._submission(group_id, WedgeRequested(), Wedge | Plea)
        assert isinstance(payload, Wedge | Plea), "a wedge that is not refused gives its payload"
        return payload

    def plead(self, group_id: Hash) -> Plea:
        """Say that data may be lost, also if this member knows of no loss (rule 13).

        Raises:
            Refused: ``claim_stands``, ``frozen``, ``group_closed`` or ``unknown_group``.
        """
        self._group(group_id)
        payload = self._submission(group_id, PleaRequested(), Plea)
        assert isinstance(payload, Plea), "a plea that is not refused gives its payload"
        return payload

    def doubt(self, group_id: Hash) -> None:
        """What this host has of the group comes from a copy, perhaps an old one; durable after :meth:`end_turn` [F5].

        From then on it pleads instead of claiming, and signs no state, until all with whom it speaks have shown where
        they stand: it says nothing of its own before.

        Raises:
            Refused: ``unknown_group``.
        """
        self._group(group_id)
        self._step(group_id, Doubts())

    def remind(self, group_id: Hash, who: str, certificate: Certificate, body: Body | None) -> None:
        """Somebody who keeps our newest certificate for us shows it: what is above all that we know tells of a loss.

        Raises:
            Refused: ``unknown_group``.
            RemoteError: Not all members signed it.
        """
        self._group(group_id)
        self._step(group_id, Reminded(who, certificate, body))

    def concur(self, group_id: Hash) -> Report:
        """Agree, as a member that lost data, to settle on what layer 1 last showed (rule 10).

        Raises:
            Refused: ``not_wedged``, ``claims``, ``witnessed``, ``too_early`` or ``unknown_group``.
        """
        self._group(group_id)
        payload = self._submission(group_id, ConcurRequested(), Report)
        assert isinstance(payload, Report), "a concur that is not refused gives its payload"
        return payload

    async def change(self, group_id: Hash, terms: Terms, clock_ms: int) -> None:
        """Change the group, together with all others (rules 24 and 25); on return layer 1 shows the next epoch.

        Keep telling what layer 1 shows by :meth:`observe`, with its clock, and bring there what the observer is told.
        Who stops waiting may call :meth:`decline`; what is signed by then ends with its expiry, at the latest.

        Args:
            group_id: The group.
            terms: What is wanted.
            clock_ms: Newest proven ledger clock.

        Raises:
            Refused: It will not be: ``not_connected``, ``group_changing``, ``policy``, ``insufficient_balance``,
                ``expired``, why the group has stopped, or as another member says.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changes.setdefault(group_id, []).append(future)
        try:
            self.agree(group_id, terms, clock_ms)
            await future
        finally:
            if future in (waiting := self._changes.get(group_id, [])):
                waiting.remove(future)

    def agree(self, group_id: Hash, terms: Terms, clock_ms: int) -> None:
        """Want these terms: what :meth:`change` does first, and the answer to who asks for them. Raises as it does."""
        self._group(group_id)
        self._step(group_id, ChangeWanted(terms, clock_ms))

    def decline(self, group_id: Hash, code: str, text: str) -> None:
        """Do not want the change that is talked about, or no more. What is signed stays signed, until it expires.

        Raises:
            Refused: ``unknown_group``.
        """
        self._group(group_id)
        self._step(group_id, ChangeRefused(code, text, _salt()))
        self._end_changes(group_id, Refused(code, text))

    def add_joining(self, group_id: Hash, signature: Signature) -> None:
        """At the primary: the signature of somebody who joins by the change that is signed.

        Raises:
            Refused: ``no_change``, ``bad_signature`` or ``unknown_group``.
        """
        self._group(group_id)
        self._step(group_id, JoiningSigned(signature))

    def observe(self, group: ledger.Group, clock_ms: int = 0, *, claiming: bool = True) -> Report | None:
        """Tell what layer 1 shows of a group, at every change and poll; gives what to bring to it, if anything.

        A wedge, a FINAL or a change that layer 1 has not got yet is told to the observer once more.

        Args:
            group: Layer 1's record.
            clock_ms: Ledger clock of the block that proves it: a change that has expired is given up by it.
            claiming: Whether a first claim may be signed now; if not, look again soon.

        Raises:
            Refused: ``unknown_group``.
        """
        self._group(group.group_id)
        payload = self._submission(group.group_id, LedgerSeen(group, clock_ms, _salt(), claiming), Report)
        return payload if isinstance(payload, Report) else None

    def note_clock(self, clock_ms: int) -> None:
        """Tell the newest proven ledger clock, at every look: what is left of a lock is reckoned from it (rule 22)."""
        self.proven_ms = max(self.proven_ms, clock_ms)
        if self._clock is None or clock_ms >= self.clock_ms(0):
            self._clock = clock_ms, asyncio.get_running_loop().time()

    def clock_ms(self, unknown: int = 0) -> int:
        """The ledger clock as of now: the newest proven one, and what has passed since; `unknown` before the first.

        It may be ahead, never behind by more than the proof was old: a ledger that stood still does not make up for it.
        """
        if self._clock is None:
            return unknown
        noted, since_s = self._clock
        return noted + max(0, int((asyncio.get_running_loop().time() - since_s) * 1_000))

    def hashes(self, group_id: Hash) -> tuple[Hash, ...]:
        """Under which the locks of a group are: whether layer 1 knows their preimages is told by :meth:`look`."""
        return guarding.hashes(self._group(group_id))

    def look(self, group_id: Hash, looked: Sequence[Looked]) -> None:
        """Tell what layer 1 shows of the preimages of a group's locks; a proposal that was in doubt is answered then.

        Raises:
            Refused: ``unknown_group``.
        """
        self._group(group_id)
        self._see(group_id, tuple(looked))

    def _see(self, group_id: Hash, looked: tuple[Looked, ...] = ()) -> None:
        self._step(group_id, ClockSeen(self.clock_ms(), looked))

    def send_opening(self, peer: PublicKey, message: OpeningMessage) -> bool:
        """Send to a connected wallet; False if there is no link to it."""
        link = self._links.get(peer)
        return link is not None and link.send_nowait(encode(message))

    def say(self, peer: PublicKey, data: bytes) -> bool:
        """Say something that concerns no group to a linked wallet, when its groups have said what they have to.

        Args:
            peer: A wallet.
            data: At most `MAX_ASIDE_BYTES`; its observer gets it.

        Returns:
            Whether it will be sent; it is dropped without a link, or if too much waits for that peer.
        """
        return self._asides.say(peer, data)

    def compact(self) -> None:
        """Replace the journal by what is needed to go on. Make the history durable elsewhere first."""
        self._end_turn_surely()
        self._journal.compact(self._snapshots())

    def end_turn(self) -> None:
        """Make everything that was stepped durable, and let out what may be.

        Raises:
            LocalError: The disk failed.
        """
        self._end_turn_surely()

    def freeze(self, reason: str) -> None:
        """Sign and send nothing more, as when the disk failed (rule 6)."""
        self._freeze(reason)

    def everything(self) -> list[bytes]:
        """Records that restore all groups as they are; call it between turns."""
        return list(self._snapshots())

    def take(self, records: Sequence[bytes]) -> None:
        """Take in what another home of this wallet signed; durable after :meth:`end_turn`. For hosts that only follow.

        Raises:
            LocalError: They do not follow from what is here.
        """
        for record in records:
            self._apply(record)
            self._append(record)

    def swap(self, records: Sequence[bytes]) -> None:
        """As :meth:`take`, in place of everything, durable on return; wholly, or not at all."""
        self._end_turn_surely()
        before, noted = (self._groups, self._contacts), list(self._companion.records())
        self._groups, self._contacts = {}, Contacts()
        self._companion.clear()
        try:
            for record in records:
                self._apply(record)
            self._journal.compact(records)
        except LocalError:
            self._groups, self._contacts = before
            self._companion.clear()
            for note in noted:
                self._companion.replay(note)
            raise

    def journal_bytes(self) -> int:
        """How long the journal is: when to compact."""
        return self._journal.size_bytes

    # ----------------------------------------------------------------------------------------------------- links

    async def attach(self, link: Channel) -> None:
        """Serve an authenticated link, inbound or outbound, until it closes; a newer one of the same peer ends it."""
        peer = link.peer
        if self._successor is not None and self._successor.is_full:  # each link begins with a turn: a peer dials again
            await link.close("the standby is away")
            return
        old = self._links.get(peer)
        self._links[peer] = link
        self._changed.set()
        try:
            self._for_each_group_of(peer, up=True)  # before anything else is said on it: a Resume opens every session
            self._observer.linked(peer)
            if old is not None:
                await old.close("replaced by a newer link")
            await self._serve(link)
        except LinkClosed:
            pass
        finally:
            self._outgoing.flush(link)
            if self._links.get(peer) is link:
                del self._links[peer]
                self._asides.drop(peer)
                self._for_each_group_of(peer, up=False)
                self._observer.unlinked(peer)
                self._changed.set()

    async def run(self, limits: LinkLimits | None = None) -> None:
        """Keep a link to every contact that has an address, until cancelled."""
        dialing: dict[PublicKey, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                wanted = self._contacts.reachable()  # in its order, which is the same in every run
                reachable = set(wanted)
                for peer in [peer for peer in dialing if peer not in reachable]:
                    dialing.pop(peer).cancel()
                for peer in [peer for peer in wanted if peer not in dialing]:
                    dialing[peer] = tasks.create_task(self._keep_link(peer, limits))
                await self._changed.wait()

    async def _keep_link(self, peer: PublicKey, limits: LinkLimits | None) -> None:
        backoff_s = FIRST_BACKOFF_S
        if self._key.public > peer:  # two wallets that dial each other would end each other's links
            await asyncio.sleep(backoff_s)
        while True:
            await asyncio.sleep(self._conduct.out_s(peer, asyncio.get_running_loop().time()))
            contact = self._contacts.find(peer)
            may_speak = self._successor is None or self._successor.in_force
            if may_speak and peer not in self._links and contact is not None:
                try:
                    link = await connect(
                        contact.host, contact.port, self._key, self._chain_id, expect=peer, limits=limits
                    )
                except LinkClosed:
                    backoff_s = min(2 * backoff_s, LAST_BACKOFF_S)
                else:
                    backoff_s = FIRST_BACKOFF_S
                    try:
                        await self.attach(link)
                    finally:
                        await link.close()
            await asyncio.sleep(backoff_s * self._random.uniform(0.5, 1.0))

    async def _serve(self, link: Channel) -> None:
        heard = 0
        while True:
            data = await link.receive()
            if self._links.get(link.peer) is not link:
                return  # replaced: what was said on it belongs to a session that is over
            self._hear(link, data)
            if self._successor is not None:
                await self._successor.room()
            heard += 1
            if heard % MESSAGES_PER_TURN == 0:
                await asyncio.sleep(0)

    def _hear(self, link: Channel, data: bytes) -> None:
        try:
            message = decode_message(data)
        except RemoteError as error:
            self._observer.misbehaved(None, link.peer, error)
            self._charge(link)
            return
        if isinstance(message, OpeningMessage):
            self._observer.opening(link.peer, message)
            return
        if isinstance(message, Aside):
            self._hear_aside(link, message)
            return
        group_id = message.group_id
        member = self._member(group_id, link.peer)
        if member is not None:
            self._hear_member(link, group_id, member, message)
        elif not isinstance(message, Error):
            link.send_nowait(encode(Error(group_id, "unknown_group", "no such group here, or not yet")))

    def _hear_aside(self, link: Channel, aside: Aside) -> None:
        try:
            self._asides.hear(link.peer, aside)
            self._observer.aside(link.peer, aside.data)
        except RemoteError as error:
            self._observer.misbehaved(None, link.peer, error)
            self._charge(link)

    def _hear_member(self, link: Channel, group_id: Hash, member: int, message: GroupMessage) -> None:
        if isinstance(message, Error) and message.code == "unknown_group":
            self._bounced.add((group_id, member))
        if isinstance(message, Resume | Doubt | LostData) and (group_id, member) in self._bounced:
            self._bounced.discard((group_id, member))
            self._step(group_id, Connected(member))
        was, absent = self._groups[group_id].in_step, self._groups[group_id].told_absent
        if self._groups[group_id].locks:
            self._see(group_id)
        try:
            self._step(group_id, Received(member, message, _salt()))
        except RemoteError as error:
            self._groups[group_id] = core.remember(self._groups[group_id], error)
            link.send_nowait(encode(Error(group_id, "protocol", str(error)[:500])))
            self._observer.misbehaved(group_id, link.peer, error)
            self._charge(link)
        if member in self._groups[group_id].in_step and member not in was:
            self._observer.connected(group_id, member, True)
        if isinstance(message, Standing):
            self._tell_absent(group_id, absent)

    def _tell_absent(self, group_id: Hash, before: frozenset[int]) -> None:
        """By the primary's word somebody came, or is gone; or it answers an inquiry."""
        now = self._groups[group_id].told_absent
        for member in sorted(before ^ now):
            self._observer.connected(group_id, member, member in before)
        if now - before:
            self._leave_open(group_id, "another member is gone")
        self._answer_inquiries(group_id)

    def _answer_inquiries(self, group_id: Hash) -> None:
        for answered in self._inquiries.pop(group_id, []):
            if not answered.done():
                answered.set_result(None)

    def _charge(self, link: Channel) -> None:
        """Whoever breaks the protocol too often loses its link, and gets another only after a pause."""
        if self._conduct.charge(link.peer, asyncio.get_running_loop().time()):
            link.cut("it broke the protocol too often")

    def knows(self, peer: PublicKey) -> bool:
        """Whether this wallet is one that a group here speaks with."""
        return bool(self._contacts.groups_of(peer))

    def shuts_out(self, peer: PublicKey) -> bool:
        """Whether this wallet broke the protocol so often that it must wait before it gets a link."""
        return self._conduct.out_s(peer, asyncio.get_running_loop().time()) > 0

    def _for_each_group_of(self, peer: PublicKey, *, up: bool) -> None:
        for group_id, member in self._contacts.groups_of(peer).items():
            self._bounced.discard((group_id, member))
            was = member in self._groups[group_id].in_step
            self._step(group_id, Connected(member) if up else Disconnected(member))
            if not (up and member in self._groups[group_id].place.witnesses):  # it takes no commands, and loses none
                self._leave_open(group_id, "the link broke")
            self._answer_inquiries(group_id)
            if was:
                self._observer.connected(group_id, member, False)

    # ------------------------------------------------------------------------------------------------- the turn

    def _step(self, group_id: Hash, event: Event) -> list[Effect]:
        """Step a group; its effects are performed when the turn ends."""
        before = self._groups[group_id]
        group, effects = core.step(before, event)
        noted = self._companion.signing(group_id, before, group, effects) if effects else ()
        self._groups[group_id] = group
        for note in noted:
            self._append(encode(Noted(note)))
        if group.epoch != before.epoch and not group.left:
            self._follow_epoch(group_id, before.place.agreement)
        for effect in effects:
            if isinstance(effect, Persist):
                self._append(effect.record)
            else:
                self._effects.append((group_id, effect, self._link_of(group_id, effect)))
        if effects:
            self._schedule()
        return effects

    def _follow_epoch(self, group_id: Hash, before: GroupAgreement) -> None:
        """Who stays is found where it was; who is new, where its agreement says."""
        place, known = self._groups[group_id].place, self._contacts.of(group_id)
        contacts = []
        for seat, (old, new) in enumerate(zip(before.members, place.agreement.members, strict=True)):
            stays = old.funding == new.funding
            contacts.append(known[seat] if stays or seat == place.index else _contact_in(new))
        self._contacts.put(group_id, (*contacts, *witness_contacts(place.agreement)), place.peers)
        self._changed.set()

    def _schedule(self) -> None:
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._end_turn)

    def _end_turn(self) -> None:
        """Step what was requested, sync once for all groups, then perform all effects (rules 1 to 6)."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        requests, self._requests = self._requests, {}
        for group_id, batch in requests.items():
            self._issue(group_id, batch)
        try:
            self._journal.sync()
        except LocalError as error:
            self._freeze(str(error))
            return
        effects, self._effects = self._effects, []
        records, self._records = self._records, []
        if self._successor is None:
            self._perform(effects)
        elif effects or records:
            self._successor.follow(tuple(records), partial(self._perform, effects), len(effects))

    def _perform(self, effects: Sequence[_Due]) -> None:
        """Send what is to be sent, and tell the rest when the links have written it."""
        for group_id, effect, link in effects:
            if not isinstance(effect, Send):
                self._untold.append((group_id, effect))
            elif link is not None:  # else a new one's Resume mends it
                self._outgoing.send(group_id, effect, link)
        if self._untold and self._telling is None:
            self._telling = asyncio.get_running_loop().call_soon(self._tell_all)

    def _tell_all(self) -> None:
        """Tell what is durable, in order. The links have written by then: a peer waits for no observer of ours."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._is_telling:
            return  # an observer called us: the loop below, further up, goes on with it in order
        self._is_telling = True
        try:
            while self._untold:
                group_id, news = self._untold.popleft()
                if group_id in self._groups:  # else an observer has just forgotten it
                    self._tell(group_id, news)
        finally:
            self._is_telling = False
            if self._untold:  # an observer raised: the fault is told above, and the other news all the same
                self._telling = asyncio.get_running_loop().call_soon(self._tell_all)

    def _end_turn_surely(self) -> None:
        self._end_turn()
        self._tell_all()
        if self._failure:
            raise LocalError(self._failure)

    def _append(self, record: bytes) -> None:
        try:
            self._journal.append(record)
            self._records.append(record)
        except LocalError as error:
            self._freeze(str(error))
            raise

    def _issue(self, group_id: Hash, requests: list[tuple[tuple[bytes, ...], Caller]]) -> None:
        """All of a turn together; or, if some are refused, each caller's by themselves: others have no part in it."""
        wanted = [(commands, caller) for commands, caller in requests if not caller.is_gone]
        callers = [caller for commands, caller in wanted for _ in commands]
        first = 0
        try:
            first = self._group(group_id).next_number
            if self._groups[group_id].locks:
                self._see(group_id)
            self._step(group_id, Requested(tuple(c for commands, _ in wanted for c in commands), _salt()))
            self._waiting.setdefault(group_id, {}).update(enumerate(callers, first))
        except Refused as refusal:
            if len(wanted) > 1:
                for each in wanted:
                    self._issue(group_id, [each])
                return
            for caller in callers:
                caller.refused(Refused(refusal.code, refusal.message))
        except LocalError as error:  # everything is frozen by now; they have no number, so nobody else tells them
            for number, caller in enumerate(callers, first):
                caller.pending(Pending(group_id, number, f"the disk failed: {error}"))

    def _link_of(self, group_id: Hash, effect: Effect) -> Channel | None:
        """By which a message is to leave: that of its session, for on a newer one a Resume must come first."""
        contact = self._contacts.of(group_id)[effect.member] if isinstance(effect, Send) else None
        return None if contact is None else self._links.get(contact.key)

    def _tell(self, group_id: Hash, effect: _News) -> None:
        match effect:
            case Committed():
                self._commit(group_id, effect)
            case PreimageSeen():
                self._observer.preimage_seen(group_id, effect)
            case Rejected(number, code, text):
                caller = self._waiting.get(group_id, {}).pop(number, None)
                if caller is not None:
                    caller.refused(Refused(code, text))
                self._observer.rejected(group_id, effect)
            case Submission(payload):
                if not (isinstance(payload, CloseGroup) and self._closed_together(group_id, payload)):
                    self._observer.submission(group_id, payload)
            case Advice():
                self._observer.advice(group_id, effect)
            case Frozen(reason):
                self._observer.frozen(group_id, reason)
            case Finished():
                self._observer.finished(group_id, effect)
            case Blamed() | ChangeAsked() | ChangeEnded() | EpochBegan() | LookNow():
                self._tell_of_change(group_id, effect)
            case Persist():
                raise AssertionError("records are appended when the group is stepped")
            case _ as never:
                assert_never(never)

    def _tell_of_change(self, group_id: Hash, effect: _Change) -> None:
        match effect:
            case ChangeAsked():
                self._observer.change_asked(group_id, effect)
            case ChangeEnded(code, text):
                self._end_changes(group_id, Refused(code, text))
                self._observer.change_ended(group_id, effect)
            case EpochBegan():
                self._end_changes(group_id, None)
                self._observer.epoch_began(group_id, effect)
            case LookNow():
                self._observer.look_now(group_id)
            case Blamed(member, error):
                contact = self._contacts.of(group_id)[member]
                self._observer.misbehaved(group_id, b"" if contact is None else contact.key, error)
            case _ as never:
                assert_never(never)

    def _end_changes(self, group_id: Hash, refusal: Refused | None) -> None:
        """Tell those who wait for a change what became of it."""
        for future in self._changes.pop(group_id, []):
            if future.done():
                continue
            if refusal is None:
                future.set_result(None)
            else:
                future.set_exception(Refused(refusal.code, refusal.message))

    def _commit(self, group_id: Hash, event: Committed) -> None:
        waiting, me = self._waiting.get(group_id), self._groups[group_id].place.index
        if waiting:
            for command in event.batch.commands:
                if command.member != me:
                    continue
                caller = waiting.pop(command.number, None)
                if caller is not None:
                    caller.committed(command.number, event.version)
        self._observer.committed(group_id, event)

    def _closed_together(self, group_id: Hash, payload: CloseGroup) -> bool:
        """Give it to those who wait for it; False if nobody does."""
        waiting = [future for future in self._closing.pop(group_id, []) if not future.done()]
        for future in waiting:
            future.set_result(payload)
        return bool(waiting)

    def _submission(self, group_id: Hash, event: Event, kind: type[Payload] | UnionType) -> Payload | None:
        """Step, and return what is to be submitted when it is durable, instead of telling the observer."""
        self._end_turn()
        self._step(group_id, event)
        found = None
        for position, (_, effect, _) in enumerate(self._effects):
            if isinstance(effect, Submission) and isinstance(effect.payload, kind):
                found = effect.payload
                del self._effects[position]
                break
        self._end_turn()
        self._tell_all()
        group = self._groups[group_id]
        if group.frozen:
            raise Refused("frozen", f"the disk did not confirm: {group.frozen}; look after it, then start again")
        if group.stopped is not None:
            self._leave_open(group_id, "layer 1 decides about it")
        return found

    def _leave_open(self, group_id: Hash, why: str) -> None:
        """Whoever waits learns that the fate of its command is not known."""
        self._end_turn()
        self._tell_all()
        for number, caller in self._waiting.pop(group_id, {}).items():
            text = f"command {number} is pending: {why}; do not retry it before its fate is known"
            caller.pending(Pending(group_id, number, text))

    def _freeze(self, reason: str) -> None:
        """Rule 6: nothing of this turn leaves, and no group signs any more."""
        self._effects.clear()
        self._records.clear()
        self._failure = reason
        self._tell_all()
        for group_id in list(self._groups):
            self._groups[group_id], effects = core.step(self._groups[group_id], DiskFailed(reason))
            self._untold.extend((group_id, effect) for effect in effects if not isinstance(effect, Send))
            self._tell_all()
            for number, caller in self._waiting.pop(group_id, {}).items():
                caller.pending(Pending(group_id, number, f"the disk failed: {reason}"))

    # --------------------------------------------------------------------------------------------------- records

    def _restore(self) -> None:
        for data in self._journal.replay():
            self._apply(data)

    def _apply(self, data: bytes) -> None:
        """One record, in memory."""
        try:
            record: JournalRecord = decode(data, JournalRecord)  # type: ignore[arg-type]  # a union of structs
        except RemoteError as error:
            raise LocalError(f"a record in the journal of the groups does not decode: {error}") from error
        match record:
            case Hosted(group_id, agreement, index, contacts):
                if group_id not in self._groups:
                    key, machine = self._group_key(agreement, index), self._machine(agreement)
                    self._groups[group_id] = core.create(
                        agreement, group_id, index, key, machine, keys=self._group_key, margin_ms=self._margin_ms
                    )
                everybody = contacts + witness_contacts(agreement)
                self._contacts.put(group_id, everybody, self._groups[group_id].place.peers)
            case Forgotten(group_id):
                self._groups.pop(group_id, None)
                self._contacts.drop(group_id)
            case Noted(note):
                self._companion.replay(note)
            case _:
                self._replay(record.group_id, record)

    def _replay(self, group_id: Hash, record: Record) -> None:
        if group_id not in self._groups:
            raise LocalError(f"the journal has records of group {group_id.hex()}, which it never took in")
        before = self._groups[group_id]
        self._groups[group_id], committed = core.replay(before, record)
        if isinstance(record, EpochBegun) and not self._groups[group_id].left:
            self._follow_epoch(group_id, before.place.agreement)
        for event in committed:
            self._observer.committed(group_id, event)

    def _snapshots(self) -> Iterator[bytes]:
        for group_id, group in self._groups.items():
            place = group.place
            members = self._contacts.of(group_id)[: place.size]
            yield encode(Hosted(group_id, place.agreement, place.index, members))
            yield core.snapshot(group)
        yield from (encode(Noted(note)) for note in self._companion.records())

    # --------------------------------------------------------------------------------------------------- look-ups

    def _group(self, group_id: Hash) -> Group:
        group = self._groups.get(group_id)
        if group is None:
            raise Refused("unknown_group", f"group {group_id.hex()} is not hosted here")
        return group

    def _machine(self, agreement: GroupAgreement) -> StateMachine:
        machine = self._machines.get(agreement.machine)
        if machine is None:
            raise LocalError(f"no machine {agreement.machine!r} here: there are {', '.join(self._machines)}")
        return machine

    def _member(self, group_id: Hash, peer: PublicKey) -> int | None:
        return self._contacts.place(group_id, peer)


def _contact_in(member: Member) -> Contact:
    """Where a member says that it is found; the identity of its links is its funding account (decision 030)."""
    host, _, port = member.contact.rpartition(":")
    good = host and port.isascii() and port.isdigit() and int(port) < 65_536
    return Contact(member.funding, host, int(port)) if good else Contact(member.funding)


def _salt() -> bytes:
    return os.urandom(SALT_BYTES)
