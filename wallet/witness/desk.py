"""Where members of witnessed groups come: takes in certificates, makes them durable, ACKs them.

*Safety:* nothing that follows from a record leaves this process before the record is durable.

What comes in one turn of the loop is stepped first; one sync makes all records durable, for all groups; then it is
answered. If the sync fails nothing is, then or later. A group that is not known here is looked for on layer 1, with
proof, and taken if it was promised.

Source: docs/design/groups.md, rule 3 and "Witnessed groups"; decision 033.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import MappingProxyType

from layer1.client import LedgerUnreachable
from layer1.codec import Struct, decode, encode
from layer1.conduct import Conduct
from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.errors import LocalError, Refused, RemoteError, WedgeError, check
from layer1.journal import Journal
from layer1.ledger.agreements import GroupAgreement
from layer1.ledger.records import Group, Status
from layer1.ledger.transactions import Report
from layer1.link import LinkClosed
from layer2 import witness as core
from layer2.engaging import Promised, WitnessPolicy, judge, sign_promise
from layer2.events import Effect, Finished, LedgerSeen, Persist, Received, Send, Submission
from layer2.hosting import Channel
from layer2.messages import Decline, Error, GroupMessage, Hold, Inquiry, WitnessPromise, WitnessRequest, decode_message
from layer2.witness import Holding, HoldingRecord, HoldingSnapshot, Kept, Taken, WitnessClaimed
from wallet.witness.known import FormerGroups, Promises

LOOK_TIMES = 20
"""A group that a member knows is looked for so often: this witness's replica may be behind."""
LOOK_PAUSE_S = 0.5
LOOKS_AT_ONCE = 8
KEPT_MS = 3_600_000
"""How long a promise is kept behind its `open_before_ms`, ledger clock: the group may have been opened in time, and its
members may not have come yet. Without its witness one of them alone could hold back all money.
"""
MOST_AWAITED = 1_000
"""Messages about groups that are being looked for."""
MOST_AWAITED_EACH = 32
"""Of these, of one wallet: nobody takes the others' places. More than it may have openings that wait for layer 1."""
_log = logging.getLogger(__name__)


class Dropped(Struct, tag=35):
    """Layer 1 closed this group, or it goes on without this witness."""

    group_id: Hash
    members: tuple[PublicKey, ...] = ()
    """By their wallets' keys."""


DeskRecord = Taken | Kept | WitnessClaimed | HoldingSnapshot | Promised | Dropped
"""What the journal of a witness holds."""


