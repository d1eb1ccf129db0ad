"""Opening channels: asking a peer for one, and answering those who ask.

*Safety:* the book holds an opening durably before our funding signature can leave this process; and what we join
unasked costs us, over all channels that are live, no more than the owner accepts.

A process that ends in the middle leaves an entry in stage ``opening``. Layer 1 then tells: either the group is there,
or its absence is proven at a clock past the transaction's life span, and it never will be (`wallet.follower`). An
opening that was interrupted is not brought to layer 1 again: its owner may have asked for another meanwhile.

Source: docs/design/groups.md, "Objects"; `layer2.opening` decides what is signed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
from collections.abc import Callable

from msgspec import structs

from layer1.client import LedgerUnreachable, TransactionDead
from layer1.crypto import Hash, PublicKey, format_address
from layer1.errors import Refused, RemoteError, WedgeError, check
from layer1.ledger.agreements import GroupAgreement, Member, Witness
from layer2.engaging import verify_promise
from layer2.messages import Answer, Decline, Offer, OpeningMessage, WitnessPromise, WitnessRequest
from layer2.opening import Opening, OpeningPolicy, answer_offer, complete, make_offer, opening_of
from wallet.amounts import format_money
from wallet.book import ChannelRecord, Stage
from wallet.contacts import Contact, format_endpoint, parse_endpoint
from wallet.follower import Follower
from wallet.parts import Parts
from wallet.peers import Peers
from wallet.period import format_duration
from wallet.requests import Progress, Report

LIFE_MS = 60_000
"""On the ledger clock: for so long both deposits are promised while the ledger has not got the opening."""
ANSWER_S = 20.0
"""How long a peer may take to answer: it asks the ledger for the time and for its own balance."""
READY_S = 5.0
"""How long an open channel waits for the peer to notice, so that a payment finds it ready."""
MAX_PROMISED = 16
"""Openings that we joined and that layer 1 has not got yet."""
_log = logging.getLogger(__name__)

Sides = tuple[int, int]
"""Minor units of ours and of the peer's."""


@dataclasses.dataclass(slots=True)
class _Asked:
    """An offer of ours that waits for its answer."""

    peer: PublicKey
    offer: Offer
    answer: asyncio.Future[Answer | Decline]


@dataclasses.dataclass(slots=True)
class _Engaging:
    """A witness that was asked for its promise."""

    witness: PublicKey
    agreement: GroupAgreement
    answer: asyncio.Future[WitnessPromise | Decline]


