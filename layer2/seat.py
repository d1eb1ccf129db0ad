"""A seat in groups that run a machine of one's own: keys, journal, links and watcher of one member, in one object.

*Safety:* the seat signs commands and states as any member does; an opening only when its user calls :meth:`Seat.sign`.

For programs that bring their own :class:`~layer2.machine.StateMachine`. Everybody makes a seat and tells the others its
`contact` and its `member` for a common salt; all sign one opening; layer 1 opens the group; each seat joins it. The
seat of the first member is the primary, and the others need no address of each other.

*Source:* docs/design/groups.md, "Objects" and rules 1 to 11; architecture.md, "The layout".
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from msgspec import structs

from layer1.client import LedgerClient
from layer1.crypto import Hash, PublicKey, Signature, SigningKey
from layer1.errors import Refused, WedgeError, check
from layer1.journal import Journal
from layer1.ledger.agreements import GroupAgreement, Member
from layer1.ledger.transactions import CloseGroup, OpenGroup, Plea, Transaction, Wedge, sign_transaction, signers
from layer1.link_server import LinkServer
from layer2 import events
from layer2.driver import Contact, GroupHost, Observer, Receipt, Waiting
from layer2.machine import Balances, StateMachine
from layer2.terms import Terms
from layer2.value import Group

LIFE_MS = 120_000
"""Of a transaction that brings something to layer 1, on the ledger clock; what still matters then is brought again."""


_log = logging.getLogger(__name__)


class Seat(Observer):
    """One member of any number of groups with one machine. An asynchronous context: links live as long as it.

    The journal keeps the history; `host.compact()` leaves of it what is needed to go on.
    """

    def __init__(self, folder: Path, key: SigningKey, chain_id: Hash, machine: StateMachine) -> None:
        """Restore what the journal in `folder` holds.

        Args:
            folder: Of this seat alone. Never go on from an old copy: it has forgotten signatures.
            key: Identity of the links; funds openings and is paid. Keys for groups are derived from it.
            chain_id: The ledger's.
            machine: What the groups replicate.

        Raises:
            LocalError: The journal is damaged, in use, or of another machine or key.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._key, self._chain_id = key, chain_id
        self._journal = Journal.open(folder / "groups.journal")
        self._unsubmitted: list[events.Payload] = []
        self._moved = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.machine = machine
        self.trouble: dict[Hash, WedgeError] = {}
        """By group, why the last look at layer 1 was in vain; no entry while all is well."""
        self.asked: dict[Hash, Terms] = {}
        """By group, the change that a member wants and that our user has not answered: `agree` or `decline`."""
        self.clock_ms = 0
        """Newest proven ledger clock."""
        self.contact = Contact(key.public)
        """Where others reach this seat, once the context is entered."""
        try:
            self.host = GroupHost(
                self._journal,
                key,
                chain_id,
                machines={machine.name: machine},
                observer=self,
                group_key=lambda agreement, _: self._group_key(agreement.salt),
            )
        except WedgeError:
            self._journal.close()
            raise

    async def __aenter__(self) -> Self:
        """Listen on a free port of 127.0.0.1, and keep links to the primaries."""
        self._server = LinkServer(self._key, self._chain_id, self._admits, self.host.attach)
        self.contact = Contact(self._key.public, "127.0.0.1", await self._server.start())
        self._tasks.append(asyncio.create_task(self.host.run()))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: Any, traceback: TracebackType | None) -> None:
        """End all links; what was signed is in the journal."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.stop()
        self.discard()

    def discard(self) -> None:
        """Close the journal of a seat whose context is not entered, or was left."""
        self._journal.close()

    # ---------------------------------------------------------------------------------------------------- opening

    def member(self, salt: bytes, deposit: int, bond: int = 0) -> Member:
        """Our part of an agreement with this salt, in minor units."""
        return Member(self._group_key(salt).public, self._key.public, self._key.public, deposit, bond)

    def sign(self, opening: Transaction, deposit: int, bond: int = 0) -> Signature:
        """Sign an opening, which locks our deposit and bond. Read the rest of its agreement first.

        Args:
            opening: As all will sign it.
            deposit: Minor units that we put in; no other amount is signed.
            bond: Minor units that we post.

        Raises:
            Refused: ``bad_opening``: it is none, of another ledger or machine, without us, or takes more from us.
        """
        payload = opening.payload
        if not isinstance(payload, OpenGroup) or payload.agreement.machine != self.machine.name:
            raise Refused("bad_opening", f"this is no opening of a group with the machine {self.machine.name}")
        agreement = payload.agreement
        check(agreement.chain_id == self._chain_id, "bad_opening", "the group would be opened on another ledger")
        ours = self.member(agreement.salt, deposit, bond)
        found = agreement.members[self._index(agreement)]
        right = found == ours
        asked, given = (found.deposit, found.bond), (deposit, bond)
        check(
            right, "bad_opening", f"our part is {asked} of deposit and bond, {given} was said, or other keys are named"
        )
        paying = sum(member.funding == self._key.public for member in agreement.members)
        check(paying == 1, "bad_opening", f"our account would pay for {paying} members; it pays for us alone")
        return sign_transaction(opening, self._chain_id, self._key)

    def join(self, agreement: GroupAgreement, group_id: Hash, contacts: Sequence[Contact]) -> None:
        """Take our seat in a group that layer 1 has opened; durable on return.

        Args:
            agreement: As layer 1 holds it.
            group_id: Layer 1's name for it.
            contacts: Of all members, in the agreement's order. Who is not the primary connects to it; were both to try,
                the second link would end the first, and what was under way on it would be pending.

        Raises:
            Refused: ``bad_opening``: we are not in it.
        """
        index, key = self._index(agreement), self._group_key(agreement.salt)
        others = {i: each if i == 0 else Contact(each.key) for i, each in enumerate(contacts) if i != index}
        self.host.add(agreement, group_id, index, key, others)

    # ------------------------------------------------------------------------------------------------------- using

    def group(self, group_id: Hash) -> Group:
        """Our side of a group."""
        return self.host.groups[group_id]

    def state(self, group_id: Hash) -> Any:
        """The machine's newest committed state."""
        return self.group(group_id).state.machine_state

    def balances(self, group_id: Hash) -> Balances:
        """Minor units per member, newest committed."""
        return self.group(group_id).state.body.balances

    async def ready(self, group_id: Hash) -> None:
        """Wait until everybody is in step, as far as this member knows."""
        await self.until(lambda: self.group(group_id).connected)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition()` holds, looking at each change of a group of this seat."""
        while not condition():
            self._moved.clear()
            await self._moved.wait()

    async def submit(self, group_id: Hash, command: bytes) -> Receipt:
        """Issue a command; on return it is committed, signed by all and durable here. Raises as `GroupHost.submit`."""
        return await self.host.submit(group_id, command)

    async def waiting(self, group_id: Hash, patience_s: float = 5.0) -> Waiting | None:
        """Whom the group waits for; None for nobody. A primary that does not answer in time is asked in vain."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                return await self.host.inquire(group_id)
        return self.host.waiting(group_id)

    async def close(self, group_id: Hash) -> CloseGroup:
        """End a group together with all others (rule 7); :meth:`watch` brings what is returned to layer 1."""
        return await self.host.close_cooperatively(group_id)

    def wedge(self, group_id: Hash) -> Wedge | Plea:
        """Stop a group and let layer 1 decide (rules 8 and 13); :meth:`watch` brings it there."""
        return self.host.wedge(group_id)

    async def change(self, group_id: Hash, terms: Terms) -> None:
        """Change a group together with all others, see `layer2.terms`; while :meth:`watch` runs. Raises as `GroupHost`.

        The others find it in `asked`. What we pay in, our key signs when :meth:`watch` brings the change to layer 1.
        """
        await self.host.change(group_id, terms, self.clock_ms)

    def agree(self, group_id: Hash) -> Terms:
        """Want the change that we were asked for, as it is in `asked`. Raises as :meth:`change`, or ``no_change``."""
        terms = self.asked.get(group_id)
        if terms is None:
            raise Refused("no_change", "nobody asks for a change of this group")
        self.host.agree(group_id, terms, self.clock_ms)
        del self.asked[group_id]
        return terms

    def decline(self, group_id: Hash, text: str) -> None:
        """Do not want the change that is talked about, or no more."""
        self.asked.pop(group_id, None)
        self.host.decline(group_id, "declined", text)

    async def watch(self, ledger: LedgerClient, every_s: float = 1.0) -> None:
        """Look after our groups on layer 1, until cancelled: answer stale reports, bring what is to be brought.

        Run it whenever money is in a group, with `every_s` far below the challenge period (rule 18). What goes wrong
        with one group stands in `trouble`, and does not keep it from looking after the others, and again.
        """
        while True:
            for group_id in [name for name, group in self.host.groups.items() if not group.closed]:
                try:
                    await self._look(ledger, group_id)
                except WedgeError as error:
                    _log.warning("group %s is not watched: %s", group_id.hex()[:12], error)
                    self.trouble[group_id] = error
                else:
                    self.trouble.pop(group_id, None)
            await asyncio.sleep(every_s)

    async def _look(self, ledger: LedgerClient, group_id: Hash) -> None:
        answer = await ledger.group(group_id)
        shown, self.clock_ms = answer.value, max(self.clock_ms, answer.header.clock)
        report = None if shown is None else self.host.observe(shown, answer.header.clock)
        payloads, self._unsubmitted = self._unsubmitted, []
        until_ms = await ledger.clock() + min(LIFE_MS, ledger.genesis.parameters.max_valid_ms)
        for payload in [*payloads, *([report] if report is not None else [])]:
            if transaction := self._wrap(payload, until_ms):
                with suppress(Refused):  # another member was faster
                    await ledger.submit(transaction)
        self._moved.set()

    def _wrap(self, payload: events.Payload, until_ms: int) -> Transaction | None:
        """With our signature, if we pay in; None if others do, who bring it then."""
        bare = Transaction(payload, until_ms, os.urandom(16))
        payers = signers(payload)
        if payers == (self._key.public,):
            return structs.replace(bare, signatures=(sign_transaction(bare, self._chain_id, self._key),))
        return None if payers else bare

    # -------------------------------------------------------------------------------------------- what the host tells

    def committed(self, group_id: Hash, event: events.Committed) -> None:
        """See :class:`~layer2.hosting.Observer`."""
        self._moved.set()

    def connected(self, group_id: Hash, member: int, up: bool) -> None:
        """See :class:`~layer2.hosting.Observer`."""
        self._moved.set()

    def change_asked(self, group_id: Hash, event: events.ChangeAsked) -> None:
        """See :class:`~layer2.hosting.Observer`."""
        self.asked[group_id] = event.terms
        self._moved.set()

    def change_ended(self, group_id: Hash, event: events.ChangeEnded) -> None:
        """See :class:`~layer2.hosting.Observer`."""
        self.asked.pop(group_id, None)
        self._moved.set()

    def epoch_began(self, group_id: Hash, event: events.EpochBegan) -> None:
        """See :class:`~layer2.hosting.Observer`."""
        self.asked.pop(group_id, None)
        self._moved.set()

    def submission(self, group_id: Hash, payload: events.Payload) -> None:
        """See :class:`~layer2.hosting.Observer`."""
        self._unsubmitted.append(payload)
        self._moved.set()

    def _admits(self, peer: PublicKey, greeting: bytes) -> bool:
        return self.host.knows(peer) and not self.host.shuts_out(peer)

    def _group_key(self, salt: bytes) -> SigningKey:
        return SigningKey(hashlib.blake2b(salt, key=self._key.seed(), digest_size=32, person=b"wedge.seat").digest())

    def _index(self, agreement: GroupAgreement) -> int:
        index = agreement.index_of(self._group_key(agreement.salt).public)
        if index is None:
            raise Refused("bad_opening", "none of its members has our key for its salt: ask for our `member` again")
        return index