class WitnessDesk:
    """All groups of one witness, and the links of their members.

    Attributes:
        failure: Why nothing is taken in any more; None while all is well.
    """

    def __init__(
        self,
        journal: Journal,
        key: SigningKey,
        chain_id: Hash,
        policy: WitnessPolicy,
        *,
        look: Callable[[Hash], Awaitable[Group | None]],
        clock: Callable[[], Awaitable[int]],
    ) -> None:
        """Restore what the journal holds.

        Args:
            journal: Open and not replayed; of this witness alone.
            key: Identity of our links, which signs ACKs and CLAIMs.
            chain_id: The ledger's.
            policy: Whom to serve.
            look: A group on layer 1, proven and fresh; raises LedgerUnreachable.
            clock: The ledger's, proven; raises LedgerUnreachable.

        Raises:
            LocalError: The journal contradicts itself, or is of another key.
        """
        self._journal, self._key, self._chain_id, self._policy = journal, key, chain_id, policy
        self._look, self._clock = look, clock
        self._conduct: Conduct[PublicKey] = Conduct()
        self._holdings: dict[Hash, Holding] = {}
        self._promises = Promises()
        self._former = FormerGroups()
        self._links: dict[PublicKey, Channel] = {}
        self._due: list[tuple[Hash, Effect, Channel | None]] = []
        """Of this turn: behind the barrier."""
        self._promised: list[tuple[Channel, WitnessPromise]] = []
        """Likewise."""
        self._turn: asyncio.Handle | None = None
        self._looking = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._awaited: dict[Hash, list[tuple[Channel, GroupMessage]]] = {}
        """What was said of groups that are being looked for."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_submission: Callable[[Report], object] = lambda report: None
        self.on_taken: Callable[[Hash], object] = lambda group_id: None
        self.on_failure: Callable[[LocalError], object] = lambda error: None
        self.failure: LocalError | None = None
        self._restore()

    @property
    def holdings(self) -> Mapping[Hash, Holding]:
        """Each group as of now."""
        return MappingProxyType(self._holdings)

    def admits(self, peer: PublicKey) -> bool:
        """Whether this wallet may have a link now."""
        return self.failure is None and self._conduct.out_s(peer, asyncio.get_running_loop().time()) <= 0

    def keeps(self, peer: PublicKey) -> bool:
        """Whether its link stays when there are too many: a member's does."""
        return any(core.member_of(holding.agreement, peer) is not None for holding in self._holdings.values())

    async def attach(self, link: Channel) -> None:
        """Serve a wallet until its link ends."""
        self._links[link.peer] = link
        try:
            while True:
                await self._hear(link, await link.receive())
                await asyncio.sleep(0)  # the others have their turn
        except LinkClosed:
            pass
        finally:
            if self._links.get(link.peer) is link:
                del self._links[link.peer]

    async def close(self) -> None:
        """Give up what is being looked for."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def observe(self, shown: Group) -> None:
        """Tell what layer 1, believed with proof, shows of a group that is held."""
        if shown.group_id in self._holdings and self.failure is None:
            self._step(shown.group_id, LedgerSeen(shown), None)

    def compact(self) -> None:
        """Replace the journal by what is needed to go on."""
        self._end_turn()
        if self.failure is None:
            self._journal.compact(self._snapshots())

    def journal_bytes(self) -> int:
        """How long the journal is: when to compact."""
        return self._journal.size_bytes

    # ----------------------------------------------------------------------------------------------------- messages

    async def _hear(self, link: Channel, data: bytes) -> None:
        try:
            message = decode_message(data)
        except RemoteError as error:
            self._charge(link, str(error))
            return
        if isinstance(message, WitnessRequest):
            await self._engage(link, message.agreement)
        elif isinstance(message, Hold | Inquiry):
            self._bring(link, message)
        elif not isinstance(message, Error):
            self._charge(link, f"a witness was sent {type(message).__name__}")

    def _bring(self, link: Channel, message: Hold | Inquiry) -> None:
        holding = self._holdings.get(message.group_id)
        epoch = message.certificate.header.epoch if isinstance(message, Hold) else 0
        if holding is None or epoch > holding.taken.origin.epoch:
            self._await(link, message)
            return
        member = core.member_of(holding.agreement, link.peer)
        if member is None:
            self._say(link, Error(message.group_id, "not_a_member", "you are no member of this group"))
            self._charge(link, "it is no member of the group that it names")
            return
        try:
            self._step(message.group_id, Received(member, message, b""), link)
        except RemoteError as error:
            self._say(link, Error(message.group_id, "protocol", str(error)[:500]))
            self._charge(link, str(error))

    def _await(self, link: Channel, message: Hold | Inquiry) -> None:
        """Look for the group, or for its next epoch, on layer 1; once for all who speak of it."""
        group_id, peer = message.group_id, link.peer
        if group_id not in self._holdings and not self._promises.count(peer):
            self._say(link, Error(group_id, "unknown_group", "this witness did not promise to serve this group"))
            self._blame(link, group_id, "it names a group that was not promised")
            return
        awaited = [each.peer for waiting in self._awaited.values() for each, _ in waiting]
        if len(awaited) >= MOST_AWAITED or awaited.count(peer) >= MOST_AWAITED_EACH:
            self._say(link, Error(group_id, "busy", "too many groups are being looked for: come again"))
            return
        waiting = self._awaited.setdefault(group_id, [])
        waiting[:] = [each for each in waiting if each[0] is not link]  # its newest word is enough
        waiting.append((link, message))
        if len(waiting) == 1:
            task = asyncio.create_task(self._find(group_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _find(self, group_id: Hash) -> None:
        why, asked = "layer 1 does not show such a group, or not yet", True
        for attempt in range(LOOK_TIMES):
            if attempt:
                await asyncio.sleep(LOOK_PAUSE_S)
            try:
                async with self._looking:
                    shown = await self._look(group_id)
                if shown is not None:
                    self._take(shown)
                    break
            except Refused as error:
                why = error.message
                break
            except WedgeError as error:  # of whatever kind: who waits must be answered, or nobody looks for it again
                why, asked = f"layer 1 cannot be asked: {error}", False
        for link, message in self._awaited.pop(group_id, []):
            if group_id in self._holdings:
                self._answer(link, message)
            else:
                self._say(link, Error(group_id, "unknown_group", why[:500]))
                if asked:  # else it is nobody's fault here
                    self._blame(link, group_id, why)

    def _answer(self, link: Channel, message: GroupMessage) -> None:
        """What was said before the group was found; of a later epoch still, it is said again."""
        holding = self._holdings[message.group_id]
        later = isinstance(message, Hold) and message.certificate.header.epoch > holding.taken.origin.epoch
        if isinstance(message, Hold | Inquiry) and not later:
            self._bring(link, message)

    def _take(self, shown: Group) -> None:
        known = self._holdings.get(shown.group_id)
        if known is not None:
            self.observe(shown)
            return
        check(shown.status is not Status.CLOSED, "group_closed", "layer 1 has paid this group out")
        named = any(witness.key == self._key.public for witness in shown.agreement.witnesses)
        promised = self._promises.redeem(shown.agreement, shown.epoch) if named else None
        check(promised is not None, "not_promised", "this witness did not promise to serve this group")
        holding, effects = core.take(self._key, shown)
        self._holdings[shown.group_id] = holding
        self._perform(shown.group_id, effects, None)
        self.observe(shown)
        self.on_taken(shown.group_id)
        _log.info("group %s is served", shown.group_id.hex()[:12])

    async def _engage(self, link: Channel, agreement: GroupAgreement) -> None:
        try:
            clock_ms = await self._clock()
            ours = {"key": self._key.public, "chain_id": self._chain_id}
            judge(self._policy, agreement, **ours, peer=link.peer, clock_ms=clock_ms)
            self._check_room(link.peer, agreement, clock_ms)
        except (Refused, LedgerUnreachable) as error:
            code = error.code if isinstance(error, Refused) else "unavailable"
            self._say(link, Decline(agreement.salt[:16], code, str(error)[:500]))
            return
        promised = Promised.of(agreement, link.peer)
        self._promises.put(promised)
        self._append(encode(promised))
        self._promised.append((link, WitnessPromise(agreement.hash, sign_promise(self._key, agreement))))
        self._schedule()

    def _check_room(self, peer: PublicKey, agreement: GroupAgreement, clock_ms: int) -> None:
        self._promises.forget_opened_before(clock_ms - KEPT_MS)
        if agreement.hash in self._promises:
            return
        awaited = [each for each in self._promises if each.open_before_ms > clock_ms]
        held, most = len(self._holdings) + len(awaited), self._policy.most_groups
        check(held < most, "full", f"this witness serves {held} groups and takes {most} at most")
        own = sum(each.requester == peer for each in awaited)
        check(own < self._policy.most_promises_each, "busy", f"{own} of your openings wait for the ledger: wait too")

    def _blame(self, link: Channel, group_id: Hash, why: str) -> None:
        """Charge who names a group that it is no member of; one that was may not know yet that it has ended."""
        if not self._former.had(group_id, link.peer):
            self._charge(link, why)

    def _charge(self, link: Channel, why: str) -> None:
        if pause_s := self._conduct.charge(link.peer, asyncio.get_running_loop().time()):
            _log.warning("a wallet is cut off for %.0f s: %s", pause_s, why)
            link.cut("broke the protocol")

    # ---------------------------------------------------------------------------------------------------- the turn

    def _step(self, group_id: Hash, event: Received | LedgerSeen, link: Channel | None) -> None:
        self._holdings[group_id], effects = core.step(self._holdings[group_id], event)
        self._perform(group_id, effects, link)

    def _perform(self, group_id: Hash, effects: list[Effect], link: Channel | None) -> None:
        for effect in effects:
            if isinstance(effect, Persist):
                self._append(effect.record)
                self._schedule()
            elif self._turn is None and self.failure is None:
                self._tell(group_id, effect, link)  # all that it follows from is durable
            else:
                self._due.append((group_id, effect, link))

    def _schedule(self) -> None:
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._end_turn)

    def _append(self, record: bytes) -> None:
        try:
            self._journal.append(record)
        except LocalError as error:
            self._fail(error)

    def _end_turn(self) -> None:
        """Sync, then speak. If it cannot be made durable nothing is said, now or later."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        due, self._due = self._due, []
        promises, self._promised = self._promised, []
        if self.failure is None:
            try:
                self._journal.sync()
            except LocalError as error:
                self._fail(error)
        if self.failure is not None:
            return
        for group_id, effect, link in due:
            self._tell(group_id, effect, link)
        for link, message in promises:
            self._say(link, message)

    def _tell(self, group_id: Hash, effect: Effect, link: Channel | None) -> None:
        match effect:
            case Send(_, message):
                if link is not None:
                    self._say(link, message)
            case Submission(Report() as report):
                self.on_submission(report)
            case Finished():
                self._drop(group_id)
            case _:
                raise AssertionError(f"a witness does not {effect}")

    def _drop(self, group_id: Hash) -> None:
        if (holding := self._holdings.pop(group_id, None)) is not None:
            members = tuple(member.funding for member in holding.agreement.members)
            self._former.add(group_id, members)
            self._append(encode(Dropped(group_id, members)))
            self._schedule()
            _log.info("group %s is closed, or goes on without us", group_id.hex()[:12])

    def _fail(self, error: LocalError) -> None:
        if self.failure is None:
            self.failure = error
            self.on_failure(error)

    @staticmethod
    def _say(link: Channel, message: object) -> None:
        link.send_nowait(encode(message))

    # ------------------------------------------------------------------------------------------------------ records

    def _restore(self) -> None:
        for data in self._journal.replay():
            try:
                record: DeskRecord = decode(data, DeskRecord)  # type: ignore[arg-type]  # a union of structs
            except RemoteError as error:
                raise LocalError(f"a record in the journal of the witness does not decode: {error}") from error
            match record:
                case Promised():
                    self._promises.put(record)
                case Dropped(group_id, members):
                    self._holdings.pop(group_id, None)
                    self._former.add(group_id, members)
                case _:
                    self._replay(record)

    def _replay(self, record: HoldingRecord) -> None:
        known = self._holdings.get(record.group_id)
        holding = self._holdings[record.group_id] = core.replay(self._key, known, record)
        if known is None:
            self._promises.redeem(holding.agreement, holding.taken.origin.epoch)

    def _snapshots(self) -> Iterator[bytes]:
        for holding in self._holdings.values():
            yield core.snapshot(holding)
        for promised in self._promises:
            yield encode(promised)
        for group_id, members in self._former:
            if group_id not in self._holdings:  # it came back, with another promise
                yield encode(Dropped(group_id, members))