class Openings:
    """Both sides of the negotiation."""

    def __init__(self, parts: Parts, peers: Peers, follower: Follower) -> None:
        self._parts = parts
        self._peers = peers
        self._follower = follower
        self._policy: OpeningPolicy | None = None
        self.endpoint = ""
        """Where this wallet is served, for the agreement: a peer that has only its phrase finds us there."""
        self._asked: list[_Asked] = []
        self._engaging: dict[Hash, _Engaging] = {}
        """By the agreement's hash."""
        self._tasks: dict[asyncio.Task[None], PublicKey] = {}
        """Answers that are being made, and to whom."""
        self._one_at_a_time = asyncio.Lock()
        parts.observer.on_opening = self._hear

    def accept(self, policy: OpeningPolicy | None) -> None:
        """From now on join what `policy` allows; its amounts are for all live channels together. None: nothing."""
        self._policy = policy

    def admits(self, peer: PublicKey) -> bool:
        """Whether a wallet may have a link: a peer of a channel may, a stranger only if there is something to join."""
        headship = self._parts.headship
        if peer == self._parts.keys.spending.public or (headship is not None and not headship.driver.in_force):
            return False  # a home of this wallet is no peer; and who may have been followed by another takes none
        return self._policy is not None or self.knows(peer)

    def knows(self, peer: PublicKey) -> bool:
        """Whether there is a channel with this wallet."""
        return self._parts.book.knows(peer)

    async def close(self) -> None:
        """Give up answers that are being made."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---------------------------------------------------------------------------------------------------- we ask

    async def propose(
        self,
        contact: Contact,
        deposits: Sides,
        bonds: Sides,
        period_ms: int,
        report: Report,
        *,
        witness: Contact | None = None,
        witness_timeout_ms: int = 0,
    ) -> ChannelRecord:
        """Agree with a peer, and with a witness if there is to be one, and open on layer 1.

        Raises:
            Refused: Nothing was signed, or layer 1 refused it; ``pending`` if its fate is not known yet;
                ``witness_unreachable``, ``witness_silent`` or ``witness_declined``.
            LedgerUnreachable: Nothing was signed.
            RemoteError: The peer's answer is wrong; nothing was signed.
        """
        self._check_terms(contact, deposits, bonds, period_ms)
        await self._check_funds(deposits[0] + bonds[0])
        if witness is not None:
            await self.reach_witness(witness, contact.address)
        key_index = self._parts.book.take_key_index()
        offer = structs.replace(
            await self._offer(key_index, deposits, bonds, period_ms, witness), witness_timeout_ms=witness_timeout_ms
        )
        report(Progress("asking the peer"))
        answer = await self._ask(contact, offer)
        if answer.member.funding != contact.address:
            raise RemoteError("the peer would fund the channel from another account than the contact's", answer)
        if witness is not None:
            report(Progress("asking the witness"))
            await self.engage(witness, opening_of(offer, answer.member).agreement)
        opening = complete(offer, answer, self._parts.keys.spending)
        record = self._enter(opening, 0, key_index, contact)
        self._parts.history.remember_contact(contact)
        report(Progress("waiting for the ledger"))
        record = await self._bring(record)
        report(Progress("waiting for the peer"))
        self._peers.keep()
        await self._parts.signals.until(lambda: self._ready(record), READY_S)
        return record

    def _check_terms(self, contact: Contact, deposits: Sides, bonds: Sides, period_ms: int) -> None:
        p = self._parts.genesis.parameters
        check(contact.address != self._parts.keys.spending.public, "bad_contact", "this contact is this wallet's own")
        low = min(*deposits, *bonds)
        check(low >= 0, "bad_amount", f"deposits {deposits} and bonds {bonds}: each is at least 0")
        check(sum(deposits) > 0, "bad_amount", "nobody deposits anything: there would be nothing to pay with")
        check(
            p.min_challenge_ms <= period_ms <= p.max_challenge_ms,
            "bad_challenge_period",
            f"the challenge period is {format_duration(period_ms)}; this ledger takes "
            f"{format_duration(p.min_challenge_ms)} to {format_duration(p.max_challenge_ms)}",
        )

    async def _check_funds(self, needed: int) -> None:
        proven = await self._parts.ledger.account(self._parts.keys.spending.public)
        balance = proven.value.balance
        if balance < needed:
            currency = self._parts.genesis.currency
            raise Refused(
                "insufficient_balance",
                f"deposit and bond are {format_money(needed, currency)}, the spending account has "
                f"{format_money(balance, currency)}: pay in, or ask for less",
            )

    @property
    def witnesses(self) -> frozenset[PublicKey]:
        """Whom our owner accepts as witnesses."""
        return self._policy.witnesses if self._policy is not None else frozenset()

    async def reach_witness(self, witness: Contact, peer: PublicKey) -> None:
        """Before the peer promises anything.

        Raises:
            Refused: ``bad_contact`` or ``witness_unreachable``.
        """
        ours = self._parts.keys.spending.public
        other = witness.address not in (ours, peer)
        check(other, "bad_contact", "the witness is somebody else: two of the three must not be one")
        try:
            await self._peers.reach(witness)
        except Refused as error:
            raise Refused("witness_unreachable", f"the witness: {error.message}") from None

    async def engage(self, witness: Contact, agreement: GroupAgreement) -> None:
        """Have the witness's signed promise; our signature, the last one, is not made before.

        Raises:
            Refused: ``witness_silent`` or ``witness_declined``.
        """
        asked = _Engaging(witness.address, agreement, asyncio.get_running_loop().create_future())
        self._engaging[agreement.hash] = asked
        try:
            await self._peers.say(witness, WitnessRequest(agreement))
            async with asyncio.timeout(ANSWER_S):
                said = await asked.answer
        except TimeoutError:
            raise Refused(
                "witness_silent", f"the witness did not answer within {ANSWER_S:.0f} s; nothing was signed"
            ) from None
        finally:
            del self._engaging[agreement.hash]
        if isinstance(said, Decline):
            raise Refused("witness_declined", f"the witness declined: {said.message[:500]} ({said.code[:60]})")

    def _settle_witness(self, peer: PublicKey, message: WitnessPromise | Decline) -> None:
        for asked in self._engaging.values():
            if asked.witness != peer or asked.answer.done():
                continue
            if isinstance(message, Decline):
                fits = message.salt == asked.agreement.salt
            else:
                fits = verify_promise(peer, asked.agreement, message.signature)
            if fits:
                asked.answer.set_result(message)

    async def _offer(
        self, key_index: int, deposits: Sides, bonds: Sides, period_ms: int, witness: Contact | None = None
    ) -> Offer:
        keys, genesis = self._parts.keys, self._parts.genesis
        until_ms = await self._parts.ledger.clock() + min(LIFE_MS, genesis.parameters.max_valid_ms)
        group_key = keys.group_key(key_index).public
        return make_offer(
            genesis.chain_id,
            Member(group_key, keys.spending.public, self._parts.payout, deposits[0], bonds[0], self.endpoint),
            ask_deposit=deposits[1],
            ask_bond=bonds[1],
            challenge_period_ms=period_ms,
            machine="payments/2",
            open_before_ms=until_ms + 1,
            valid_until_ms=until_ms,
            salt=os.urandom(16),
            witnesses=()
            if witness is None
            else (Witness(witness.address, format_endpoint(witness.host, witness.port)),),
        )

    async def _ask(self, contact: Contact, offer: Offer) -> Answer:
        asked = _Asked(contact.address, offer, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        try:
            await self._peers.say(contact, offer)
            async with asyncio.timeout(ANSWER_S):
                said = await asked.answer
        except TimeoutError:
            raise Refused(
                "peer_silent",
                f"the peer did not answer the offer within {ANSWER_S:.0f} s; nothing was signed, try again",
            ) from None
        finally:
            self._asked.remove(asked)
        if isinstance(said, Decline):
            raise Refused("declined", f"the peer declined: {said.message[:500]} ({said.code[:60]})")
        return said

    async def _bring(self, record: ChannelRecord) -> ChannelRecord:
        name = record.group_id.hex()[:12]
        await self._parts.settled()
        try:
            output = await self._parts.ledger.submit(record.transaction)
        except TransactionDead:
            await self._follower.look(record)
            raise Refused("expired", f"the ledger did not take channel {name} in time: nothing is locked") from None
        except LedgerUnreachable as error:
            raise Refused(
                "pending",
                f"channel {name} is signed, and whether the ledger has it is not known ({error}). "
                "`wallet channel list` tells, at the latest in a minute",
            ) from None
        if output.code != "ok":
            self._parts.book.move(record, Stage.FAILED, reason=output.code)
            raise Refused(output.code, f"the ledger refused the channel, nothing is locked: {output.message}")
        try:
            return await self._follower.look(record)
        except LedgerUnreachable as error:
            raise Refused(
                "pending",
                f"channel {name} is on the ledger, which is out of reach now ({error}): it opens here as soon as the "
                "ledger answers; do not open another",
            ) from None

    def _ready(self, record: ChannelRecord) -> bool | None:
        group = self._parts.host.groups.get(record.group_id)
        return True if group is not None and group.connected else None

    # ----------------------------------------------------------------------------------------------- we are asked

    def _hear(self, peer: PublicKey, message: OpeningMessage) -> None:
        match message:
            case Offer():
                self._take(peer, message)
            case Answer():
                self._settle(peer, message, lambda offer: _fits(offer, message))
            case Decline():
                self._settle(peer, message, lambda offer: offer.salt == message.salt)
                self._settle_witness(peer, message)
            case WitnessPromise():
                self._settle_witness(peer, message)
            case WitnessRequest():
                text = "this wallet is no witness: run `wallet witness serve` in a home of its own"
                self._parts.host.send_opening(peer, Decline(message.agreement.salt[:16], "no_witness", text))

    def _take(self, peer: PublicKey, offer: Offer) -> None:
        """Begin to answer, unless this peer waits for an answer already, or too many others do."""
        if peer in self._tasks.values() or len(self._tasks) >= MAX_PROMISED:
            text = f"{len(self._tasks)} offers wait for an answer: try again in a moment"
            self._parts.host.send_opening(peer, Decline(offer.salt, "busy", text))
            return
        task = asyncio.create_task(self._answer(peer, offer))
        self._tasks[task] = peer
        task.add_done_callback(self._tasks.pop)

    def _settle(self, peer: PublicKey, message: Answer | Decline, fits: Callable[[Offer], bool]) -> None:
        for asked in self._asked:
            if asked.peer == peer and fits(asked.offer) and not asked.answer.done():
                asked.answer.set_result(message)

    async def _answer(self, peer: PublicKey, offer: Offer) -> None:
        try:
            async with self._one_at_a_time:
                answer = await self._join(peer, offer)
            await self._parts.settled()
        except Refused as error:
            self._parts.host.send_opening(peer, Decline(offer.salt, error.code, error.message))
        except (WedgeError, OSError) as error:
            _log.warning("an offer could not be answered: %s", error)
            self._parts.host.send_opening(
                peer, Decline(offer.salt, "unavailable", "it cannot join now: try again later")
            )
        else:
            self._parts.host.send_opening(peer, answer)
            self._follower.nudge()

    async def _join(self, peer: PublicKey, offer: Offer) -> Answer:
        """Sign an opening that the owner accepts beforehand; it is in the book on return."""
        policy = self._remaining()
        check(
            offer.proposer.funding == peer, "wrong_funding", "the initiator must fund from the account it is known by"
        )
        self._check_asked("deposit", offer.deposit, policy.accept_deposit_up_to_units)
        self._check_asked("bond", offer.bond, policy.accept_bond_up_to_units)
        await self._check_funds(offer.deposit + offer.bond)
        key_index = self._parts.book.take_key_index()
        answer, opening = answer_offer(
            offer,
            policy,
            chain_id=self._parts.genesis.chain_id,
            clock_ms=await self._parts.ledger.clock(),
            key=self._parts.keys.group_key(key_index).public,
            funding=self._parts.keys.spending,
            payout=self._parts.payout,
            contact=self.endpoint,
        )
        known = self._parts.history.endpoint_of(peer)
        host, port = parse_endpoint(known) if known else ("", 0)
        self._enter(opening, 1, key_index, Contact(peer, host, port))
        return answer

    def _check_asked(self, what: str, units: int, most: int) -> None:
        currency = self._parts.genesis.currency
        check(
            units <= most,
            "policy",
            f"a {what} of {format_money(units, currency)} is asked, this wallet accepts {format_money(most, currency)} "
            "at most",
        )

    def _remaining(self) -> OpeningPolicy:
        """What the owner accepts, less what joined channels hold already."""
        if self._policy is None:
            raise Refused("not_accepting", "this wallet joins no channels: its owner serves it without accepting any")
        joined = [record for record in self._parts.book.live() if record.index == 1]
        promised = sum(record.stage is Stage.OPENING for record in joined)
        check(promised < MAX_PROMISED, "busy", f"{promised} openings wait for the ledger: try again in a minute")
        deposits, bonds = sum(r.me.deposit for r in joined), sum(r.me.bond for r in joined)
        return dataclasses.replace(
            self._policy,
            accept_deposit_up_to_units=max(self._policy.accept_deposit_up_to_units - deposits, 0),
            accept_bond_up_to_units=max(self._policy.accept_bond_up_to_units - bonds, 0),
        )

    def _enter(self, opening: Opening, index: int, key_index: int, contact: Contact) -> ChannelRecord:
        record = ChannelRecord(opening.transaction, index, key_index, contact.address, contact.host, contact.port)
        self._parts.book.put(record)
        who = "us" if index == 0 else format_address(contact.address)
        _log.info("channel %s is being opened by %s", record.group_id.hex()[:12], who)
        return record


def _fits(offer: Offer, answer: Answer) -> bool:
    return opening_of(offer, answer.member).agreement.hash == answer.agreement_hash
